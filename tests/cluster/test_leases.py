"""Leases, locks and elections of three real members, whose leader is killed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from chainfire.client import connect_sync
from chainfire.client.leasing import Held
from tests.clusters import Cluster
from tests.peers import need_chainfire

STAMP_SECONDS = 1.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(need_chainfire(), tmp_path_factory.mktemp("leases")) as made:
        yield made.start()


def urls(cluster: Cluster) -> str:
    return ",".join(member.url for member in cluster.members)


def replace_leader(cluster: Cluster) -> None:
    """Kill it, wait until another one leads, and start it again."""
    old = cluster.leader()
    old.kill()
    with connect_sync([m.url for m in cluster.members if m is not old], timeout=30) as client:
        client.put("there", "is a leader")
    old.start()


def test_what_is_left_of_a_lease_survives_two_changes_of_leader(cluster: Cluster) -> None:
    with connect_sync(urls(cluster), timeout=30) as client:
        lease = client.grant(60).id
        client.put("kept", "v", lease=lease)
        while client.lease_status(lease).left_seconds > 56:
            time.sleep(0.05)
        before, asked_at = client.lease_status(lease).left_seconds, time.monotonic()
        for _ in range(2):
            replace_leader(cluster)
        after = client.lease_status(lease, keys=True)
        elapsed = time.monotonic() - asked_at
        assert after.keys == (b"kept",)
        assert after.left_seconds >= before - elapsed - STAMP_SECONDS
        assert after.left_seconds <= before + 2 * STAMP_SECONDS  # etcd would begin anew
        client.revoke(lease)


def test_a_short_lease_ends_after_its_leader_was_killed(cluster: Cluster) -> None:
    with connect_sync(urls(cluster), timeout=30) as client:
        granted_at = time.monotonic()
        lease = client.grant(3).id
        client.put("short", "v", lease=lease)
        replace_leader(cluster)
        while client.get("short") is not None:
            assert time.monotonic() < granted_at + 90
            time.sleep(0.02)
        assert time.monotonic() >= granted_at + 3


def test_keep_alives_at_every_member_count(cluster: Cluster) -> None:
    with connect_sync(urls(cluster), timeout=30) as client:
        lease = client.grant(60).id
        for member in cluster.members:
            with connect_sync(member.url, timeout=30) as at_member:
                while at_member.lease_status(lease).left_seconds > 59.5:
                    time.sleep(0.05)
                assert at_member.keep_alive(lease) == 60
                assert at_member.lease_status(lease).left_seconds > 59
        client.revoke(lease)


def test_a_session_outlives_its_leader_and_keeps_its_lock(cluster: Cluster) -> None:
    with (
        connect_sync(urls(cluster), timeout=30) as client,
        client.session(ttl=20) as session,
        session.lock("cluster") as held,
    ):
        replace_leader(cluster)
        assert not session.is_lost
        kept = client.get(held.key)
        assert kept is not None
        assert kept.create_revision == held.revision


def test_a_lock_is_handed_over_between_members(cluster: Cluster) -> None:
    first, second, _ = cluster.members
    with (
        connect_sync(first.url, timeout=30) as one,
        connect_sync(second.url, timeout=30) as two,
        one.session() as holder,
        two.session() as waiter,
    ):
        lock = holder.lock("over")
        held = lock.acquire()
        later: list[Held] = []
        waiting = threading.Thread(target=lambda: later.append(waiter.lock("over").acquire()))
        waiting.start()
        while one.get_prefix("over/").count < 2:
            assert not later
            time.sleep(0.02)
        lock.release()
        waiting.join(30)
        assert later
        assert later[0].revision > held.revision
