"""The cohorts that are behind: by keyspace and by the revision at which each stands."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Sequence

from chainfire.mvcc.rows import KEYSPACE_BYTES
from chainfire.watch.groups import Cohort, Span

_NONE_ABOVE = 1 << 63


def keyspace_of(spans: Sequence[Span]) -> int:
    first = spans[0]
    row_key = first if isinstance(first, bytes) else first[0]
    return int.from_bytes(row_key[:KEYSPACE_BYTES])


class Behind:
    """No two cohorts of a keyspace stand at the same revision; none is empty for long."""

    def __init__(self) -> None:
        self._cohorts: dict[tuple[int, int], Cohort] = {}
        self._places: dict[int, list[int]] = {}  # by keyspace: where cohorts stand, ascending
        self._turns: deque[Cohort] = deque()  # may hold some that have left

    def __bool__(self) -> bool:
        return bool(self._cohorts)

    def at(self, keyspace: int, place: int) -> Cohort:
        """The cohort there, a new one if need be."""
        cohort = self._cohorts.get((keyspace, place))
        if cohort is None:
            cohort = Cohort(keyspace, place)
            self._add(cohort)
        return cohort

    def put(self, cohort: Cohort) -> None:
        """One that was taken; it becomes one with the cohort that stands there, if any does."""
        other = self._cohorts.get((cohort.keyspace, cohort.next))
        if other is None:
            self._add(cohort)
            return
        if other.size < cohort.size:  # the smaller one moves: each group, logarithmically often
            self.discard(other)
            self._add(cohort)
            other, cohort = cohort, other
        while cohort.size:
            other.adopt(cohort.pop())

    def take(self) -> Cohort | None:
        """The one whose turn it is. It is out until it is put back."""
        while self._turns:
            cohort = self._turns.popleft()
            if self.discard(cohort) and cohort.size:
                return cohort
        return None

    def above(self, cohort: Cohort) -> int:
        """Where the next cohort of this keyspace stands; far away, if there is none."""
        places = self._places.get(cohort.keyspace, ())
        at = bisect_right(places, cohort.next)
        return places[at] if at < len(places) else _NONE_ABOVE

    def discard(self, cohort: Cohort) -> bool:
        """Whether it was here."""
        key = cohort.keyspace, cohort.next
        if self._cohorts.get(key) is not cohort:
            return False
        del self._cohorts[key]
        places = self._places[cohort.keyspace]
        del places[bisect_left(places, cohort.next)]
        return True

    def _add(self, cohort: Cohort) -> None:
        self._cohorts[cohort.keyspace, cohort.next] = cohort
        insort(self._places.setdefault(cohort.keyspace, []), cohort.next)
        self._turns.append(cohort)
