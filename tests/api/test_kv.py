"""KV handlers over a real machine: what is asked of the node, and what comes back."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainfire import errors
from chainfire.api import kv
from chainfire.api.table import run
from chainfire.command import CommandKind
from chainfire.mvcc import later, read
from chainfire.node.steps import Steps
from chainfire.proto.kv_pb2 import (
    LINEARIZABLE,
    LOCAL,
    SERIALIZABLE,
    CompactionRequest,
    CompactionResponse,
    DeleteRangeRequest,
    DeleteRangeResponse,
    PutRequest,
    PutResponse,
    RangeRequest,
    RangeResponse,
    RequestOp,
    TxnRequest,
    TxnResponse,
)
from chainfire.proto.maintenance_pb2 import NOSPACE
from chainfire.types import Alarm
from tests.api.fake_node import CLUSTER_ID, MEMBER_ID, Api, FakeNode, Probe

PUT_A = RequestOp(request_put=PutRequest(key=b"a", value=b"1"))
GET_A = RequestOp(request_range=RangeRequest(key=b"a"))


@pytest.fixture
def api() -> Api:
    return Api()


# ── what comes back ─────────────────────────────────────────────────────────


def test_a_put_key_is_read_back_with_its_revisions(api: Api) -> None:
    put = api.do("KV.Put", PutRequest(key=b"a", value=b"1"))
    assert isinstance(put, PutResponse)
    assert (put.header.cluster_id, put.header.member_id) == (CLUSTER_ID, MEMBER_ID)
    assert (put.header.revision, put.header.raft_term) == (2, 2)
    got = api.do("KV.Range", RangeRequest(key=b"a"))
    assert isinstance(got, RangeResponse)
    assert got.header == put.header
    (row,) = got.kvs
    assert (row.key, row.value, row.create_revision, row.mod_revision, row.version) == (
        b"a",
        b"1",
        2,
        2,
        1,
    )
    assert (got.count, got.more) == (1, False)


def test_prev_kv_is_the_pair_before(api: Api) -> None:
    api.do("KV.Put", PutRequest(key=b"a", value=b"1"))
    put = api.do("KV.Put", PutRequest(key=b"a", value=b"2", prev_kv=True))
    assert isinstance(put, PutResponse)
    assert put.prev_kv.value == b"1"
    deleted = api.do("KV.DeleteRange", DeleteRangeRequest(key=b"a", prev_kv=True))
    assert isinstance(deleted, DeleteRangeResponse)
    assert (deleted.deleted, [kv_.value for kv_ in deleted.prev_kvs]) == (1, [b"2"])


@given(st.binary(max_size=140), st.booleans(), st.booleans(), st.integers(-1, 2))
def test_the_short_way_of_a_get_answers_as_the_long_one(
    key: bytes, serializable: bool, keys_only: bool, revision: int
) -> None:
    api = Api()
    api.do("KV.Put", PutRequest(key=key or b"k", value=b"v"))
    request = RangeRequest(
        key=key, serializable=serializable, keys_only=keys_only, revision=revision
    )
    short = api.do("KV.Range", request)
    long = api.do("KV.Range", request.SerializeToString() + b"\x12\x00")  # an empty range_end
    if isinstance(short, errors.RequestError):
        assert type(short) is type(long)
    else:
        assert short == long
    assert len(set(api.node.levels)) <= 1


def test_a_txn_takes_its_branch_and_answers_every_op(api: Api) -> None:
    reply = api.do("KV.Txn", TxnRequest(success=[PUT_A, GET_A]))
    assert isinstance(reply, TxnResponse)
    assert (reply.succeeded, len(reply.responses)) == (True, 2)
    assert reply.responses[0].response_put.header.revision == 2
    assert reply.responses[1].response_range.kvs[0].value == b"1"
    assert api.node.proposed == [CommandKind.TXN]


def test_the_log_gets_the_very_bytes_that_the_client_sent(api: Api) -> None:
    sent: list[bytes] = []

    def keep(kind: int, body: bytes, pending: object, **rest: object) -> None:
        sent.append(body)

    api.node.propose = keep  # type: ignore[assignment, method-assign]
    body = b"\x12\x01v\x0a\x01k\xf8\x07\x01"  # fields out of order, an unknown one among them
    api.start("/etcdserverpb.KV/Put", body)
    assert sent == [body]


# ── consistency ─────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("request_", "level"),
    [
        (RangeRequest(key=b"a"), LINEARIZABLE),
        (RangeRequest(key=b"a", serializable=True), SERIALIZABLE),
        (RangeRequest(key=b"a", consistency=SERIALIZABLE), SERIALIZABLE),
        (RangeRequest(key=b"a", serializable=True, consistency=SERIALIZABLE), SERIALIZABLE),
        (RangeRequest(key=b"a", consistency=LOCAL), LOCAL),
        (RangeRequest(key=b"a", range_end=b"b"), LINEARIZABLE),
    ],
)
def test_a_range_is_read_at_the_level_it_asks_for(
    api: Api, request_: RangeRequest, level: int
) -> None:
    assert isinstance(api.do("KV.Range", request_), RangeResponse)
    assert api.node.levels == [level]


def test_serializable_and_local_exclude_each_other(api: Api) -> None:
    request = RangeRequest(key=b"a", serializable=True, consistency=LOCAL)
    assert isinstance(api.do("KV.Range", request), errors.InvalidArgument)
    op = RequestOp(request_range=request)
    assert isinstance(api.do("KV.Txn", TxnRequest(success=[op])), errors.InvalidArgument)


def test_min_revision_waits_until_it_is_applied(api: Api) -> None:
    waiting = api.start("/etcdserverpb.KV/Range", RangeRequest(key=b"a", min_revision=2))
    assert waiting.answers == []
    api.do("KV.Put", PutRequest(key=b"a", value=b"1"))
    api.node.release()
    (body,) = waiting.answers
    assert isinstance(body, bytes)
    assert RangeResponse.FromString(body).kvs[0].value == b"1"


@pytest.mark.parametrize(
    ("ranges", "level"),
    [
        ([], SERIALIZABLE),
        ([RangeRequest(key=b"a")], LINEARIZABLE),
        ([RangeRequest(key=b"a", serializable=True)], SERIALIZABLE),
        ([RangeRequest(key=b"a", serializable=True), RangeRequest(key=b"b")], LINEARIZABLE),
        ([RangeRequest(key=b"a", consistency=LOCAL)], LOCAL),
    ],
)
def test_a_read_only_txn_stays_out_of_the_log(
    api: Api, ranges: list[RangeRequest], level: int
) -> None:
    ops = [RequestOp(request_range=request) for request in ranges]
    assert isinstance(api.do("KV.Txn", TxnRequest(failure=ops)), TxnResponse)
    assert (api.node.proposed, api.node.levels) == ([], [level])


def test_a_nested_txn_of_ranges_goes_through_the_log(api: Api) -> None:
    nested = RequestOp(request_txn=TxnRequest(success=[GET_A]))
    reply = api.do("KV.Txn", TxnRequest(success=[nested]))
    assert isinstance(reply, TxnResponse)
    assert api.node.proposed == [CommandKind.TXN]
    assert reply.responses[0].response_txn.HasField("header")
    assert reply.responses[0].response_txn.header.revision == 0


def test_long_answers_of_writes_are_made_in_slices(api: Api) -> None:
    for number in range(20):
        api.do("KV.Put", PutRequest(key=b"a%02d" % number, value=bytes(100_000)))
    everything = RangeRequest(key=b"a", range_end=b"b")
    delete = DeleteRangeRequest(key=b"a", range_end=b"b", prev_kv=True)
    put = RequestOp(request_put=PutRequest(key=b"c"))
    ops = [put, RequestOp(request_range=everything)]
    before = len(api.node.work)
    found = api.do("KV.Txn", TxnRequest(success=ops))
    assert isinstance(found, TxnResponse)
    assert len(found.responses[1].response_range.kvs) == 20
    assert len(api.node.work) == before + 1
    deleted = api.do("KV.DeleteRange", delete)
    assert isinstance(deleted, DeleteRangeResponse)
    assert [kv.key for kv in deleted.prev_kvs] == [b"a%02d" % n for n in range(20)]
    assert len(api.node.work) == before + 2


def test_others_are_answered_while_the_ranges_of_a_transaction_are_read(api: Api) -> None:
    count = later.ROWS_AT_ONCE + 500
    for first in range(0, count, 100):
        puts = [PutRequest(key=b"a%05d" % number) for number in range(first, first + 100)]
        api.do("KV.Txn", TxnRequest(success=[RequestOp(request_put=put) for put in puts]))
    everything = RequestOp(request_range=RangeRequest(key=b"a", range_end=b"b"))
    nested = RequestOp(request_txn=TxnRequest(success=[PUT_A, everything]))
    api.node.held = True
    call = api.start("/etcdserverpb.KV/Txn", TxnRequest(success=[everything, nested]))
    api.node.apply()
    turns = 0
    while not call.answers:
        others = [
            api.start("/etcdserverpb.KV/DeleteRange", DeleteRangeRequest(key=b"a%05d" % turns)),
            api.start("/etcdserverpb.KV/Put", PutRequest(key=b"b", value=b"%d" % turns)),
        ]
        api.node.apply()
        assert all(other.answers for other in others)
        (work,) = [work for work in api.node.work if work.open]
        work.turn()
        turns += 1
    assert turns > 2 * count // read.ROWS_PER_SLICE
    reply = TxnResponse.FromString(call.answers[0])
    before, (_, behind) = reply.responses[0], reply.responses[1].response_txn.responses
    assert len(before.response_range.kvs) == before.response_range.count == count
    assert behind.response_range.count == count + 1
    assert api.services.long_replies.under_way == 0


# ── compaction ──────────────────────────────────────────────────────────────


def test_a_physical_compaction_answers_when_old_rows_are_gone(api: Api) -> None:
    api.do("KV.Put", PutRequest(key=b"a", value=b"1"))
    api.do("KV.Put", PutRequest(key=b"a", value=b"2"))
    call = api.start("/etcdserverpb.KV/Compact", CompactionRequest(revision=3, physical=True))
    assert call.answers == []
    api.node.compact_physically()
    (body,) = call.answers
    assert isinstance(body, bytes)
    assert CompactionResponse.FromString(body).header.revision == 3


def test_a_logical_compaction_answers_at_once(api: Api) -> None:
    api.do("KV.Put", PutRequest(key=b"a", value=b"1"))
    assert isinstance(api.do("KV.Compact", CompactionRequest(revision=2)), CompactionResponse)


# ── limits ──────────────────────────────────────────────────────────────────


def test_a_request_above_the_limit_is_refused_and_not_proposed() -> None:
    api = Api(max_request_bytes=100)
    assert isinstance(api.do("KV.Put", PutRequest(key=b"a", value=b"v" * 95)), PutResponse)
    refused = api.do("KV.Put", PutRequest(key=b"a", value=b"v" * 96))
    assert isinstance(refused, errors.RequestTooLarge)
    assert len(api.node.proposed) == 1


def test_reads_have_no_limit_but_the_door_s() -> None:
    api = Api(max_request_bytes=10)
    assert isinstance(api.do("KV.Range", RangeRequest(key=b"a" * 200)), RangeResponse)


def alarmed(node: FakeNode) -> bool:
    return Alarm(MEMBER_ID, NOSPACE) in node.machine.alarms


def test_a_put_over_quota_raises_the_alarm_and_is_refused() -> None:
    api = Api(quota_bytes=1000)
    assert isinstance(api.do("KV.Put", PutRequest(key=b"a", value=b"v" * 500)), PutResponse)
    refused = api.do("KV.Put", PutRequest(key=b"a", value=b"v" * 500))
    assert isinstance(refused, errors.NoSpace)
    assert alarmed(api.node)
    again = api.do("KV.Put", PutRequest(key=b"a", value=b"v" * 500))
    assert isinstance(again, errors.NoSpace)
    assert api.node.proposed == [CommandKind.PUT, CommandKind.ALARM]
    # A put that would fit is refused by the alarm, deletes and reads go on.
    small = api.do("KV.Put", PutRequest(key=b"b"))
    assert isinstance(small, errors.NoSpace)
    assert isinstance(api.do("KV.Txn", TxnRequest(success=[PUT_A])), errors.NoSpace)
    assert isinstance(api.do("KV.Range", RangeRequest(key=b"a")), RangeResponse)
    assert isinstance(api.do("KV.DeleteRange", DeleteRangeRequest(key=b"a")), DeleteRangeResponse)


def test_quota_comes_before_syntax_as_in_etcd() -> None:
    api = Api(quota_bytes=1)
    assert isinstance(api.do("KV.Put", PutRequest()), errors.NoSpace)


def test_a_negative_quota_is_none() -> None:
    api = Api(quota_bytes=-1)
    assert isinstance(api.do("KV.Put", PutRequest(key=b"a", value=b"v" * 9999)), PutResponse)


# ── cancellation and failures ───────────────────────────────────────────────


def test_a_cancelled_call_is_not_answered_and_its_work_ends(api: Api) -> None:
    for n in range(30):
        api.do("KV.Put", PutRequest(key=b"%03d" % n))
    api.node.held = True
    write = api.start("/etcdserverpb.KV/Put", PutRequest(key=b"a"))
    read = api.start("/etcdserverpb.KV/Range", RangeRequest(key=b"a"))
    write.cancel()
    read.cancel()
    api.node.release()
    assert (write.answers, read.answers) == ([], [])


def test_an_answered_range_is_not_kept_for_the_garbage_collector(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Watched(Probe):
        __slots__ = ("__weakref__",)

    def run_at_once(work: Any, on_done: Any, on_error: Any) -> Steps:
        steps = Steps(work, on_done, on_error)
        steps.advance(1.0, lambda: 0.0)
        return steps

    monkeypatch.setattr(api.node, "run_steps", run_at_once)
    call = Watched(api.services, "KV.Range", b"\x0a\x01a\x12\x01z")
    call.answers = []
    gc.disable()
    try:
        run(kv.range_, call)
        assert call.finished
        kept = weakref.ref(call)
        del call
        assert kept() is None
    finally:
        gc.enable()


def test_what_the_node_refuses_the_caller_is_told(api: Api) -> None:
    api.node.refusal = errors.TooManyRequests()
    assert isinstance(api.do("KV.Put", PutRequest(key=b"a")), errors.TooManyRequests)
    api.node.refusal = errors.LeaderChanged()
    assert isinstance(api.do("KV.Range", RangeRequest(key=b"a")), errors.LeaderChanged)


def test_a_corrupt_row_stops_the_member(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    damage = errors.Corrupt("block 7")

    def broken(*_: object) -> None:
        raise damage

    monkeypatch.setattr(type(api.node.store), "get_row", broken)
    assert isinstance(api.do("KV.Range", RangeRequest(key=b"a")), errors.Stopped)
    assert api.node.halted == [damage]


def test_a_mistake_of_ours_is_answered_as_internal(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(kv.encode, "put_reply", broken)
    assert isinstance(api.do("KV.Put", PutRequest(key=b"a")), errors.InternalError)
    assert "handler failed" in caplog.text
    assert api.node.halted == []
