"""Requests, built: what is sent, where to, what comes back. Pure.

Methods are called by etcd's names, so that the client works with etcd too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from google.protobuf.message import Message

from chainfire.client.keys import Text, prefix_range, to_bytes
from chainfire.client.values import KeyValue
from chainfire.errors import InvalidArgument
from chainfire.proto import cluster_pb2, kv_pb2, maintenance_pb2, watch_pb2

R_co = TypeVar("R_co", bound=Message, covariant=True)
NO_LEASE = 0


class Consistency(Enum):
    """How fresh a read must be; see the manual's chapter on reads."""

    LINEARIZABLE = kv_pb2.LINEARIZABLE
    SERIALIZABLE = kv_pb2.SERIALIZABLE
    LOCAL = kv_pb2.LOCAL


@dataclass(frozen=True, slots=True)
class Call(Generic[R_co]):
    path: str
    request: Message
    reply: type[R_co]
    is_read: bool  # may be sent twice


def range_call(request: kv_pb2.RangeRequest) -> Call[kv_pb2.RangeResponse]:
    return Call("/etcdserverpb.KV/Range", request, kv_pb2.RangeResponse, is_read=True)


def put_call(request: kv_pb2.PutRequest) -> Call[kv_pb2.PutResponse]:
    return Call("/etcdserverpb.KV/Put", request, kv_pb2.PutResponse, is_read=False)


def delete_call(request: kv_pb2.DeleteRangeRequest) -> Call[kv_pb2.DeleteRangeResponse]:
    return Call("/etcdserverpb.KV/DeleteRange", request, kv_pb2.DeleteRangeResponse, is_read=False)


def txn_call(request: kv_pb2.TxnRequest) -> Call[kv_pb2.TxnResponse]:
    is_read = all(_only_reads(op) for op in (*request.success, *request.failure))
    return Call("/etcdserverpb.KV/Txn", request, kv_pb2.TxnResponse, is_read=is_read)


def _only_reads(op: kv_pb2.RequestOp) -> bool:
    match op.WhichOneof("request"):
        case "request_txn":
            nested = op.request_txn
            return all(_only_reads(inner) for inner in (*nested.success, *nested.failure))
        case kind:
            return bool(kind == "request_range")


def compact_call(revision: int, *, physical: bool = False) -> Call[kv_pb2.CompactionResponse]:
    request = kv_pb2.CompactionRequest(revision=revision, physical=physical)
    return Call("/etcdserverpb.KV/Compact", request, kv_pb2.CompactionResponse, is_read=False)


def status_call() -> Call[maintenance_pb2.StatusResponse]:
    request = maintenance_pb2.StatusRequest()
    path = "/etcdserverpb.Maintenance/Status"
    return Call(path, request, maintenance_pb2.StatusResponse, is_read=True)


def snapshot_call() -> Call[maintenance_pb2.SnapshotResponse]:
    """To be streamed."""
    request = maintenance_pb2.SnapshotRequest()
    path = "/etcdserverpb.Maintenance/Snapshot"
    return Call(path, request, maintenance_pb2.SnapshotResponse, is_read=True)


def maintenance_call(
    name: str, request: Message, reply: type[R_co], *, is_read: bool
) -> Call[R_co]:
    return Call(f"/etcdserverpb.Maintenance/{name}", request, reply, is_read)


def member_list_call(*, linearizable: bool = True) -> Call[cluster_pb2.MemberListResponse]:
    request = cluster_pb2.MemberListRequest(linearizable=linearizable)
    path = "/etcdserverpb.Cluster/MemberList"
    return Call(path, request, cluster_pb2.MemberListResponse, is_read=True)


def member_call(name: str, request: Message, reply: type[R_co]) -> Call[R_co]:
    """A change of the membership: "MemberAdd" and the like."""
    return Call(f"/etcdserverpb.Cluster/{name}", request, reply, is_read=False)


# ── what the client's methods ask for ───────────────────────────────────────


def get_request(
    key: Text,
    range_end: bytes = b"",
    *,
    limit: int = 0,
    revision: int = 0,
    consistency: Consistency = Consistency.LINEARIZABLE,
    min_revision: int = 0,
) -> kv_pb2.RangeRequest:
    return kv_pb2.RangeRequest(
        key=to_bytes(key),
        range_end=range_end,
        limit=limit,
        revision=revision,
        # etcd knows this field only; Chainfire reads both.
        serializable=consistency is Consistency.SERIALIZABLE,
        consistency=consistency.value,
        min_revision=min_revision,
    )


def put_request(
    key: Text, value: Text, *, lease: int = NO_LEASE, previous: bool = False
) -> kv_pb2.PutRequest:
    return kv_pb2.PutRequest(
        key=to_bytes(key), value=to_bytes(value), lease=lease, prev_kv=previous
    )


def delete_request(
    key: Text, range_end: bytes = b"", *, previous: bool = False
) -> kv_pb2.DeleteRangeRequest:
    return kv_pb2.DeleteRangeRequest(key=to_bytes(key), range_end=range_end, prev_kv=previous)


def next_page(request: kv_pb2.RangeRequest, reply: kv_pb2.RangeResponse) -> None:
    """Turn the request into the one for the page behind this reply, at the same revision."""
    assert reply.kvs, "an empty page has none behind it"
    request.key = reply.kvs[-1].key + b"\0"
    request.revision = request.revision or reply.header.revision


def scan_request(prefix: Text, *, page_size: int, revision: int) -> kv_pb2.RangeRequest:
    if page_size < 1:
        raise InvalidArgument(f"page_size must be at least 1, not {page_size}")
    key, range_end = prefix_range(prefix)
    return get_request(key, range_end, limit=page_size, revision=revision)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What a compare-and-set expects of the key; exactly one of these is given."""

    kv: KeyValue | None = None  # as it was read
    version: int | None = None  # 0: the key does not exist
    revision: int | None = None  # its mod_revision; 0: the key does not exist
    value: Text | None = None
    absent: bool = False

    def compare(self, key: bytes) -> kv_pb2.Compare:
        given = [self.kv, self.version, self.revision, self.value, True if self.absent else None]
        if sum(item is not None for item in given) != 1:
            raise InvalidArgument("cas needs exactly one expectation")
        target = kv_pb2.Compare
        if self.value is not None:
            return target(target=target.VALUE, key=key, value=to_bytes(self.value))
        if self.version is not None or self.absent:
            return target(target=target.VERSION, key=key, version=self.version or 0)
        revision = self.kv.mod_revision if self.kv is not None else self.revision or 0
        return target(target=target.MOD, key=key, mod_revision=revision)


def cas_request(key: Text, value: Text, expected: Expectation, *, lease: int) -> kv_pb2.TxnRequest:
    """If as expected put, else read: one transaction, whose reply `values.cas_of` reads."""
    put = put_request(key, value, lease=lease, previous=True)
    return kv_pb2.TxnRequest(
        compare=[expected.compare(to_bytes(key))],
        success=[kv_pb2.RequestOp(request_put=put)],
        failure=[kv_pb2.RequestOp(request_range=get_request(key))],
    )


def txn_request(
    compare: Sequence[kv_pb2.Compare],
    success: Sequence[kv_pb2.RequestOp],
    failure: Sequence[kv_pb2.RequestOp],
) -> kv_pb2.TxnRequest:
    return kv_pb2.TxnRequest(compare=compare, success=success, failure=failure)


def watch_request(
    key: Text,
    range_end: bytes = b"",
    *,
    start_revision: int = 0,
    previous: bool = False,
    progress: bool = False,
) -> watch_pb2.WatchCreateRequest:
    return watch_pb2.WatchCreateRequest(
        key=to_bytes(key),
        range_end=range_end,
        start_revision=start_revision,
        prev_kv=previous,
        progress_notify=progress,
        fragment=True,
    )
