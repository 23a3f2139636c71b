"""Every error that KV and Maintenance can give, by code and text, and bad input of every kind."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message

from chainfire.errors import Code, RequestError
from chainfire.mvcc.rows import varint
from chainfire.proto.cluster_pb2 import MemberListRequest
from chainfire.proto.kv_pb2 import (
    CompactionRequest,
    Compare,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    RangeResponse,
    RequestOp,
    TxnRequest,
)
from chainfire.proto.maintenance_pb2 import (
    CORRUPT,
    AlarmRequest,
    DowngradeRequest,
    HashKVRequest,
    MoveLeaderRequest,
)
from tests.api.fake_node import Api


def put(key: bytes, **fields: object) -> RequestOp:
    return RequestOp(request_put=PutRequest(key=key, **fields))  # type: ignore[arg-type]


def get(key: bytes, **fields: object) -> RequestOp:
    return RequestOp(request_range=RangeRequest(key=key, **fields))  # type: ignore[arg-type]


def delete(key: bytes, range_end: bytes = b"") -> RequestOp:
    return RequestOp(request_delete_range=DeleteRangeRequest(key=key, range_end=range_end))


def nested(*ops: RequestOp) -> RequestOp:
    return RequestOp(request_txn=TxnRequest(success=ops))


def txn(*ops: RequestOp) -> TxnRequest:
    return TxnRequest(success=ops)


KEY = "etcdserver: key is not provided"
DUPLICATE = "etcdserver: duplicate key given in txn request"
COMPACTED = "etcdserver: mvcc: required revision has been compacted"
FUTURE = "etcdserver: mvcc: required revision is a future revision"
NOT_FOUND = "etcdserver: key not found"
SORT = "etcdserver: invalid sort option"
LEASE = "etcdserver: requested lease not found"
TOO_MANY = "etcdserver: too many operations in txn request"
INVALID, RANGE = Code.INVALID_ARGUMENT, Code.OUT_OF_RANGE

# The store: revisions 2..5 put k1..k4, compacted at 3.
CASES: list[tuple[str, Message, Code, str]] = [
    ("KV.Range", RangeRequest(), INVALID, KEY),
    ("KV.Range", RangeRequest(range_end=b"z"), INVALID, KEY),
    ("KV.Range", RangeRequest(key=b"k", sort_order=7), INVALID, SORT),  # type: ignore[arg-type]
    ("KV.Range", RangeRequest(key=b"k", sort_target=-1), INVALID, SORT),  # type: ignore[arg-type]
    ("KV.Range", RangeRequest(key=b"k", revision=6), RANGE, FUTURE),
    ("KV.Range", RangeRequest(key=b"k", revision=2), RANGE, COMPACTED),
    ("KV.Put", PutRequest(), INVALID, KEY),
    (
        "KV.Put",
        PutRequest(key=b"k1", value=b"v", ignore_value=True),
        INVALID,
        "etcdserver: value is provided",
    ),
    (
        "KV.Put",
        PutRequest(key=b"k1", lease=1, ignore_lease=True),
        INVALID,
        "etcdserver: lease is provided",
    ),
    ("KV.Put", PutRequest(key=b"none", ignore_value=True), INVALID, NOT_FOUND),
    ("KV.Put", PutRequest(key=b"none", ignore_lease=True), INVALID, NOT_FOUND),
    ("KV.Put", PutRequest(key=b"k1", lease=77), Code.NOT_FOUND, LEASE),
    ("KV.Put", PutRequest(key=b"k1", lease=-1), Code.NOT_FOUND, LEASE),
    ("KV.DeleteRange", DeleteRangeRequest(), INVALID, KEY),
    ("KV.Txn", txn(RequestOp()), INVALID, NOT_FOUND),
    ("KV.Txn", txn(put(b"")), INVALID, KEY),
    ("KV.Txn", txn(get(b"")), INVALID, KEY),
    ("KV.Txn", txn(delete(b"")), INVALID, KEY),
    ("KV.Txn", txn(nested(put(b""))), INVALID, KEY),
    ("KV.Txn", TxnRequest(compare=[Compare()]), INVALID, KEY),
    ("KV.Txn", txn(put(b"a"), put(b"a")), INVALID, DUPLICATE),
    ("KV.Txn", txn(put(b"b"), delete(b"a", b"c")), INVALID, DUPLICATE),
    ("KV.Txn", txn(put(b"a"), nested(put(b"a"))), INVALID, DUPLICATE),
    ("KV.Txn", txn(*[get(b"a")] * 129), INVALID, TOO_MANY),
    ("KV.Txn", txn(*[get(b"a")] * 100, nested(*[get(b"a")] * 29)), INVALID, TOO_MANY),
    ("KV.Txn", txn(get(b"a", revision=6)), RANGE, FUTURE),
    ("KV.Txn", txn(get(b"a", revision=2)), RANGE, COMPACTED),
    ("KV.Txn", txn(put(b"a"), get(b"a", revision=6)), RANGE, FUTURE),
    ("KV.Txn", txn(put(b"a"), put(b"b", lease=9)), Code.NOT_FOUND, LEASE),
    ("KV.Compact", CompactionRequest(revision=3), RANGE, COMPACTED),
    ("KV.Compact", CompactionRequest(revision=-1), RANGE, COMPACTED),
    ("KV.Compact", CompactionRequest(revision=6), RANGE, FUTURE),
    ("Maintenance.HashKV", HashKVRequest(revision=6), RANGE, FUTURE),
    ("Maintenance.HashKV", HashKVRequest(revision=2), RANGE, COMPACTED),
    (
        "Maintenance.MoveLeader",
        MoveLeaderRequest(targetID=5),
        Code.FAILED_PRECONDITION,
        "etcdserver: bad leader transferee",
    ),
    (
        "Maintenance.Downgrade",
        DowngradeRequest(),
        INVALID,
        "etcdserver: wrong downgrade target version format",
    ),
    (
        "Maintenance.Downgrade",
        DowngradeRequest(version="3.7"),
        INVALID,
        "etcdserver: invalid downgrade target version",
    ),
    (
        "Maintenance.Downgrade",
        DowngradeRequest(action=DowngradeRequest.CANCEL),
        Code.FAILED_PRECONDITION,
        "etcdserver: no inflight downgrade job",
    ),
    (
        "Maintenance.Downgrade",
        DowngradeRequest(action=9),  # type: ignore[arg-type]
        Code.UNKNOWN,
        "etcdserver: unknown method",
    ),
]


@pytest.fixture(scope="module")
def api() -> Api:
    api = Api()
    for n in range(1, 5):
        api.do("KV.Put", PutRequest(key=b"k%d" % n))
    api.do("KV.Compact", CompactionRequest(revision=3))
    return api


@pytest.mark.parametrize(("method", "request_", "code", "text"), CASES)
def test_error_has_etcd_s_code_and_text(
    api: Api, method: str, request_: Message, code: Code, text: str
) -> None:
    error = api.do(method, request_)
    assert isinstance(error, RequestError)
    assert (error.code, error.message) == (code, text)


@pytest.mark.parametrize(
    "request_", [put(b"a").request_put, txn(put(b"a")), DeleteRangeRequest(key=b"a")]
)
def test_a_corrupt_cluster_refuses_writes(request_: Message) -> None:
    api = Api()
    activate = AlarmRequest(action=AlarmRequest.ACTIVATE, memberID=1, alarm=CORRUPT)
    api.do("Maintenance.Alarm", activate)
    names = {"PutRequest": "Put", "TxnRequest": "Txn", "DeleteRangeRequest": "DeleteRange"}
    error = api.do(f"KV.{names[type(request_).__name__]}", request_)
    assert isinstance(error, RequestError)
    assert (error.code, error.message) == (Code.DATA_LOSS, "etcdserver: corrupt cluster")


# ── bad input ───────────────────────────────────────────────────────────────

BROKEN = [
    b"\xff\xff\xff",  # no tag
    b"\x0a\x05ab",  # shorter than it says
    b"\x0f",  # wire type 7
    b"\x0a\xff\xff\xff\xff\x01",  # longer than anything
    b"\x08",  # a number that does not come
]
UNARY = [
    "KV.Range",
    "KV.Put",
    "KV.DeleteRange",
    "KV.Txn",
    "KV.Compact",
    "Maintenance.Alarm",
    "Maintenance.Status",
    "Maintenance.Defragment",
    "Maintenance.Hash",
    "Maintenance.HashKV",
    "Maintenance.MoveLeader",
    "Maintenance.Downgrade",
    "Cluster.MemberList",
]


@pytest.mark.parametrize("body", BROKEN)
@pytest.mark.parametrize("method", UNARY)
def test_broken_protobuf_is_internal_as_by_grpc_go(api: Api, method: str, body: bytes) -> None:
    proposed = len(api.node.proposed)
    error = api.do(method, body)
    assert isinstance(error, RequestError)
    assert error.code == Code.INTERNAL
    assert error.message
    assert len(api.node.proposed) == proposed


def test_a_request_nested_too_deeply_is_refused_before_the_log(api: Api) -> None:
    body = b""
    for _ in range(60):
        op = b"\x22" + varint(len(body)) + body
        body = b"\x12" + varint(len(op)) + op
    proposed = len(api.node.proposed)
    error = api.do("KV.Txn", body)
    assert isinstance(error, RequestError)
    assert error.code == Code.INTERNAL
    assert len(api.node.proposed) == proposed


@pytest.mark.parametrize(
    "request_",
    [
        RangeRequest(key=b"k1", limit=-5),
        RangeRequest(key=b"k1", revision=-5),
        RangeRequest(key=b"k1", min_mod_revision=-1),
        RangeRequest(key=b"k1", min_revision=-1),
        RangeRequest(key=b"k", range_end=b"l", limit=-1),
        RangeRequest(key=b"k", range_end=b"l", limit=2**63 - 1),
    ],
)
def test_negative_and_huge_numbers_mean_what_they_mean_in_etcd(
    api: Api, request_: RangeRequest
) -> None:
    reply = api.do("KV.Range", request_)
    assert isinstance(reply, RangeResponse)
    assert len(reply.kvs) == (4 if request_.range_end else 1)


def test_an_unknown_alarm_action_or_type_is_refused(api: Api) -> None:
    for request in (AlarmRequest(action=9), AlarmRequest(action=1, alarm=9)):  # type: ignore[arg-type]
        error = api.do("Maintenance.Alarm", request)
        assert isinstance(error, RequestError)
        assert error.code == INVALID


def test_an_unknown_consistency_is_refused(api: Api) -> None:
    error = api.do("KV.Range", RangeRequest(key=b"a", consistency=7))  # type: ignore[arg-type]
    assert isinstance(error, RequestError)
    assert error.code == INVALID


def test_hasleader_fails_where_there_is_none(api: Api) -> None:
    api.node.leader_id = 0
    try:
        error = api.do("KV.Range", RangeRequest(key=b"k1"), (("hasleader", "true"),))
        assert isinstance(error, RequestError)
        assert (error.code, error.message) == (Code.UNAVAILABLE, "etcdserver: no leader")
        reply = api.do("KV.Range", RangeRequest(key=b"k1"), (("hasleader", "false"),))
        assert isinstance(reply, RangeResponse)
        error = api.do("Maintenance.MoveLeader", MoveLeaderRequest(targetID=1))
        assert isinstance(error, RequestError)
        assert error.message == "etcdserver: not leader"
    finally:
        api.node.leader_id = api.node.member_id


def test_a_client_version_must_be_text(api: Api) -> None:
    error = api.do("Cluster.MemberList", MemberListRequest(), (("client-api-version", b"\xff"),))
    assert isinstance(error, RequestError)
    assert error.message == "etcdserver: invalid client api version"
