"""Ranges of transactions: few rows are read where the transaction is applied, many later.

What a range finds goes to the transaction's caller. Nobody else needs it: not the
hash chain, and no other member. So apply reads ROWS_AT_ONCE at most; a range that
needs more becomes a LongRange, which whoever answers the caller reads, in slices, of
the state as the transaction saw it: a snapshot, what was staged over it, and the
numbers. Meanwhile the store moves on, and compaction, too.

A range that asks for the first ones of a line (mvcc.lines) finds them at once, or is
read later as soon as one of them was too long: whoever reads that one walks for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from chainfire.mvcc.count import Counting
from chainfire.mvcc.lines import Walk
from chainfire.mvcc.ranges import HISTORY, KEYS, Bounds
from chainfire.mvcc.read import (
    ROWS_PER_SLICE,
    Moment,
    Steps,
    is_by_creation,
    known_count,
    range_at,
)
from chainfire.mvcc.state import Apart, StoreState
from chainfire.proto.kv_pb2 import RangeRequest
from chainfire.storage.backend import Reader
from chainfire.types import LongRange, RangeResult

ROWS_AT_ONCE: Final = 1000  # of all ranges of a transaction; 2 ms
ROW_BYTES: Final = 4096  # a larger row counts as several
RANGE_ROWS: Final = 20  # what a range costs before its first row


class Pinnable(Reader, Protocol):
    def pinned(self, spans: Mapping[str, tuple[bytes, bytes]]) -> Reader:
        """What may be read now, between bounds in each family, for as long as somebody has it."""
        ...


class Ranges:
    """Those of one transaction, in their order."""

    __slots__ = ("_rows_left",)

    def __init__(self) -> None:
        self._rows_left = ROWS_AT_ONCE

    def read(
        self, view: Pinnable, store: StoreState, request: RangeRequest, at: Moment
    ) -> RangeResult | LongRange:
        bounds = None
        if request.range_end:
            bounds = Bounds.of(at.prefix, request.key, request.range_end)
        result = self._at_once(view, store, request, at, bounds)
        if result is not None:
            return result
        assert bounds is not None
        spans = {KEYS: (bounds.lower, bounds.upper)}
        if not at.newest:
            spans[HISTORY] = bounds.in_history
        later = _Later(view.pinned(spans), store, request, at, bounds)
        return LongRange(at.header_revision, later.steps)

    def _at_once(
        self,
        view: Reader,
        store: StoreState,
        request: RangeRequest,
        at: Moment,
        bounds: Bounds | None,
    ) -> RangeResult | None:
        """None: it takes too long. Not so without bounds: that is one key, or none."""
        if bounds is not None and is_by_creation(request, at) and store.lines.is_walked(bounds):
            return None
        steps = range_at(view, store, request, at)
        while bounds is None or self._rows_left > 0:
            try:
                next(steps)
            except StopIteration as end:
                result: RangeResult = end.value
                if bounds is not None:
                    size = sum(map(len, result.rows))
                    self._rows_left -= RANGE_ROWS + len(result.rows) + size // ROW_BYTES
                return result
            self._rows_left -= ROWS_PER_SLICE
        steps.close()
        return None


class _Later:
    """What a LongRange is read from."""

    __slots__ = ("_at", "_bounds", "_counting", "_from", "_request", "_store", "_view", "_walk")

    def __init__(
        self, view: Reader, store: StoreState, request: RangeRequest, at: Moment, bounds: Bounds
    ) -> None:
        self._view = view
        self._store = Apart(store, at.keyspace)
        self._request = request
        self._bounds = bounds
        self._at = at
        self._from = store  # hears what was found
        self._walk: Walk | None = None
        self._counting: Counting | None = None
        if is_by_creation(request, at):
            self._walk = store.lines.begin(bounds)
        elif at.newest:
            count = known_count(store, bounds, at)
            if count is None:
                self._counting = store.counts.begin(bounds)
            else:
                self._store.counts.note_rest(bounds, count)

    def steps(self) -> Steps[RangeResult]:
        result = yield from range_at(self._view, self._store, self._request, self._at)
        if self._counting is not None:
            self._from.counts.finish(self._counting, result.count)
        if self._walk is not None:
            order = self._store.lines.find(self._bounds)
            self._from.lines.finish(self._walk, [] if order is None else list(order))
        return result
