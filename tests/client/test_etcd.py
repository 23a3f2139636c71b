"""Both faces of the client against a real etcd; failover over live, dead and silent endpoints."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Iterator

import pytest

from chainfire import errors
from chainfire.client import OutcomeUnknown, SyncClient, TimedOut, Unreachable, connect, txn
from chainfire.client import connect_sync as connect_blocking
from tests.servers import Server, free_port


@pytest.fixture
def client(etcd: Server) -> Iterator[SyncClient]:
    with connect_blocking(etcd.url) as client:
        client.delete_prefix("")
        yield client


@pytest.fixture
def silent() -> Iterator[str]:
    """Accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_put_get_delete(client: SyncClient) -> None:
    assert client.get("k") is None
    first = client.put("k", "1")
    second = client.put("k", b"\xff", previous=True)
    assert second.revision == first.revision + 1
    assert second.previous is not None
    assert second.previous.text() == "1"
    kv = client.get("k")
    assert kv is not None
    assert (kv.value, kv.version, kv.mod_revision) == (b"\xff", 2, second.revision)
    old = client.get("k", revision=first.revision)
    assert old is not None
    assert old.value == b"1"
    assert client.delete("k", previous=True).previous == (kv,)
    assert client.delete("k").deleted == 0


def test_prefix_reads_with_limit(client: SyncClient) -> None:
    for name in ("a/1", "a/2", "a/3", "b"):
        client.put(name, name)
    page = client.get_prefix("a/", limit=2)
    assert [kv.key for kv in page.kvs] == [b"a/1", b"a/2"]
    assert (page.count, page.more) == (3, True)
    assert client.delete_prefix("a/").deleted == 3


def test_a_scan_shows_one_revision_though_keys_change_meanwhile(client: SyncClient) -> None:
    for number in range(7):
        client.put(f"s/{number}", "old")
    seen = []
    for page in client.scan("s/", page_size=3):
        client.put("s/6", "new")
        client.put("s/9", "new")
        seen += [(kv.key, kv.value) for kv in page.kvs]
    assert seen == [(b"s/%d" % number, b"old") for number in range(7)]


def test_a_scan_of_nothing_has_no_pages(client: SyncClient) -> None:
    assert list(client.scan("nothing/")) == []


def test_cas_tells_current_and_new_versions(client: SyncClient) -> None:
    created = client.cas("c", "1", expect_absent=True)
    assert (created.succeeded, created.current_version, created.new_version) == (True, 0, 1)
    refused = client.cas("c", "2", expect_absent=True)
    assert (refused.succeeded, refused.current_version, refused.new_version) == (False, 1, 1)
    assert client.cas("c", "2", expect=client.get("c")).new_version == 2
    assert client.cas("c", "3", expect_value="2").new_version == 3
    assert not client.cas("c", "4", expect_version=2).succeeded
    assert client.get("c").value == b"3"  # type: ignore[union-attr]


def test_a_transaction_takes_one_branch_and_nests(client: SyncClient) -> None:
    """Comparisons look at what was there before, reads at what was written meanwhile."""
    outcome = client.txn(
        [txn.version("t") == 0],
        [txn.Put("t", "1"), txn.Txn([txn.version("t") == 0], [txn.Get("t")])],
        [txn.Get("t")],
    )
    assert outcome.succeeded
    inner = outcome.results[1]
    assert inner.results[0].kvs[0].value == b"1"  # type: ignore[union-attr]
    assert not client.txn([txn.version("t") == 0], [], [txn.Get("t")]).succeeded


def test_errors_are_typed_by_their_text(client: SyncClient) -> None:
    revision = client.put("e", "1").revision
    with pytest.raises(errors.FutureRevision):
        client.get("e", revision=revision + 100)
    client.put("e", "2")
    client.compact(revision + 1, physical=True)
    with pytest.raises(errors.Compacted):
        client.get("e", revision=revision)
    with pytest.raises(errors.EmptyKey):
        client.put("", "1")
    with pytest.raises(errors.LeaseNotFound):
        client.put("e", "1", lease=77)


def test_status_tells_about_the_member(client: SyncClient, etcd: Server) -> None:
    status = client.status()
    assert status.is_leader
    assert etcd.kind.name == f"etcd {status.version}"
    assert client.status(etcd.url).member_id == status.member_id


def test_a_dead_endpoint_is_passed_over_by_reads_and_writes(etcd: Server) -> None:
    dead = f"127.0.0.1:{free_port()}"
    with connect_blocking([dead, etcd.url]) as client:
        client.put("f", "1")
        assert client.get("f") is not None


def test_a_silent_endpoint_costs_the_dial_timeout_once(etcd: Server, silent: str) -> None:
    with connect_blocking([silent, etcd.url], dial_timeout=0.2) as client:
        client.put("f", "1")
        begun = time.monotonic()
        assert client.get("f") is not None
        assert time.monotonic() - begun < 0.2


def test_without_a_server_the_error_says_so_at_once() -> None:
    port = free_port()
    with connect_blocking(f"127.0.0.1:{port}") as client:
        begun = time.monotonic()
        with pytest.raises(Unreachable, match=str(port)):
            client.put("k", "v")
        assert time.monotonic() - begun < 2


def test_a_write_whose_answer_is_lost_is_reported_as_unknown(etcd: Server) -> None:
    """The server is stopped between request and answer; nothing is sent a second time."""
    with connect_blocking(etcd.url, timeout=0.4) as client:
        client.get("u")
        os.kill(etcd.pid, signal.SIGSTOP)
        try:
            with pytest.raises(OutcomeUnknown):
                client.put("u", "1")
            with pytest.raises(TimedOut):
                client.get("u")
        finally:
            os.kill(etcd.pid, signal.SIGCONT)


def test_the_async_face_answers_many_calls_at_once(etcd: Server) -> None:
    async def run() -> list[bytes]:
        async with connect(etcd.url) as client:
            await asyncio.gather(*(client.put(f"m/{n:02}", str(n)) for n in range(50)))
            return [kv.value async for page in client.scan("m/") for kv in page.kvs]

    assert asyncio.run(run()) == [str(n).encode() for n in range(50)]


def test_cancelling_a_call_leaves_the_client_usable(etcd: Server, silent: str) -> None:
    async def run() -> bool:
        async with connect([silent], dial_timeout=5) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await client.get("k")
        async with connect(etcd.url) as client:
            task = asyncio.create_task(client.get("k"))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await client.put("k", "v")
            return await client.get("k") is not None

    assert asyncio.run(run())


def test_closing_twice_is_harmless(etcd: Server) -> None:
    client = connect_blocking(etcd.url)
    client.put("k", "v")
    client.close()
    client.close()
