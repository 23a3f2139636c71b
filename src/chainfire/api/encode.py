"""Reply bytes, joined from stored rows: no message objects on the hot path.

A row is an encoded KeyValue, a header is made once per (revision, term); a
reply is those bytes with tags and lengths between. The results equal what
protobuf would write for the same messages (tests/api/test_encode.py).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from io import BytesIO
from typing import Final

from chainfire.mvcc.rows import varint
from chainfire.types import DeleteResult, LongRange, OpResult, PutResult, RangeResult, TxnResult

# Tags by their place: field << 3 | wire type (0 varint, 2 length-delimited).
_FIELD_1: Final = b"\x0a"
_FIELD_2: Final = b"\x12"
_FIELD_3: Final = b"\x1a"
_FIELD_4: Final = b"\x22"
_DELETED: Final = b"\x10"
_SUCCEEDED: Final = b"\x10\x01"
_MORE: Final = b"\x18\x01"
_COUNT: Final = b"\x20"
_REVISION: Final = b"\x18"

ROWS_PER_SLICE: Final = 1000
BYTES_PER_SLICE: Final = 1 << 20

_ROW_HEADS: Final = tuple(_FIELD_2 + varint(size) for size in range(4096))
_PREV_HEADS: Final = tuple(_FIELD_3 + varint(size) for size in range(4096))
LEASE_ID_TAG: Final = b"\x10"
_TTL: Final = b"\x18"
_TTL_MS: Final = b"\xc0\x3e"  # field 1000

# All of a ResponseOp for a put, but the revision, by the size of that.
_PUT_HEADS: Final = tuple(
    b"\x1a%c\x12%c\x0a%c\x18" % (size + 5, size + 3, size + 1) for size in range(11)
)
_NO_HEADER: Final = b"\x0a\x00"
_ONE_ROW_END: Final = b"\x20\x01"  # count = 1


class Headers:
    """Field 1 of replies. The last one is kept: a turn's replies mostly share it."""

    __slots__ = ("_field", "_ids", "_revision", "_term")

    def __init__(self, cluster_id: int, member_id: int) -> None:
        self._ids = _number(b"\x08", cluster_id) + _number(b"\x10", member_id)
        self._revision = -1
        self._term = -1
        self._field = b""

    def field(self, revision: int, term: int) -> bytes:
        if revision != self._revision or term != self._term:
            header = self._ids + _number(_REVISION, revision) + _number(b"\x20", term)
            self._field = _FIELD_1 + varint(len(header)) + header
            self._revision, self._term = revision, term
        return self._field


def one_row_reply(header: bytes, row: bytes | None) -> bytes:
    """A RangeResponse for a single key: by far the most frequent one."""
    if row is None:
        return header
    size = len(row)
    head = _ROW_HEADS[size] if size < 4096 else _FIELD_2 + varint(size)
    return b"".join((header, head, row, _ONE_ROW_END))


def range_reply(header: bytes, result: RangeResult) -> bytes:
    parts = [header, *_rows(result.rows, _ROW_HEADS, _FIELD_2)]
    if result.more:
        parts.append(_MORE)
    if result.count:
        parts.append(_COUNT + varint(result.count))
    return b"".join(parts)


def range_reply_steps(header: bytes, result: RangeResult) -> Generator[None, None, bytes]:
    """The same, giving the loop back in between; for few rows it is made at once.

    Takes the rows out of the result as it goes: to let go of a million at once takes 50 ms.
    A BytesIO hands out what it holds without a copy, however large that is.
    """
    if is_short(result):
        return range_reply(header, result)
    rows, result.rows = _as_list(result.rows), ()
    reply = BytesIO()
    reply.write(header)
    yield from _write_rows(reply, rows, _ROW_HEADS, _FIELD_2)
    reply.write(range_reply(b"", result))
    return reply.getvalue()


class PouredReply:
    """A RangeResponse that is written while its first rows are found (`mvcc.read`, `pour`).

    `end_steps` makes it, once, with the rows that were not poured.
    """

    __slots__ = ("_header", "_out")

    def __init__(self, header: bytes) -> None:
        self._header = header
        self._out: BytesIO | None = None

    def pour(self, rows: list[bytes]) -> None:
        if self._out is None:
            self._out = BytesIO()
            self._out.write(self._header)
        self._out.write(b"".join(_rows(rows, _ROW_HEADS, _FIELD_2)))

    def end_steps(self, result: RangeResult) -> Generator[None, None, bytes]:
        if self._out is None:
            return (yield from range_reply_steps(self._header, result))
        self._out.write(range_reply(b"", result))
        return self._out.getvalue()


def _as_list(rows: Sequence[bytes]) -> list[bytes]:
    """Not a copy, if it can be helped: it would touch every row, twice, at 60 ns each."""
    return rows if isinstance(rows, list) else list(rows)


def _write_rows(
    reply: BytesIO, rows: list[bytes], heads: Sequence[bytes], tag: bytes
) -> Generator[None, None, None]:
    """In slices; takes them out of the list."""
    rows.reverse()
    while rows:
        part: list[bytes] = []
        size = 0
        while rows and len(part) < ROWS_PER_SLICE and size < BYTES_PER_SLICE:
            part.append(rows.pop())
            size += len(part[-1])
        reply.write(b"".join(_rows(part, heads, tag)))
        yield


def is_short(result: OpResult) -> bool:
    """Whether its answer may be made at once."""
    if isinstance(result, PutResult):
        return True
    if isinstance(result, LongRange):
        return False
    if isinstance(result, TxnResult):
        for inner in result.results:
            if type(inner) is not PutResult and not is_short(inner):
                return False
        return True
    rows = result.prevs if isinstance(result, DeleteResult) else result.rows
    return len(rows) <= ROWS_PER_SLICE and sum(map(len, rows)) <= BYTES_PER_SLICE


def put_reply(header: bytes, result: PutResult) -> bytes:
    prev = result.prev
    if prev is None:
        return header
    return b"".join((header, _FIELD_2, varint(len(prev)), prev))


def delete_reply(header: bytes, result: DeleteResult) -> bytes:
    if not result.deleted:
        return header
    parts = [header, _DELETED, varint(result.deleted)]
    if result.prevs:
        parts += _rows(result.prevs, _PREV_HEADS, _FIELD_3)
    return b"".join(parts)


def delete_reply_steps(header: bytes, result: DeleteResult) -> Generator[None, None, bytes]:
    """The same, as `range_reply_steps` does it."""
    if is_short(result):
        return delete_reply(header, result)
    rows, result.prevs = _as_list(result.prevs), ()
    reply = BytesIO()
    reply.write(delete_reply(header, result))
    yield from _write_rows(reply, rows, _PREV_HEADS, _FIELD_3)
    return reply.getvalue()


def txn_reply(header: bytes, result: TxnResult) -> bytes:
    parts = [header]
    if result.succeeded:
        parts.append(_SUCCEEDED)
    for inner in result.results:
        if type(inner) is PutResult and inner.prev is None and inner.revision:
            revision = varint(inner.revision)
            parts += (_PUT_HEADS[len(revision)], revision)
        else:
            op = _response_op(inner)
            parts += (_FIELD_3, varint(len(op)), op)
    return b"".join(parts)


def txn_reply_steps(header: bytes, result: TxnResult) -> Generator[None, None, bytes]:
    """The same; what is long in it is read and answered in slices, as `range_reply_steps` does."""
    if is_short(result):
        return txn_reply(header, result)
    reply = BytesIO()
    reply.write(txn_reply(header, TxnResult(0, result.succeeded)))
    for one in result.results:
        inner: OpResult = (yield from one.read()) if isinstance(one, LongRange) else one
        if isinstance(inner, RangeResult):
            body = yield from range_reply_steps(_inner_header(inner.revision), inner)
            op_head = _FIELD_1 + varint(len(body))
        elif isinstance(inner, DeleteResult):
            body = yield from delete_reply_steps(_inner_header(inner.revision), inner)
            op_head = _FIELD_3 + varint(len(body))
        elif isinstance(inner, TxnResult):
            body = yield from txn_reply_steps(_NO_HEADER, inner)
            op_head = _FIELD_4 + varint(len(body))
        else:
            body, op_head = _response_op(inner), b""
        reply.write(_FIELD_3 + varint(len(op_head) + len(body)) + op_head)
        for first in range(0, len(body), BYTES_PER_SLICE):
            reply.write(memoryview(body)[first : first + BYTES_PER_SLICE])
            yield
    return reply.getvalue()


def lease_reply(header: bytes, lease: int, ttl_ms: int) -> bytes:
    """A LeaseGrantResponse or LeaseKeepAliveResponse; TTL 0: there is no such lease."""
    return header + LEASE_ID_TAG + varint(lease) + lease_ttl(ttl_ms)


def lease_ttl(ttl_ms: int) -> bytes:
    """The fields of these two behind the id.

    Part of a second counts as a whole one, or it would say 0 to clients that know no ms.
    """
    if not ttl_ms:
        return b""
    return b"".join((_TTL, varint(-(-ttl_ms // 1000)), _TTL_MS, varint(ttl_ms)))


def leader_reply(header: bytes, row: bytes) -> bytes:
    """A LeaderResponse."""
    return b"".join((header, _FIELD_2, varint(len(row)), row))


def range_stream_reply(range_response: bytes) -> bytes:
    """A RangeStreamResponse."""
    return _FIELD_1 + varint(len(range_response)) + range_response


def _response_op(result: OpResult) -> bytes:
    """A ResponseOp. As in etcd, inner headers hold the revision only, a nested txn's nothing."""
    if isinstance(result, TxnResult):
        tag, body = _FIELD_4, txn_reply(_NO_HEADER, result)
    else:
        assert not isinstance(result, LongRange), "it is not read yet"
        header = _inner_header(result.revision)
        if isinstance(result, RangeResult):
            tag, body = _FIELD_1, range_reply(header, result)
        elif isinstance(result, PutResult):
            tag, body = _FIELD_2, put_reply(header, result)
        else:
            tag, body = _FIELD_3, delete_reply(header, result)
    return b"".join((tag, varint(len(body)), body))


def _inner_header(revision: int) -> bytes:
    field = _number(_REVISION, revision)
    return _FIELD_1 + varint(len(field)) + field


def _rows(rows: Sequence[bytes], heads: Sequence[bytes], tag: bytes) -> list[bytes]:
    parts = []
    for row in rows:
        size = len(row)
        parts.append(heads[size] if size < 4096 else tag + varint(size))
        parts.append(row)
    return parts


def _number(tag: bytes, value: int) -> bytes:
    """A varint field; proto3 leaves zeros out."""
    return tag + varint(value) if value else b""
