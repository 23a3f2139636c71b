"""Which keys there are between two bounds, as far as it is known; bounded in bytes.

A range walks an iterator of the engine, and to place one costs more than ten
small rows are worth: it looks into every memtable and every file of level 0.
So what a walk over few rows has found is remembered as a span: all row keys
of the newest state between its bounds, in order. A later range that lies
within spans takes the keys from here and the rows from the row cache.

Creates and deletes keep the spans true. In an empty keyspace one span holds
everything, so that what is written after is known without a walk. When the
bound is reached, spans that nobody has used since the last time are given up.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence

KEYS_MAX = 128  # of a walk that is remembered, and of an answer; a span holds twice as many
KEY_OVERHEAD_BYTES = 41  # a bytes object and its place in the list
SPAN_OVERHEAD_BYTES = 400


class Span:
    __slots__ = ("keys", "upper", "used")

    def __init__(self, upper: bytes, keys: list[bytes]) -> None:
        self.upper = upper
        self.keys = keys
        self.used = True


class Spans:
    """Disjoint and in order: _lowers[i] < _spans[i].upper <= _lowers[i + 1]."""

    __slots__ = ("_bytes", "_bytes_max", "_lowers", "_spans")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self.clear()

    def clear(self) -> None:
        self._lowers: list[bytes] = []
        self._spans: list[Span] = []
        self._bytes = 0

    # ── reads ───────────────────────────────────────────────────────────────

    def find(self, lower: bytes, upper: bytes) -> list[bytes] | None:
        """All row keys with lower <= key < upper; None: not known, or more than KEYS_MAX."""
        lowers, spans = self._lowers, self._spans
        at = bisect_right(lowers, lower) - 1
        if at < 0:
            return None
        span = spans[at]
        keys = span.keys
        if upper <= span.upper:
            span.used = True
            found = keys[bisect_left(keys, lower) : bisect_left(keys, upper)]
            return found if len(found) <= KEYS_MAX else None
        if lower >= span.upper:
            return None
        found = keys[bisect_left(keys, lower) :]
        while span.upper < upper:
            at += 1
            if at == len(spans) or lowers[at] != span.upper or len(found) > KEYS_MAX:
                return None
            span.used = True
            span = spans[at]
            keys = span.keys
            found += keys[: bisect_left(keys, upper)]
        span.used = True
        return found if len(found) <= KEYS_MAX else None

    def learn(self, lower: bytes, upper: bytes, keys: Sequence[bytes]) -> None:
        """These are all row keys of the newest state with lower <= key < upper, in order."""
        assert lower < upper, (lower, upper)
        if len(keys) > KEYS_MAX or not self._bytes_max:
            return
        lowers, spans = self._lowers, self._spans
        first = bisect_left(lowers, lower)
        if first and spans[first - 1].upper >= lower:
            first -= 1  # it reaches over the lower bound, or ends there
        stop = bisect_right(lowers, upper)
        merged = list(keys)
        if first < stop:
            one, other = spans[first], spans[stop - 1]
            if lowers[first] < lower:
                merged[:0] = one.keys[: bisect_left(one.keys, lower)]
                lower = lowers[first]
            if other.upper > upper:
                merged += other.keys[bisect_left(other.keys, upper) :]
                upper = other.upper
        for span in spans[first:stop]:
            self._bytes -= _size(span.keys)
        lowers[first:stop], spans[first:stop] = [], []
        self._insert(first, lower, upper, merged)
        self._bound()

    # ── changes of the newest state ─────────────────────────────────────────

    def created(self, row_key: bytes) -> None:
        at = bisect_right(self._lowers, row_key) - 1
        if at < 0:
            return
        span = self._spans[at]
        if row_key < span.upper:
            insort(span.keys, row_key)
            self._bytes += len(row_key) + KEY_OVERHEAD_BYTES
            if len(span.keys) > 2 * KEYS_MAX:
                self._split(at)
                self._bound()

    def deleted(self, row_key: bytes) -> None:
        at = bisect_right(self._lowers, row_key) - 1
        if at < 0:
            return
        span = self._spans[at]
        if row_key < span.upper:
            place = bisect_left(span.keys, row_key)
            assert span.keys[place] == row_key, row_key
            del span.keys[place]
            self._bytes -= len(row_key) + KEY_OVERHEAD_BYTES

    # ── pieces, and their bound ─────────────────────────────────────────────

    def _split(self, at: int) -> None:
        lower, span = self._lowers.pop(at), self._spans.pop(at)
        self._bytes -= _size(span.keys)
        self._insert(at, lower, span.upper, span.keys)

    def _insert(self, at: int, lower: bytes, upper: bytes, keys: list[bytes]) -> None:
        """In pieces of at most KEYS_MAX, so that a key is inserted into a short list."""
        cuts = range(KEYS_MAX, len(keys), KEYS_MAX)
        lowers = [lower, *[keys[cut] for cut in cuts]]
        uppers = [*lowers[1:], upper]
        pieces = [
            Span(end, keys[number * KEYS_MAX : (number + 1) * KEYS_MAX])
            for number, end in enumerate(uppers)
        ]
        self._lowers[at:at] = lowers
        self._spans[at:at] = pieces
        self._bytes += sum(_size(piece.keys) for piece in pieces)

    def _bound(self) -> None:
        """Give up what was not used since the last time; if that is not enough, every other."""
        if self._bytes <= self._bytes_max:
            return
        pairs = list(zip(self._lowers, self._spans, strict=True))
        kept = [pair for pair in pairs if pair[1].used]
        if sum(_size(span.keys) for _, span in kept) > self._bytes_max // 2:
            kept = kept[::2]
        self._lowers = [lower for lower, _ in kept]
        self._spans = [span for _, span in kept]
        for span in self._spans:
            span.used = False
        self._bytes = sum(_size(span.keys) for span in self._spans)


def _size(keys: Sequence[bytes]) -> int:
    return SPAN_OVERHEAD_BYTES + sum(map(len, keys)) + KEY_OVERHEAD_BYTES * len(keys)
