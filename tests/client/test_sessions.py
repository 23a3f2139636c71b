"""Leases, sessions, locks and elections from Python, on Chainfire and on etcd."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from chainfire.client import Client, Session, SyncClient, Unreachable, connect, connect_sync
from chainfire.client.calls import Call
from chainfire.errors import LeaseExists, LeaseNotFound, NotElected, SessionExpired
from chainfire.proto import lease_pb2
from tests.peers import need_chainfire, need_kind
from tests.servers import Server, etcds
from tests.waiting import until

SECONDS = 20


@pytest.fixture(scope="module", params=["chainfire", "etcd"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    if request.param == "chainfire":
        kind = need_chainfire()
    else:
        kind = need_kind(next(iter(etcds()), None), "etcd")
    with Server(kind, tmp_path_factory.mktemp(request.param) / "data") as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[SyncClient]:
    with connect_sync(server.url) as client:
        client.delete_prefix("")
        for lease in client.leases():
            client.revoke(lease)
        yield client


# ── leases ──────────────────────────────────────────────────────────────────


def test_the_life_of_a_lease(client: SyncClient) -> None:
    lease = client.grant(100)
    assert lease.ttl_seconds == 100
    assert client.leases() == (lease.id,)
    client.put("k", "v", lease=lease.id)
    status = client.lease_status(lease.id, keys=True)
    assert status.exists
    assert (status.granted_seconds, status.keys) == (100, (b"k",))
    assert 90 < status.left_seconds <= 100
    assert client.keep_alive(lease.id) == 100
    client.revoke(lease.id)
    assert client.get("k") is None
    assert client.keep_alive(lease.id) == 0
    assert not client.lease_status(lease.id).exists
    with pytest.raises(LeaseNotFound):
        client.revoke(lease.id)


def test_a_chosen_id_is_taken_once(client: SyncClient) -> None:
    assert client.grant(100, lease=-7).id == -7
    with pytest.raises(LeaseExists):
        client.grant(100, lease=-7)


def test_parts_of_a_second_are_granted_where_the_server_knows_them(
    client: SyncClient, server: Server
) -> None:
    granted = client.grant(2.5)
    assert granted.ttl_seconds == (2.5 if server.kind.is_chainfire else 3)


# ── sessions ────────────────────────────────────────────────────────────────


def test_a_session_outlives_its_ttl_and_ends_with_its_block(client: SyncClient) -> None:
    with client.session(ttl=2) as session:
        client.put("k", "v", lease=session.lease)
        time.sleep(4)  # no condition to wait for: nothing is to happen
        assert not session.is_lost
        assert client.get("k") is not None
    assert client.get("k") is None
    assert client.leases() == ()


def test_a_session_whose_lease_is_revoked_is_lost(client: SyncClient) -> None:
    with client.session(ttl=2) as session:
        client.revoke(session.lease)
        session.until_lost()
        with pytest.raises(SessionExpired):
            session.lock("l").acquire()


class DeadCluster:
    """Grants, and is never heard of again."""

    async def call(self, call: Call[Any], *, within: float | None = None) -> Any:
        if isinstance(call.request, lease_pb2.LeaseGrantRequest):
            return lease_pb2.LeaseGrantResponse(ID=5, TTL_ms=200)
        raise Unreachable("nobody there")


def test_a_session_that_cannot_be_renewed_is_lost_when_its_ttl_is_over() -> None:
    async def scene() -> None:
        asked_at = time.monotonic()
        async with asyncio.timeout(SECONDS), Session(DeadCluster(), 0.2) as session:
            assert not session.is_lost
            await session.until_lost()
            assert time.monotonic() - asked_at >= 0.19

    asyncio.run(scene())


# ── locks ───────────────────────────────────────────────────────────────────


def test_one_session_at_a_time_has_the_lock(client: SyncClient) -> None:
    tokens, inside = [], []

    def work() -> None:
        with client.session() as session, session.lock("l") as held:
            inside.append(held)
            assert len(inside) == 1
            tokens.append(held.revision)
            inside.remove(held)

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert len(tokens) == 5
    assert client.get_prefix("l/").kvs == ()


def test_who_waits_has_it_when_the_holders_session_ends(client: SyncClient) -> None:
    with client.session() as first, client.session() as second:
        held = first.lock("l").acquire()
        later: list[Any] = []
        waiting = threading.Thread(target=lambda: later.append(second.lock("l").acquire()))
        waiting.start()
        until(lambda: client.get_prefix("l/").count == 2)
        assert not later
        first.close()
        waiting.join(SECONDS)
        assert later[0].revision > held.revision


def test_who_waits_with_a_revoked_lease_never_has_it(client: SyncClient) -> None:
    with client.session() as first, client.session(ttl=5) as second:
        lock = first.lock("l")
        lock.acquire()
        failed: list[Exception] = []

        def wait() -> None:
            try:
                second.lock("l").acquire()
            except SessionExpired as error:
                failed.append(error)

        waiting = threading.Thread(target=wait)
        waiting.start()
        until(lambda: client.get_prefix("l/").count == 2)
        client.revoke(second.lease)
        lock.release()
        waiting.join(SECONDS)
        assert failed
        assert client.get_prefix("l/").kvs == ()


async def keys(client: Client, count: int) -> None:
    """Until the line is so long."""
    while (await client.get_prefix("c/")).count != count:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def test_a_cancelled_waiter_leaves_no_key(server: Server) -> None:
    async def scene() -> None:
        async with (
            asyncio.timeout(SECONDS),
            connect(server.url) as client,
            client.session() as one,
            client.session() as two,
        ):
            async with one.lock("c"):
                waiting = asyncio.ensure_future(two.lock("c").acquire())
                await keys(client, 2)
                waiting.cancel()
                await keys(client, 1)
            async with two.lock("c") as held:
                assert held.lease == two.lease

    asyncio.run(scene())


# ── elections ───────────────────────────────────────────────────────────────


def test_an_election_from_campaign_to_resignation(client: SyncClient) -> None:
    assert client.leader("e") is None
    with client.session() as one, client.session() as two:
        first = one.elect("e", "one")
        first.campaign()
        later: list[Any] = []
        candidate = two.elect("e", "two")
        waiting = threading.Thread(target=lambda: later.append(candidate.campaign()))
        waiting.start()
        until(lambda: client.get_prefix("e/").count == 2)
        first.proclaim("still one")
        leader = client.leader("e")
        assert leader is not None
        assert (leader.key, leader.text()) == (first.held.key, "still one")
        key = first.held.key
        first.resign()
        waiting.join(SECONDS)
        assert later[0].key != key
        leader = client.leader("e")
        assert leader is not None
        assert leader.text() == "two"


def test_a_leader_without_a_session_leads_no_more(client: SyncClient) -> None:
    with client.session() as session, session.elect("e", "me") as leadership:
        client.delete_prefix("e/")
        with pytest.raises(NotElected):
            leadership.proclaim("still me")
