"""Between the checkers' plain data and etcd's messages: requests out, answers in, events."""

from __future__ import annotations

from typing import Any, NamedTuple

import grpc

from chainfire.command import CommandKind
from chainfire.proto import kv_pb2 as pb
from chainfire.sim.history import (
    Change,
    Compact,
    CompactDone,
    Delete,
    DeleteDone,
    Event,
    Kv,
    Put,
    PutDone,
    Range,
    RangeDone,
    Refused,
    Response,
    Txn,
    TxnDone,
)
from chainfire.sim.wire import LEVELS, command_of, range_of

Request = Put | Delete | Range | Txn | Compact

# Errors that say that nothing was done and nothing will be.
_WITHOUT_A_TRACE = {
    "etcdserver: mvcc: required revision has been compacted": "Compacted",
    "etcdserver: mvcc: required revision is a future revision": "FutureRevision",
    "etcdserver: requested lease not found": "LeaseNotFound",
}


class _Method(NamedTuple):
    path: str
    reply: Any


_METHODS = {
    CommandKind.PUT: _Method("/etcdserverpb.KV/Put", pb.PutResponse),
    CommandKind.DELETE_RANGE: _Method("/etcdserverpb.KV/DeleteRange", pb.DeleteRangeResponse),
    CommandKind.TXN: _Method("/etcdserverpb.KV/Txn", pb.TxnResponse),
    CommandKind.COMPACT: _Method("/etcdserverpb.KV/Compact", pb.CompactionResponse),
}
_RANGE = _Method("/etcdserverpb.KV/Range", pb.RangeResponse)


async def ask(channel: grpc.aio.Channel, request: Request, seconds: float) -> Response | None:
    """What was answered; None: the outcome is unknown."""
    if isinstance(request, Range):
        message = range_of(request)
        message.consistency = LEVELS[request.level]  # type: ignore[index]
        method, body = _RANGE, message.SerializeToString()
    else:
        kind, body = command_of(request)
        method = _METHODS[CommandKind(kind)]
    try:
        reply = await channel.unary_unary(method.path)(body, timeout=seconds)
    except grpc.aio.AioRpcError as error:
        why = _WITHOUT_A_TRACE.get(error.details() or "")
        return None if why is None else Refused(why)
    return response_of(request, method.reply.FromString(reply))


def response_of(request: Request, reply: Any) -> Response:
    revision = reply.header.revision
    if isinstance(request, Compact):
        return CompactDone(revision)
    if isinstance(request, Txn):
        ops = request.success if reply.succeeded else request.failure
        results = tuple(
            _op_done(op, getattr(response, response.WhichOneof("response")), revision)
            for op, response in zip(ops, reply.responses, strict=True)
        )
        return TxnDone(revision, reply.succeeded, results)
    return _op_done(request, reply, revision)


def _op_done(
    request: Put | Delete | Range, reply: Any, revision: int
) -> PutDone | DeleteDone | RangeDone:
    if isinstance(request, Put):
        return PutDone(revision, kv_of(reply.prev_kv) if reply.HasField("prev_kv") else None)
    if isinstance(request, Delete):
        return DeleteDone(revision, reply.deleted, tuple(map(kv_of, reply.prev_kvs)))
    return RangeDone(revision, tuple(map(kv_of, reply.kvs)), reply.more, reply.count)


def kv_of(kv: pb.KeyValue) -> Kv:
    return Kv(kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease)


def change_of(event: pb.Event) -> Change:
    return Change(kv_of(event.kv), event.type == pb.Event.DELETE)


def event_of(event: pb.Event) -> Event:
    prev = kv_of(event.prev_kv) if event.HasField("prev_kv") else None
    return Event(kv_of(event.kv), event.type == pb.Event.DELETE, prev)
