"""The KV service: decode once, check what needs no state, hand over, answer by joining bytes.

Reads wait until the store may be read at their level and read it here. Writes
go to the log as the very bytes that the client sent. Every handler is a plain
function; what happens later is the function named in `call.then` or
`call.resume`.

The order of checks is etcd's: quota, syntax, size (RequestTooLarge), alarms.
"""

from __future__ import annotations

import asyncio
from typing import cast

from google.protobuf.message import DecodeError

from chainfire import quota
from chainfire.api import encode, plain
from chainfire.api.call import Call, Stream
from chainfire.api.reads import level_of, level_of_all, wait_until
from chainfire.api.services import Services
from chainfire.api.space import may_lack_room, over_quota, propose_growth
from chainfire.command import CommandKind, decode_request
from chainfire.errors import Malformed, RequestTooLarge
from chainfire.mvcc import read, syntax
from chainfire.mvcc.read import Steps
from chainfire.mvcc.store import Mvcc
from chainfire.mvcc.stream import stream_steps
from chainfire.mvcc.txn import is_read_only, read_txn_steps
from chainfire.proto.kv_pb2 import (
    LINEARIZABLE,
    SERIALIZABLE,
    CompactionRequest,
    PutRequest,
    RangeRequest,
    TxnRequest,
)
from chainfire.types import (
    CompactResult,
    DeleteResult,
    PutResult,
    RangeResult,
    TxnResult,
)

_KEYSPACE = 0  # the view of a stock etcd client

_PUT = int(CommandKind.PUT)
_DELETE_RANGE = int(CommandKind.DELETE_RANGE)
_TXN = int(CommandKind.TXN)
_COMPACT = int(CommandKind.COMPACT)
_ALARM = int(CommandKind.ALARM)

# ── Range ───────────────────────────────────────────────────────────────────


def range_(services: Services, call: Call) -> None:
    """Refused with EmptyKey, InvalidSortOption, InvalidArgument, Compacted, FutureRevision."""
    body = call.request
    key, level = plain.get_key(body), LINEARIZABLE
    if key is None:
        key, level = plain.serializable_get_key(body), SERIALIZABLE
    if key is not None:
        call.message = key
        call.resume = _get_ready
        services.node.read(level, 0, call.deadline, call)
        return
    bounds = plain.range_bounds(body)
    if bounds is not None:
        call.message = bounds
        call.resume = _rows_ready
        services.node.read(SERIALIZABLE if bounds[2] else LINEARIZABLE, 0, call.deadline, call)
        return
    request = _decode_range(body)
    syntax.check_range(request)
    call.message = request
    call.resume = _range_ready
    services.node.read(level_of(request), request.min_revision, call.deadline, call)


def _decode_range(body: bytes) -> RangeRequest:
    try:
        return RangeRequest.FromString(body)
    except DecodeError as exc:
        raise Malformed.of(exc) from exc


def _get_ready(call: Call) -> None:
    services = call.services
    store = services.node.store
    row = store.get_row(_KEYSPACE, call.message)
    call.reply(encode.one_row_reply(services.header(store.revision), row))


def _rows_ready(call: Call) -> None:
    services = call.services
    store = services.node.store
    key, range_end, _ = call.message
    rows = store.get_rows(_KEYSPACE, key, range_end)
    if rows is None or sum(map(len, rows)) > encode.BYTES_PER_SLICE:
        call.message = _decode_range(call.request)
        _range_ready(call)
    else:
        result = RangeResult(store.revision, rows, False, len(rows))
        call.reply(encode.range_reply(services.header(store.revision), result))


def _range_ready(call: Call) -> None:
    node = call.services.node
    call.then = _long_reply_done
    services, store, request = call.services, node.store, call.message
    services.long_replies.run(call, lambda: _range_reply_steps(services, store, request))


def _range_reply_steps(services: Services, store: Mvcc, request: RangeRequest) -> Steps[bytes]:
    reply = encode.PouredReply(services.header(store.revision))
    steps = read.range_steps(store.view, store, _KEYSPACE, request, pour=reply.pour)
    return (yield from reply.end_steps((yield from steps)))


def _reply_in_slices(call: Call, steps: Steps[bytes]) -> None:
    call.then = _long_reply_done
    call.run_steps(steps)


def _long_reply_done(call: Call, reply: bytes) -> None:
    call.reply(reply)


async def range_stream(services: Services, stream: Stream) -> None:
    """A range in chunks, all of one revision; header, more and count come with the last one."""
    request = _decode_range(stream.request)
    syntax.check_range_stream(request)
    node = services.node
    await wait_until(node, level_of(request), request.min_revision, stream.deadline)
    chunks = stream_steps(
        node.store.view,
        node.store,
        _KEYSPACE,
        request,
        chunk_bytes=services.limits.max_request_bytes,
    )
    result: RangeResult | None = None
    while result is None:
        rows: list[bytes] | None = None
        try:
            rows = next(chunks)
        except StopIteration as end:
            result = end.value
        if rows is not None:
            chunk = encode.range_reply(b"", RangeResult(0, rows, False, 0))
            await stream.send(encode.range_stream_reply(chunk))
        elif result is None:
            await asyncio.sleep(0)
    header = services.header(result.revision)
    await stream.send(encode.range_stream_reply(encode.range_reply(header, result)))


# ── Put, DeleteRange ────────────────────────────────────────────────────────


def put(services: Services, call: Call) -> None:
    """Refused with NoSpace, EmptyKey, ValueProvided, LeaseProvided, KeyNotFound, LeaseNotFound."""
    body = call.request
    call.then = _put_done
    if plain.is_put(body) and not may_lack_room(services, body):
        _propose(services, call, _PUT)
        return
    request: PutRequest = decode_request(_PUT, body)
    if over_quota(services, call, request):
        return
    syntax.check_put(request)
    _propose_growth(services, call, _PUT)


def _put_done(call: Call, result: PutResult) -> None:
    call.reply(encode.put_reply(call.services.header(result.revision), result))


def delete_range(services: Services, call: Call) -> None:
    """Refused with EmptyKey. That nothing was deleted is an answer."""
    if not plain.is_delete(call.request):
        syntax.check_delete(decode_request(_DELETE_RANGE, call.request))
    call.then = _delete_done
    _propose(services, call, _DELETE_RANGE)


def _delete_done(call: Call, result: DeleteResult) -> None:
    header = call.services.header(result.revision)
    if encode.is_short(result):
        call.reply(encode.delete_reply(header, result))
    else:
        _reply_in_slices(call, encode.delete_reply_steps(header, result))


# ── Txn ─────────────────────────────────────────────────────────────────────


def txn(services: Services, call: Call) -> None:
    """Refused as its operations are, and with TooManyOps, DuplicateKey: then none took effect."""
    body, max_ops = call.request, services.limits.max_txn_ops
    if plain.is_txn(body, max_ops) and not may_lack_room(services, body):
        call.then = _txn_done
        _propose(services, call, _TXN)
        return
    request: TxnRequest = decode_request(_TXN, body)
    lacks_room = may_lack_room(services, body)
    if lacks_room and over_quota(services, call, request):
        return
    syntax.check_txn(request, max_ops)
    if is_read_only(request):
        level, min_revision = level_of_all(
            [op.request_range for op in (*request.success, *request.failure)]
        )
        call.message = request
        call.resume = _read_only_txn_ready
        services.node.read(level, min_revision, call.deadline, call)
        return
    call.then = _txn_done
    if lacks_room and quota.has_put(request):
        _propose_growth(services, call, _TXN)
    else:
        _propose(services, call, _TXN)


def _read_only_txn_ready(call: Call) -> None:
    node = call.services.node
    call.then = _long_reply_done
    services, store, request = call.services, node.store, call.message
    services.long_replies.run(call, lambda: _txn_reply_steps(services, store, request))


def _txn_reply_steps(services: Services, store: Mvcc, request: TxnRequest) -> Steps[bytes]:
    result = yield from read_txn_steps(store.view, store, _KEYSPACE, request)
    return (yield from encode.txn_reply_steps(services.header(result.revision), result))


def _txn_done(call: Call, result: TxnResult) -> None:
    header = call.services.header(result.revision)
    if encode.is_short(result):
        call.reply(encode.txn_reply(header, result))
    else:
        call.then = _long_reply_done
        replies = call.services.long_replies
        replies.run_once(call, lambda: encode.txn_reply_steps(header, result))


# ── Compact ─────────────────────────────────────────────────────────────────


def compact(services: Services, call: Call) -> None:
    """With `physical` answered once they are gone. Refused with Compacted, FutureRevision."""
    call.message = decode_request(_COMPACT, call.request)
    call.then = _compact_applied
    _propose(services, call, _COMPACT)


def _compact_applied(call: Call, result: CompactResult) -> None:
    request = cast(CompactionRequest, call.message)
    call.message = call.services.header(result.revision)
    if request.physical:
        call.resume = _compact_done
        call.services.node.when_compacted(request.revision, call)
    else:
        _compact_done(call)


def _compact_done(call: Call) -> None:
    call.reply(call.message)


# ── what writes have in common ──────────────────────────────────────────────


def _propose(services: Services, call: Call, kind: int) -> None:
    _check_size(services, call)
    services.node.propose(kind, call.request, call)


def _propose_growth(services: Services, call: Call, kind: int) -> None:
    _check_size(services, call)
    propose_growth(services.node, kind, call.request, call, call.deadline)


def _check_size(services: Services, call: Call) -> None:
    if len(call.request) > services.limits.max_request_bytes:
        raise RequestTooLarge
