"""The methods that are compared: path, message types, and whether they may change the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.protobuf import text_format

from chainfire.proto import cluster_pb2, kv_pb2, lease_pb2, maintenance_pb2


@dataclass(frozen=True, slots=True)
class Method:
    path: str
    request_type: Any
    reply_type: Any


METHODS: dict[str, Method] = {
    "Range": Method("/etcdserverpb.KV/Range", kv_pb2.RangeRequest, kv_pb2.RangeResponse),
    "Put": Method("/etcdserverpb.KV/Put", kv_pb2.PutRequest, kv_pb2.PutResponse),
    "DeleteRange": Method(
        "/etcdserverpb.KV/DeleteRange", kv_pb2.DeleteRangeRequest, kv_pb2.DeleteRangeResponse
    ),
    "Txn": Method("/etcdserverpb.KV/Txn", kv_pb2.TxnRequest, kv_pb2.TxnResponse),
    "Compact": Method(
        "/etcdserverpb.KV/Compact", kv_pb2.CompactionRequest, kv_pb2.CompactionResponse
    ),
    "HashKV": Method(
        "/etcdserverpb.Maintenance/HashKV",
        maintenance_pb2.HashKVRequest,
        maintenance_pb2.HashKVResponse,
    ),
    "Alarm": Method(
        "/etcdserverpb.Maintenance/Alarm",
        maintenance_pb2.AlarmRequest,
        maintenance_pb2.AlarmResponse,
    ),
    "MemberList": Method(
        "/etcdserverpb.Cluster/MemberList",
        cluster_pb2.MemberListRequest,
        cluster_pb2.MemberListResponse,
    ),
    **{
        name: Method(
            f"/etcdserverpb.Lease/{name}",
            getattr(lease_pb2, f"{name}Request"),
            getattr(lease_pb2, f"{name}Response"),
        )
        for name in (
            "LeaseGrant",
            "LeaseRevoke",
            "LeaseKeepAlive",  # a stream: one request and one answer are an ordinary call
            "LeaseTimeToLive",
            "LeaseLeases",
        )
    },
    "Unknown": Method("/etcdserverpb.KV/Unknown", kv_pb2.RangeRequest, kv_pb2.RangeResponse),
}


_READS = ("Range", "HashKV", "MemberList", "LeaseTimeToLive", "LeaseLeases", "Unknown")


@dataclass(frozen=True, slots=True)
class Request:
    """One call; `broken` marks bytes that are not a message of the method's type."""

    method: str
    body: bytes
    broken: bool = False

    def message(self) -> Any:
        return METHODS[self.method].request_type.FromString(self.body)

    @property
    def is_read(self) -> bool:
        """True where calls may run at the same time: the answer depends on earlier writes only."""
        if self.broken or self.method in _READS:
            return True
        if self.method == "Txn":
            txn = self.message()
            ops = [*txn.success, *txn.failure]
            return all(op.WhichOneof("request") == "request_range" for op in ops)
        return False

    def text(self) -> str:
        if self.broken:
            return f"{self.method} <bytes {self.body.hex()}>"
        return f"{self.method} {{ {one_line(self.message())} }}"


@dataclass(frozen=True, slots=True)
class Answer:
    code: int
    error: str
    body: bytes


def one_line(message: Any) -> str:
    return str(text_format.MessageToString(message, as_one_line=True))
