"""While an alarm is on, what may add something is refused before the log, and nothing else is."""

from __future__ import annotations

import asyncio

import pytest
from google.protobuf.message import Message

from chainfire import errors
from chainfire.api.awaiting import propose_growth
from chainfire.command import CommandKind
from chainfire.proto.command_pb2 import LeaseGrant
from chainfire.proto.election_pb2 import CampaignRequest, LeaderKey, ProclaimRequest
from chainfire.proto.kv_pb2 import (
    LINEARIZABLE,
    CompactionRequest,
    Compare,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
)
from chainfire.proto.lease_pb2 import LeaseGrantRequest, LeaseRevokeRequest
from chainfire.proto.lock_pb2 import LockRequest
from chainfire.proto.maintenance_pb2 import CORRUPT, NOSPACE, AlarmRequest, AlarmType
from tests.api.contenders import Contenders, on_stage
from tests.api.fake_node import Api

OTHER_MEMBER = 9
PUT = RequestOp(request_put=PutRequest(key=b"a", value=b"2"))
DELETE = RequestOp(request_delete_range=DeleteRangeRequest(key=b"a"))
THERE = Compare(key=b"a", target=Compare.CREATE, result=Compare.GREATER, create_revision=0)
LEADER = LeaderKey(name=b"e", key=b"e/1", rev=2)

GROWING: list[tuple[str, Message]] = [
    ("etcdserverpb.KV/Put", PutRequest(key=b"a", value=b"v" * 100)),
    ("etcdserverpb.KV/Put", PutRequest(key=b"a", lease=1, prev_kv=True)),
    ("etcdserverpb.KV/Txn", TxnRequest(success=[PUT])),
    ("etcdserverpb.KV/Txn", TxnRequest(compare=[THERE], success=[DELETE], failure=[PUT])),
    ("etcdserverpb.KV/Txn", TxnRequest(success=[RequestOp(request_txn=TxnRequest(failure=[PUT]))])),
    ("etcdserverpb.Lease/LeaseGrant", LeaseGrantRequest(ID=7, TTL=60)),
    ("v3electionpb.Election/Proclaim", ProclaimRequest(leader=LEADER, value=b"v")),
]
OTHERS: list[tuple[str, Message]] = [
    ("etcdserverpb.KV/DeleteRange", DeleteRangeRequest(key=b"a")),
    ("etcdserverpb.KV/Txn", TxnRequest(success=[DELETE])),
    ("etcdserverpb.KV/Txn", TxnRequest(compare=[THERE], success=[DELETE], failure=[DELETE])),
    ("etcdserverpb.KV/Compact", CompactionRequest(revision=2)),
    ("etcdserverpb.Lease/LeaseRevoke", LeaseRevokeRequest(ID=1)),
]


def alarm(
    api: Api, action: AlarmRequest.AlarmAction, kind: AlarmType, member: int = OTHER_MEMBER
) -> None:
    request = AlarmRequest(action=action, memberID=member, alarm=kind)
    api.start("/etcdserverpb.Maintenance/Alarm", request)


@pytest.fixture
def api() -> Api:
    """Another member's disk is nearly full; there are a key and a lease."""
    api = Api()
    api.do("Lease.LeaseGrant", LeaseGrantRequest(ID=1, TTL=60))
    api.do("KV.Put", PutRequest(key=b"a", value=b"1"))
    alarm(api, AlarmRequest.ACTIVATE, NOSPACE)
    api.node.levels.clear()
    return api


def new(api: Api) -> list[int]:
    """What was proposed after the alarm was raised, or cleared."""
    kinds = api.node.proposed
    return kinds[len(kinds) - kinds[::-1].index(CommandKind.ALARM) :]


def is_error(answer: object) -> bool:
    return isinstance(answer, errors.RequestError)


@pytest.mark.parametrize(("path", "request_"), GROWING)
def test_what_may_add_something_is_refused_and_never_in_the_log(
    api: Api, path: str, request_: Message
) -> None:
    call = api.start(f"/{path}", request_)
    assert [type(answer) for answer in call.answers] == [errors.NoSpace]
    assert (new(api), api.node.levels) == ([], [LINEARIZABLE])


@pytest.mark.parametrize(("path", "request_"), OTHERS)
def test_what_adds_nothing_goes_on_and_asks_nobody_first(
    api: Api, path: str, request_: Message
) -> None:
    call = api.start(f"/{path}", request_)
    assert not any(map(is_error, call.answers)), call.answers
    assert (len(new(api)), api.node.levels) == (1, [])


@pytest.mark.parametrize(("path", "request_"), GROWING)
def test_the_door_says_what_the_machine_would_say(api: Api, path: str, request_: Message) -> None:
    alarm(api, AlarmRequest.ACTIVATE, CORRUPT)
    call = api.start(f"/{path}", request_)
    assert [type(answer) for answer in call.answers] == [errors.CorruptCluster]


def test_without_an_alarm_nobody_is_asked_first(api: Api) -> None:
    alarm(api, AlarmRequest.DEACTIVATE, NOSPACE)
    for path, request in GROWING:
        api.start(f"/{path}", request)
    assert (len(new(api)), api.node.levels) == (len(GROWING), [])


@pytest.mark.parametrize(("path", "request_"), GROWING)
def test_a_member_that_has_not_applied_the_end_of_the_alarm_does_not_refuse(
    api: Api, path: str, request_: Message
) -> None:
    """Somebody has cleared it elsewhere, and was told so: what is asked then is carried out."""
    api.node.held = True
    alarm(api, AlarmRequest.DEACTIVATE, NOSPACE)  # committed, and not applied here
    call = api.start(f"/{path}", request_)
    assert call.answers == []
    api.node.held = False
    api.node.release()
    assert [type(answer) for answer in call.answers] in ([bytes], [errors.NotElected])
    assert len(new(api)) == 1


def test_an_alarm_that_is_on_for_two_members_ends_with_the_last(api: Api) -> None:
    alarm(api, AlarmRequest.ACTIVATE, NOSPACE, 8)
    alarm(api, AlarmRequest.DEACTIVATE, NOSPACE)
    assert isinstance(api.do("KV.Put", PutRequest(key=b"b")), errors.NoSpace)
    alarm(api, AlarmRequest.DEACTIVATE, NOSPACE, 8)
    assert not is_error(api.do("KV.Put", PutRequest(key=b"b")))


def test_what_is_wrong_with_a_request_is_said_first(api: Api) -> None:
    assert isinstance(api.do("KV.Put", PutRequest()), errors.EmptyKey)
    assert isinstance(api.do("KV.Txn", TxnRequest(success=[PUT, PUT])), errors.DuplicateKey)
    large = PutRequest(key=b"a", value=bytes(api.services.limits.max_request_bytes))
    assert isinstance(api.do("KV.Put", large), errors.RequestTooLarge)
    assert isinstance(api.do("KV.Range", RangeRequest()), errors.EmptyKey)


def test_whoever_goes_meanwhile_leaves_nothing_in_the_log(api: Api) -> None:
    api.node.held = True
    call = api.start("/etcdserverpb.KV/Put", PutRequest(key=b"b"))
    call.cancel()
    api.node.held = False
    alarm(api, AlarmRequest.DEACTIVATE, NOSPACE)
    api.node.release()
    assert (call.answers, new(api)) == ([], [])


def test_a_read_that_cannot_be_had_is_the_answer(api: Api) -> None:
    api.node.refusal = errors.Timeout()
    assert isinstance(api.do("KV.Put", PutRequest(key=b"b")), errors.Timeout)


@on_stage
async def test_a_lease_for_a_call_that_goes_is_not_granted_behind_its_back(api: Contenders) -> None:
    alarm(api, AlarmRequest.ACTIVATE, NOSPACE)
    api.node.held = True
    body = LeaseGrant(id=5, ttl_ms=60_000).SerializeToString()
    task = asyncio.create_task(propose_growth(api.node, CommandKind.LEASE_GRANT, body))
    await api.settled()
    task.cancel()
    await api.settled()
    api.node.held = False
    alarm(api, AlarmRequest.DEACTIVATE, NOSPACE)
    api.node.release()
    assert new(api) == []


@on_stage
async def test_locks_and_elections_wait_for_no_log(api: Contenders) -> None:
    api.grant(1)
    alarm(api, AlarmRequest.ACTIVATE, NOSPACE)
    for lease in (0, 1):
        lock = api.start("/v3lockpb.Lock/Lock", LockRequest(name=b"l", lease=lease))
        assert isinstance(await api.answer(lock), errors.NoSpace)
        campaign = CampaignRequest(name=b"e", lease=lease, value=b"v")
        call = api.start("/v3electionpb.Election/Campaign", campaign)
        assert isinstance(await api.answer(call), errors.NoSpace)
    puts = {CommandKind.TXN, CommandKind.LEASE_GRANT}
    assert not puts & set(new(api)), new(api)
