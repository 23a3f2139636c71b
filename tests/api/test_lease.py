"""The Lease service over a fake node: what is granted, what is left, what is refused."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from google.protobuf.message import Message

from chainfire.api import lease as lease_api
from chainfire.api.table import METHODS
from chainfire.errors import (
    LeaseExists,
    LeaseNotFound,
    LeaseTtlTooLarge,
    NoSpace,
    RequestError,
    Timeout,
)
from chainfire.lease import UNWRITTEN
from chainfire.lease.spare import spare_ms
from chainfire.proto.kv_pb2 import (
    LINEARIZABLE,
    Compare,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    RangeResponse,
    RequestOp,
    TxnRequest,
)
from chainfire.proto.lease_pb2 import (
    LeaseGrantRequest,
    LeaseGrantResponse,
    LeaseKeepAliveRequest,
    LeaseKeepAliveResponse,
    LeaseLeasesRequest,
    LeaseLeasesResponse,
    LeaseRevokeRequest,
    LeaseRevokeResponse,
    LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
)
from chainfire.proto.maintenance_pb2 import NOSPACE
from chainfire.types import Alarm, Pending, RenewResult
from tests.api.fake_node import MEMBER_ID, Api
from tests.api.streams import ProbeStream

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


class LeaseApi(Api):
    def grant(self, lease: int = 5, ttl: int = 60, **fields: int) -> LeaseGrantResponse:
        request = LeaseGrantRequest(ID=lease, TTL=ttl, **fields)
        return cast(LeaseGrantResponse, self.do("Lease.LeaseGrant", request))

    def put(self, key: bytes, lease: int = 5) -> object:
        return self.do("KV.Put", PutRequest(key=key, lease=lease))

    def time_to_live(self, lease: int = 5, *, keys: bool = False) -> LeaseTimeToLiveResponse:
        request = LeaseTimeToLiveRequest(ID=lease, keys=keys)
        return cast(LeaseTimeToLiveResponse, self.do("Lease.LeaseTimeToLive", request))

    def leases(self) -> list[int]:
        reply = cast(LeaseLeasesResponse, self.do("Lease.LeaseLeases", LeaseLeasesRequest()))
        return [status.ID for status in reply.leases]

    def keep_alive(self, *leases: int) -> list[LeaseKeepAliveResponse]:
        requests = [LeaseKeepAliveRequest(ID=lease).SerializeToString() for lease in leases]
        stream = ProbeStream(requests)
        handler = METHODS["/etcdserverpb.Lease/LeaseKeepAlive"].stream
        assert handler is not None
        asyncio.run(handler(self.services, stream))  # type: ignore[arg-type]
        return [LeaseKeepAliveResponse.FromString(body) for body in stream.sent]


@pytest.fixture
def api() -> LeaseApi:
    return LeaseApi()


def without_header(reply: Message) -> Message:
    reply.ClearField("header")
    return reply


# ── LeaseGrant ──────────────────────────────────────────────────────────────


def test_a_grant_says_what_was_granted(api: LeaseApi) -> None:
    reply = api.grant(5, 60)
    assert (reply.header.member_id, reply.header.revision) == (MEMBER_ID, 1)
    assert without_header(reply) == LeaseGrantResponse(ID=5, TTL=60, TTL_ms=60_000)


def test_without_an_id_the_member_chooses_a_positive_one(api: LeaseApi) -> None:
    ids = {api.grant(0).ID for _ in range(50)}
    assert len(ids) == 50
    assert min(ids) > 0


@pytest.mark.parametrize("ttl", [INT64_MIN, -1, 0, 1])
def test_a_short_ttl_becomes_the_least(api: LeaseApi, ttl: int) -> None:
    assert api.grant(5, ttl).TTL == 2


@pytest.mark.parametrize("lease", [INT64_MIN, -1, 1, INT64_MAX])
def test_every_id_but_zero_can_be_chosen_once(api: LeaseApi, lease: int) -> None:
    assert lease == api.grant(lease).ID
    assert isinstance(api.grant(lease), LeaseExists)
    assert api.leases() == [lease]


def test_ttls_end_somewhere(api: LeaseApi) -> None:
    assert api.grant(5, 9_000_000_000).TTL == 9_000_000_000
    for request in (
        LeaseGrantRequest(ID=6, TTL=9_000_000_001),
        LeaseGrantRequest(ID=6, TTL=INT64_MAX),
        LeaseGrantRequest(ID=6, TTL_ms=INT64_MAX),
        LeaseGrantRequest(ID=5, TTL=INT64_MAX),  # and that before whether it exists
    ):
        assert isinstance(api.do("Lease.LeaseGrant", request), LeaseTtlTooLarge)


def test_milliseconds_have_a_minimum_of_their_own(api: LeaseApi) -> None:
    assert without_header(api.grant(5, 0, TTL_ms=250)) == LeaseGrantResponse(
        ID=5,
        TTL=1,  # not 0, which would say that it is gone
        TTL_ms=250,
    )
    assert api.grant(6, 0, TTL_ms=-7).TTL_ms == lease_api.TTL_MS_MIN


def test_over_quota_nothing_is_granted() -> None:
    api = LeaseApi(quota_bytes=100)
    assert api.grant(5).ID == 5
    assert isinstance(api.grant(6), NoSpace)
    assert Alarm(MEMBER_ID, NOSPACE) in api.node.machine.alarms
    assert isinstance(api.grant(7), NoSpace)
    assert isinstance(api.do("Lease.LeaseRevoke", LeaseRevokeRequest(ID=5)), LeaseRevokeResponse)


def test_far_below_the_quota_a_grant_does_not_have_what_was_answered_applied(
    api: LeaseApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(*_: object) -> bool:
        raise AssertionError("looked at the state")

    monkeypatch.setattr(lease_api, "over_quota", look)
    assert api.grant(5).ID == 5


# ── LeaseRevoke, and what happens to keys ───────────────────────────────────


def keys(api: Api) -> list[bytes]:
    request = RangeRequest(key=b"\0", range_end=b"\0")
    return [kv.key for kv in cast(RangeResponse, api.do("KV.Range", request)).kvs]


def test_keys_go_with_their_lease(api: LeaseApi) -> None:
    api.grant()
    for key in (b"b", b"a"):
        api.put(key)
    api.put(b"c", 0)
    reply = cast(LeaseRevokeResponse, api.do("Lease.LeaseRevoke", LeaseRevokeRequest(ID=5)))
    assert reply.header.revision == 5
    assert keys(api) == [b"c"]
    assert isinstance(api.do("Lease.LeaseRevoke", LeaseRevokeRequest(ID=5)), LeaseNotFound)
    assert isinstance(api.put(b"d"), LeaseNotFound)


def test_a_transaction_sees_and_sets_leases(api: LeaseApi) -> None:
    api.grant(5)
    api.put(b"k", 5)
    request = TxnRequest(
        compare=[Compare(key=b"k", target=Compare.LEASE, lease=5)],
        success=[
            RequestOp(request_put=PutRequest(key=b"new", lease=5)),
            RequestOp(request_delete_range=DeleteRangeRequest(key=b"k")),
        ],
    )
    assert api.do("KV.Txn", request).succeeded  # type: ignore[attr-defined]
    assert list(api.time_to_live(keys=True).keys) == [b"new"]


# ── LeaseTimeToLive ─────────────────────────────────────────────────────────


def test_what_is_left_is_whole_seconds_and_milliseconds(api: LeaseApi) -> None:
    api.grant(5, 60)
    api.node.lease_clock_ms = 10_001
    assert without_header(api.time_to_live()) == LeaseTimeToLiveResponse(
        ID=5, TTL=49, grantedTTL=60, TTL_ms=49_999, grantedTTL_ms=60_000
    )
    assert api.node.levels == [LINEARIZABLE]


def test_what_is_over_but_not_ended_has_nothing_left(api: LeaseApi) -> None:
    api.grant(5, 60)
    api.node.lease_clock_ms = 60_100
    assert (api.time_to_live().TTL, api.time_to_live().grantedTTL) == (0, 60)


def test_an_unknown_lease_has_minus_one_left(api: LeaseApi) -> None:
    reply = api.time_to_live(77, keys=True)
    assert reply.header.revision == 1
    assert without_header(reply) == LeaseTimeToLiveResponse(ID=77, TTL=-1)


def test_keys_are_listed_in_order_if_asked_for(api: LeaseApi) -> None:
    api.grant()
    expected = sorted(b"k%d" % n for n in range(1200))
    for key in expected:
        api.put(key)
    assert list(api.time_to_live(keys=True).keys) == expected
    assert list(api.time_to_live().keys) == []


# ── LeaseLeases ─────────────────────────────────────────────────────────────


def test_leases_are_listed_by_when_they_end(api: LeaseApi) -> None:
    for lease, ttl in ((1, 300), (-2, 100), (3, 200)):
        api.grant(lease, ttl)
    assert api.leases() == [-2, 3, 1]
    api.node.lease_clock_ms = 250_000
    api.keep_alive(-2)
    assert api.leases() == [3, 1, -2]


def test_no_leases_are_an_empty_list(api: LeaseApi) -> None:
    assert api.leases() == []


# ── LeaseKeepAlive ──────────────────────────────────────────────────────────


def test_a_keep_alive_lets_the_ttl_begin_anew(api: LeaseApi) -> None:
    api.grant(5, 60)
    api.node.lease_clock_ms = 30_000
    [reply] = api.keep_alive(5)
    assert reply.header.revision == 1
    assert without_header(reply) == LeaseKeepAliveResponse(ID=5, TTL=60, TTL_ms=60_000)
    assert api.time_to_live().TTL == 60


def test_keep_alives_are_answered_in_order_and_dead_leases_with_zero(api: LeaseApi) -> None:
    api.grant(5, 60)
    api.grant(6, 2)
    api.node.lease_clock_ms = 3000
    api.node.expire(6)
    replies = api.keep_alive(5, 6, 0, -1, 5)
    assert [(reply.ID, reply.TTL) for reply in replies] == [
        (5, 60),
        (6, 0),
        (0, 0),
        (-1, 0),
        (5, 60),
    ]


def test_what_a_stream_asks_for_in_one_turn_is_one_renewal_answered_in_order(
    api: LeaseApi,
) -> None:
    asked: list[tuple[list[int], Pending]] = []
    services = api.services
    api.node.renew = lambda ids, pending: asked.append((ids, pending))  # type: ignore[method-assign, assignment, misc]
    stream = ProbeStream([LeaseKeepAliveRequest(ID=i).SerializeToString() for i in (5, 6, 5)])

    async def run() -> None:
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            group.create_task(lease_api.keep_alive(services, stream))  # type: ignore[arg-type]
            await stream.all_heard.wait()
            await asyncio.sleep(0)
            [(ids, pending)] = asked
            assert (ids, stream.sent) == ([5, 6, 5], [])
            pending.done(RenewResult(9, [1000, 0, 3000]))

    asyncio.run(run())
    replies = [LeaseKeepAliveResponse.FromString(body) for body in stream.sent]
    assert [(reply.ID, reply.TTL) for reply in replies] == [(5, 1), (6, 0), (5, 3)]


def test_what_is_kept_is_answered_at_once_but_overtakes_nothing_on_its_stream(
    api: LeaseApi,
) -> None:
    services, asked = api.services, list[Pending]()
    kept = {5: 1000, 6: UNWRITTEN}
    api.node.kept = lambda ids: RenewResult(3, [kept[lease] for lease in ids])  # type: ignore[method-assign]
    api.node.renew = lambda ids, pending: asked.append(pending)  # type: ignore[method-assign, assignment, misc]
    bodies = {i: LeaseKeepAliveRequest(ID=i).SerializeToString() for i in (5, 6)}
    streams = [ProbeStream([bodies[i] for i in ids]) for ids in ((5, 6, 5), (5, 5))]

    async def run() -> None:
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            for stream in streams:
                group.create_task(lease_api.keep_alive(services, stream))  # type: ignore[arg-type]
                await stream.all_heard.wait()
            await asyncio.sleep(0)
            assert [len(stream.sent) for stream in streams] == [1, 2]
            asked[0].done(RenewResult(9, [2000, 1000]))

    asyncio.run(run())
    [first, second] = [[LeaseKeepAliveResponse.FromString(b) for b in s.sent] for s in streams]
    assert [(reply.ID, reply.TTL, reply.header.revision) for reply in first] == [
        (5, 1, 3),
        (6, 2, 9),
        (5, 1, 9),
    ]
    assert [reply.ID for reply in second] == [5, 5]


def test_a_keep_alive_that_cannot_be_replicated_ends_the_stream(api: LeaseApi) -> None:
    api.grant(5)
    api.node.refusal = Timeout()
    with pytest.raises(Timeout):
        api.keep_alive(5)


def test_an_expired_leases_keys_are_gone(api: LeaseApi) -> None:
    api.grant(5, 2)
    api.put(b"k")
    api.node.lease_clock_ms = 1999 + spare_ms(2000)
    api.node.expire(5)
    assert keys(api) == [b"k"]
    api.node.lease_clock_ms += 1
    api.node.expire(5)
    assert keys(api) == []


# ── bad input ───────────────────────────────────────────────────────────────


@pytest.mark.parametrize("method", ["LeaseGrant", "LeaseRevoke", "LeaseTimeToLive", "LeaseLeases"])
def test_bytes_that_are_no_message_are_refused(api: LeaseApi, method: str) -> None:
    answer = api.do(f"Lease.{method}", b"\xff\xff\xff")
    assert isinstance(answer, RequestError)
    assert api.node.proposed == []


def test_both_names_answer(api: LeaseApi) -> None:
    request = LeaseGrantRequest(ID=5, TTL=60)
    call = api.start("/chainfire.v1.Lease/LeaseGrant", request)
    assert LeaseGrantResponse.FromString(call.answers[0]).ID == 5
