"""A set of keys that is the union of ranges."""

from __future__ import annotations

from bisect import bisect_left, bisect_right


class KeySet:
    """Adding and asking cost a binary search (and moving the list)."""

    __slots__ = ("_ends", "_starts")

    def __init__(self) -> None:
        # invariant: starts[i] < ends[i] < starts[i + 1]
        self._starts: list[bytes] = []
        self._ends: list[bytes] = []

    def add(self, start: bytes, end: bytes) -> None:
        """All keys with start <= key < end."""
        if start >= end:
            return
        first = bisect_left(self._ends, start)
        stop = bisect_right(self._starts, end)
        if first < stop:
            start = min(start, self._starts[first])
            end = max(end, self._ends[stop - 1])
        self._starts[first:stop] = [start]
        self._ends[first:stop] = [end]

    def update(self, other: KeySet) -> None:
        for start, end in zip(other._starts, other._ends, strict=True):
            self.add(start, end)

    def __contains__(self, key: bytes) -> bool:
        at = bisect_right(self._starts, key) - 1
        return at >= 0 and key < self._ends[at]
