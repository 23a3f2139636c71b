"""Ranges as etcd answers them: revision, limit, filters, sort, keys only, count.

Everything is a generator that yields where the caller may give the loop back
for a while, after so many rows or bytes; nothing is read before the first
step. Rules that surprise:

- `count` ignores limit and filters; `more` says that the limit cut something
  that had passed the filters.
- A sort target with order NONE sorts what the limit has left (etcd's quirk):
  limit + 1 rows in key order are taken, sorted, and then cut.
- Equal sort keys stay in key order, also when descending. (etcd's sort is
  not stable, so no client can rely on another order.)
- The few first ones in the order of creation are found without a walk where
  somebody has walked for them before (mvcc.lines).
- A read in slices at an old revision fails with Compacted if a compaction
  overtakes it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from typing import Final, TypeVar

from chainfire.errors import Compacted, FutureRevision
from chainfire.mvcc import rows
from chainfire.mvcc.lines import ORDER_MAX, Order, Walk, taken
from chainfire.mvcc.order import (
    drop_values_steps,
    has_filters,
    key_order,
    limit_before_sort,
    passes,
    sorted_steps,
)
from chainfire.mvcc.ranges import KEYS, Bounds, current_rows, key_values, rows_at, version_at
from chainfire.mvcc.state import StoreState
from chainfire.proto.kv_pb2 import RangeRequest
from chainfire.storage.backend import Reader
from chainfire.types import RangeResult

ROWS_PER_SLICE = 250  # half a millisecond
BYTES_PER_SLICE = 1 << 20
NOTED_ROWS_MAX = 100  # of a walk that is noted (mvcc.spans); a millisecond at most
FIRST_ROWS_MAX: Final = 8  # more are found faster by a walk than one by one
_T = TypeVar("_T")
Steps = Generator[None, None, _T]  # the generator's return value is the result
Pour = Callable[[list[bytes]], None]  # takes KeyValues

_EVERY_ROW: Final = RangeRequest()
_OLDEST_FIRST: Final = RangeRequest(sort_target=RangeRequest.CREATE)


def range_steps(
    view: Reader,
    store: StoreState,
    keyspace: int,
    request: RangeRequest,
    *,
    rows_per_slice: int = ROWS_PER_SLICE,
    pour: Pour | None = None,
) -> Steps[RangeResult]:
    """A range of the applied state. Raises Compacted, FutureRevision.

    `pour` takes the first rows of a long answer slice by slice, where they are found in the order
    that is asked for; the result has the rest. Nobody holds all of them then: a million objects
    in a list cost the collector 40 ms each time it looks at them.
    """
    at = Moment.of(store, keyspace, request.revision)
    return (yield from range_at(view, store, request, at, rows_per_slice, pour))


def run(steps: Steps[_T]) -> _T:
    """All steps at once."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result: _T = stop.value
            return result


@dataclass(slots=True)
class Moment:
    """Which state of which keyspace a read is about; the read's own idea of "now"."""

    keyspace: int
    prefix: bytes
    revision: int  # to read at
    header_revision: int  # the newest when the read began
    newest: bool  # key_value alone answers
    settled: bool  # nothing more will be written at `revision`

    @classmethod
    def of(cls, store: StoreState, keyspace: int, revision: int, *, settled: bool = True) -> Moment:
        """`revision` as requested: 0 and less mean the newest. `settled`: the newest is, too."""
        newest = store.revision
        if revision > newest:
            raise FutureRevision
        if revision <= 0:
            revision = newest
        if revision < store.keyspace(keyspace).compacted:
            raise Compacted
        return cls(
            keyspace=keyspace,
            prefix=rows.keyspace_prefix(keyspace),
            revision=revision,
            header_revision=newest,
            newest=revision == newest,
            settled=settled or revision < newest,
        )

    def rows(self, view: Reader, bounds: Bounds) -> Iterator[bytes]:
        if self.newest:
            return current_rows(view, bounds)
        return rows_at(view, bounds, self.revision)

    def renewed(self, store: StoreState) -> Moment:
        """The same revision, seen from now. Raises Compacted."""
        at = Moment.of(store, self.keyspace, self.revision)
        at.header_revision = self.header_revision
        return at

    def ensure_not_compacted(self, store: StoreState) -> None:
        """Owed after each pause of a walk that is not pinned as a whole."""
        if not self.newest and self.revision < store.keyspace(self.keyspace).compacted:
            raise Compacted


def range_at(
    view: Reader,
    store: StoreState,
    request: RangeRequest,
    at: Moment,
    rows_per_slice: int = ROWS_PER_SLICE,
    pour: Pour | None = None,
) -> Steps[RangeResult]:
    if not request.range_end:
        return _one_key(view, store, request, at)
    bounds = Bounds.of(at.prefix, request.key, request.range_end)
    if bounds is None:
        return RangeResult(at.header_revision, [], False, 0)
    if request.count_only:
        count = yield from count_steps(view, store, bounds, at, rows_per_slice)
        return RangeResult(at.header_revision, [], False, count)
    if is_by_creation(request, at):
        return (yield from _by_creation(view, store, request, bounds, at, rows_per_slice))
    limit = max(request.limit, 0)
    descending = key_order(request) == RangeRequest.DESCEND
    pageable = limit_before_sort(request) or (descending and at.newest)
    if limit and pageable and not has_filters(request):
        page = yield from _page(view, store, bounds, limit, at, descending, rows_per_slice)
        found, count = page.rows, page.count
    else:
        as_found = not (limit or descending or request.sort_target != RangeRequest.KEY)
        page = yield from _all(
            view, store, request, bounds, at, rows_per_slice, pour if as_found else None
        )
        found, count = page.rows, page.count
        if descending:
            found.reverse()
    del page  # who makes the reply lets go of rows as it goes
    if request.sort_target != RangeRequest.KEY:
        found = yield from sorted_steps(found, request, rows_per_slice)
    more = 0 < limit < len(found)
    if more:
        found = found[:limit]
    if request.keys_only:
        yield from drop_values_steps(found, rows_per_slice)
    return RangeResult(at.header_revision, found, more, count)


def _one_key(view: Reader, store: StoreState, request: RangeRequest, at: Moment) -> RangeResult:
    row: bytes | None
    if at.newest:
        row_key = at.prefix + request.key
        row = store.cache.get(row_key) or view.get(KEYS, row_key)
        if row is not None:
            row = row[rows.ROW_HEAD_BYTES :]
    else:
        row = version_at(view, at.prefix, request.key, at.revision)
    if row is None:
        return RangeResult(at.header_revision, [], False, 0)
    if request.count_only or (has_filters(request) and not passes(row, request)):
        return RangeResult(at.header_revision, [], False, 1)
    if request.keys_only:
        row = rows.without_value(row)
    return RangeResult(at.header_revision, [row], False, 1)


# ── walking ─────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class _Found:
    rows: list[bytes]  # of a page: one more than the limit, if there are more
    count: int  # of the whole range, filtered or not


def _all(
    view: Reader,
    store: StoreState,
    request: RangeRequest,
    bounds: Bounds,
    at: Moment,
    rows_per_slice: int,
    pour: Pour | None,
) -> Steps[_Found]:
    """Every row that passes the filters. Few rows are noted for whoever asks for them next."""
    filtered = has_filters(request)
    found: list[bytes] = []
    walk: Iterator[bytes]
    if at.newest and not filtered:
        pairs = view.iterate(KEYS, bounds.lower, bounds.upper)
        noted_max = min(NOTED_ROWS_MAX, rows_per_slice - 1)  # without a pause
        first = list(islice(pairs, noted_max + 1))
        found = [row[rows.ROW_HEAD_BYTES :] for _, row in first]
        if len(first) <= noted_max:
            store.note_rows(bounds, first)
            return _Found(found, len(found))
        walk = key_values(pairs)
    else:
        walk = at.rows(view, bounds)
    seen, size = len(found), 0
    for row in walk:
        if not filtered or passes(row, request):
            found.append(row)
        seen += 1
        size += len(row)
        if seen % rows_per_slice == 0 or size > BYTES_PER_SLICE:
            size = 0
            if pour is not None:
                pour([rows.without_value(row) for row in found] if request.keys_only else found)
                found = []
            yield
            at.ensure_not_compacted(store)
    return _Found(found, seen)


def _page(
    view: Reader,
    store: StoreState,
    bounds: Bounds,
    limit: int,
    at: Moment,
    descending: bool,
    rows_per_slice: int,
) -> Steps[_Found]:
    """limit + 1 rows in key order, and the count of the whole range, noted for the next page."""
    counts = store.counts
    count = known_count(store, bounds, at)
    changes = counts.changes
    walk = current_rows(view, bounds, reverse=True) if descending else at.rows(view, bounds)
    found: list[bytes] = []
    size = 0
    for row in walk:
        found.append(row)
        if len(found) > limit:
            break
        size += len(row)
        if len(found) % rows_per_slice == 0 or size > BYTES_PER_SLICE:
            size = 0
            yield
            at.ensure_not_compacted(store)
    else:
        return _Found(found, len(found))
    last_key = rows.decode(found[limit - 1]).key
    rest = bounds.before(last_key) if descending else bounds.after(last_key)
    if count is None and at.newest and counts.changes == changes:
        # No key came or went since the walk began: count without reading values.
        entry = counts.begin(bounds)
        count = limit + (yield from count_steps(view, store, rest, at, rows_per_slice))
        counts.finish(entry, count)
    elif count is None:
        count = len(found)
        for _ in walk:
            count += 1
            if count % rows_per_slice == 0:
                yield
                at.ensure_not_compacted(store)
    if at.settled:
        counts.note_settled(bounds, at.revision, count)
        counts.note_settled(rest, at.revision, count - limit)
    if at.newest and counts.changes == changes:
        counts.note_rest(rest, count - limit)
    return _Found(found, count)


# ── the order of creation ───────────────────────────────────────────────────


def is_by_creation(request: RangeRequest, at: Moment) -> bool:
    """Whether the few oldest or youngest keys of the newest state are asked for."""
    return (
        request.sort_target == RangeRequest.CREATE
        and request.sort_order != RangeRequest.NONE
        and 0 < request.limit <= FIRST_ROWS_MAX
        and at.newest
        and not request.count_only
        and not (request.min_mod_revision or request.max_mod_revision)
    )


def _by_creation(
    view: Reader,
    store: StoreState,
    request: RangeRequest,
    bounds: Bounds,
    at: Moment,
    rows_per_slice: int,
) -> Steps[RangeResult]:
    known = store.lines.find(bounds)
    if known is not None:
        row_keys, more = _first(known, request)
        found = [_row(view, store, row_key) for row_key in row_keys]
        count = len(known)
    else:
        walked = yield from _walk_line(view, store, bounds, at, rows_per_slice)
        found, more = _first(walked, request)
        count = len(walked)
    if request.keys_only:
        found = [rows.without_value(row) for row in found]
    return RangeResult(at.header_revision, found, more, count)


def _walk_line(
    view: Reader, store: StoreState, bounds: Bounds, at: Moment, rows_per_slice: int
) -> Steps[Order]:
    """All rows in the order of creation, noted for whoever asks for them next."""
    lines = store.lines
    walking = _all(view, store, _EVERY_ROW, bounds, at, rows_per_slice, None)
    walk: Walk | None = None  # from before the first pause on
    try:
        next(walking)
    except StopIteration as end:
        page: _Found = end.value
        if page.count >= lines.keys_min:
            walk = lines.begin(bounds)
    else:
        walk = lines.begin(bounds)
        yield
        page = yield from walking
    by_row = yield from _order_steps(page.rows, rows_per_slice)
    if walk is not None and page.count <= ORDER_MAX:
        by_key: Order = []
        for created, row in by_row:
            by_key.append((created, bounds.prefix + rows.decode(row).key))
            if len(by_key) % rows_per_slice == 0:
                yield
        lines.finish(walk, by_key)
    return by_row


def _order_steps(found: Sequence[bytes], rows_per_slice: int) -> Steps[Order]:
    """The rows in the order of creation."""
    are_many = len(found) > rows_per_slice
    if are_many:
        found = yield from sorted_steps(found, _OLDEST_FIRST, rows_per_slice)
    order: Order = []
    for row in found:
        order.append((rows.decode(row).create_revision, row))
        if len(order) % rows_per_slice == 0:
            yield
    if not are_many:
        order.sort(key=itemgetter(0))
    return order


def _first(order: Order, request: RangeRequest) -> tuple[list[bytes], bool]:
    return taken(
        order,
        request.limit,
        request.sort_order == RangeRequest.DESCEND,
        request.min_create_revision,
        request.max_create_revision,
    )


def _row(view: Reader, store: StoreState, row_key: bytes) -> bytes:
    row = store.cache.get(row_key) or view.get(KEYS, row_key)
    assert row is not None, row_key
    return row[rows.ROW_HEAD_BYTES :]


# ── counting ────────────────────────────────────────────────────────────────


def known_count(store: StoreState, bounds: Bounds, at: Moment) -> int | None:
    if at.newest and bounds.is_everything:
        return store.keyspace(at.keyspace).keys
    settled = at.revision if at.settled else None
    return store.counts.find(bounds, live=at.newest, settled=settled)


def count_steps(
    view: Reader, store: StoreState, bounds: Bounds, at: Moment, rows_per_slice: int
) -> Steps[int]:
    """The exact number of keys in the bounds."""
    count = known_count(store, bounds, at)
    if count is not None:
        return count
    counts = store.counts
    entry = counts.begin(bounds) if at.newest else None
    walk: Iterator[bytes]
    if at.newest:
        walk = view.keys(KEYS, bounds.lower, bounds.upper)
    else:
        walk = rows_at(view, bounds, at.revision)
    count = 0
    for _ in walk:
        count += 1
        if count % rows_per_slice == 0:
            yield
            at.ensure_not_compacted(store)
    if entry is not None:
        counts.finish(entry, count)
    if at.settled:
        counts.note_settled(bounds, at.revision, count)
    return count
