"""A range in chunks (RangeStream): no chunk is large, and together they are the unary answer.

The revision is pinned when the first chunk is read. Each chunk is a read of
its own, so that a slow client pins nothing in the engine; a compaction that
overtakes it ends the stream with Compacted, as in etcd.
"""

from __future__ import annotations

from collections.abc import Generator

from chainfire.mvcc import rows
from chainfire.mvcc.ranges import Bounds
from chainfire.mvcc.read import (
    BYTES_PER_SLICE,
    ROWS_PER_SLICE,
    Moment,
    Steps,
    count_steps,
    range_at,
)
from chainfire.mvcc.state import StoreState
from chainfire.proto.kv_pb2 import RangeRequest
from chainfire.storage.backend import Reader
from chainfire.types import RangeResult

FIRST_CHUNK_ROWS = 10


def stream_steps(
    view: Reader,
    store: StoreState,
    keyspace: int,
    request: RangeRequest,
    *,
    chunk_bytes: int,
    rows_per_slice: int = ROWS_PER_SLICE,
) -> Generator[list[bytes] | None, None, RangeResult]:
    """Yields chunks of rows, and None where the loop may be given back.

    The last rows come in the returned result, with `more` and `count` of the
    whole. The request has passed `syntax.check_range_stream`. Raises
    Compacted, FutureRevision.
    """
    at = Moment.of(store, keyspace, request.revision)
    bounds = Bounds.of(at.prefix, request.key, request.range_end) if request.range_end else None
    if bounds is None or request.count_only:
        return (yield from range_at(view, store, request, at, rows_per_slice))
    limit = max(request.limit, 0)
    chunk_rows, sent = FIRST_CHUNK_ROWS, 0
    while True:
        at = at.renewed(store)
        wanted = min(chunk_rows, limit - sent) if limit else chunk_rows
        found = yield from _rows(view, store, bounds, wanted + 1, at, rows_per_slice)
        is_last = len(found) <= wanted
        chunk = found[:wanted]
        if chunk:
            bounds = bounds.after(rows.decode(chunk[-1]).key)
        if request.keys_only:
            chunk = [rows.without_value(row) for row in chunk]
        if is_last or sent + len(chunk) == limit:
            break
        yield chunk
        sent += len(chunk)
        chunk_rows = _next_size(chunk_rows, sum(map(len, chunk)), chunk_bytes)
    count = sent + len(chunk)
    if not is_last:
        at = at.renewed(store)
        count += yield from count_steps(view, store, bounds, at, rows_per_slice)
    return RangeResult(at.header_revision, chunk, not is_last, count)


def _next_size(chunk_rows: int, size: int, chunk_bytes: int) -> int:
    """Towards `chunk_bytes`, which the next chunk should not exceed if rows stay alike."""
    if size > chunk_bytes:
        return max(chunk_rows // 2, 1)
    return chunk_rows * 2 if size * 2 <= chunk_bytes else chunk_rows


def _rows(
    view: Reader, store: StoreState, bounds: Bounds, wanted: int, at: Moment, rows_per_slice: int
) -> Steps[list[bytes]]:
    found: list[bytes] = []
    size = 0
    for row in at.rows(view, bounds):
        found.append(row)
        if len(found) == wanted:
            break
        size += len(row)
        if len(found) % rows_per_slice == 0 or size > BYTES_PER_SLICE:
            size = 0
            yield
            at.ensure_not_compacted(store)
    return found
