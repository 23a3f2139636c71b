"""Leases of a killed process: what is left of them is what was left, and they end all the same."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chainfire.client import SyncClient, connect_sync
from tests.peers import need_chainfire
from tests.servers import Server

STAMP_SECONDS = 1.0  # the clock of the last life is known to so much


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(need_chainfire(), tmp_path / "data") as running:
        yield running


def left(client: SyncClient, lease: int) -> float:
    return client.lease_status(lease).left_seconds


def test_what_is_left_survives_a_kill_and_the_time_down_does_not_count(server: Server) -> None:
    with connect_sync(server.url) as client:
        lease = client.grant(60).id
        client.put("k", "v", lease=lease)
        while left(client, lease) > 56.5:
            time.sleep(0.05)
        before, asked_at = left(client, lease), time.monotonic()
        server.kill()
        time.sleep(1.5)  # a lease does not run while nobody leads
        server.start()
        after = left(client, lease)
        assert after > before - (time.monotonic() - asked_at)  # some of it did not count
        assert after <= before + STAMP_SECONDS  # and it did not begin anew
    with connect_sync(server.url) as client:
        assert client.lease_status(lease, keys=True).keys == (b"k",)


def test_a_lease_that_was_granted_before_a_kill_ends_after_it(server: Server) -> None:
    with connect_sync(server.url) as client:
        granted_at = time.monotonic()
        lease = client.grant(2).id
        client.put("k", "v", lease=lease)
        server.kill()
        server.start()
        while client.get("k") is not None:
            assert time.monotonic() < granted_at + 60
            time.sleep(0.02)
        assert time.monotonic() - granted_at >= 2
        assert client.leases() == ()


@pytest.mark.lone
def test_renewals_before_a_kill_count(server: Server) -> None:
    with connect_sync(server.url) as client:
        lease = client.grant(60).id
        while left(client, lease) > 58.5:
            time.sleep(0.05)
        client.keep_alive(lease)
        server.kill()
        server.start()
        assert left(client, lease) > 58.5
