"""Exact counts that are known already, so that paging through a range stays linear.

A page carries the number of keys in its whole range. Walking to the end of
the range for every page would make reading N keys cost N² steps, so what was
counted is remembered in two small tables, keyed by the bounds on row keys:

    settled   (lower, upper, revision) -> count   never changes: nothing is
              written at a settled revision any more
    live      (lower, upper) -> count             of the newest state; every
              create and delete adjusts it

After a page the rest of its range is noted too: that is the next page's
range. (A counted tree would make every count cheap, and memory grow with the
number of keys.) A live count that begins while its range is still being
walked in slices is adjusted from the first moment on and usable at the end.
Several may walk the same range; the first to end has counted for all.
"""

from __future__ import annotations

from dataclasses import dataclass

from chainfire.mvcc.ranges import Bounds

ROWS_MIN = 256  # counting fewer is cheaper than remembering
BOUND_BYTES_MAX = 1024  # longer bounds are not remembered
SETTLED_MAX = 256
LIVE_MAX = 8  # of each kind: every create and delete looks at all of them


@dataclass(slots=True)
class LiveCount:
    lower: bytes
    upper: bytes
    count: int
    ready: bool  # False: `count` holds only what changed since the walk began


@dataclass(slots=True)
class Counting:
    """Somebody's walk, which ends with `Counts.finish`."""

    entry: LiveCount
    before: int  # the entry's count when the walk began


class Counts:
    __slots__ = ("_counted", "_rests", "_rows_min", "_settled", "changes")

    def __init__(self, rows_min: int = ROWS_MIN) -> None:
        self._rows_min = rows_min
        self._settled: dict[tuple[bytes, bytes, int], int] = {}
        self._counted: dict[tuple[bytes, bytes], LiveCount] = {}
        self._rests: dict[tuple[bytes, bytes], LiveCount] = {}  # what pages have left over
        self.changes = 0  # creates and deletes so far

    # ── reads ───────────────────────────────────────────────────────────────

    def find(self, bounds: Bounds, *, live: bool, settled: int | None) -> int | None:
        """The count of the newest state if `live`, else of revision `settled`, if known."""
        lower, upper = bounds.lower, bounds.upper
        if live:
            for table in (self._counted, self._rests):
                entry = table.get((lower, upper))
                if entry is not None and entry.ready:
                    table[lower, upper] = table.pop((lower, upper))
                    return entry.count
        return None if settled is None else self._settled.get((lower, upper, settled))

    def begin(self, bounds: Bounds) -> Counting:
        """Somebody starts to count the newest state of these bounds; see `finish`."""
        entry = self._counted.get((bounds.lower, bounds.upper))
        if entry is None or entry.ready:
            entry = LiveCount(bounds.lower, bounds.upper, 0, ready=False)
            self._keep(self._counted, entry)
        return Counting(entry, entry.count)

    def finish(self, counting: Counting, counted: int) -> None:
        """There were `counted` keys when it began. More than once is no harm."""
        entry = counting.entry
        if entry.ready:
            return
        entry.count += counted - counting.before
        entry.ready = True
        if counted < self._rows_min:
            self._counted.pop((entry.lower, entry.upper), None)

    def note_settled(self, bounds: Bounds, revision: int, count: int) -> None:
        if count < self._rows_min or not _short(bounds.lower, bounds.upper):
            return
        table = self._settled
        if len(table) >= SETTLED_MAX:
            self._settled = table = dict(list(table.items())[SETTLED_MAX // 2 :])
        table[bounds.lower, bounds.upper, revision] = count

    def note_rest(self, bounds: Bounds, count: int) -> None:
        """The newest state has `count` keys in these bounds: the rest of somebody's page."""
        if count >= self._rows_min:
            self._keep(self._rests, LiveCount(bounds.lower, bounds.upper, count, ready=True))

    def _keep(self, table: dict[tuple[bytes, bytes], LiveCount], entry: LiveCount) -> None:
        if not _short(entry.lower, entry.upper):
            return
        if len(table) >= LIVE_MAX:
            for stale in list(table)[: LIVE_MAX // 2]:
                del table[stale]
        table[entry.lower, entry.upper] = entry

    # ── writes ──────────────────────────────────────────────────────────────

    def created(self, row_key: bytes) -> None:
        self._adjust(row_key, 1)

    def deleted(self, row_key: bytes) -> None:
        self._adjust(row_key, -1)

    def forget_live(self) -> None:
        """Very many keys went: nothing that was counted of the newest state holds."""
        self.changes += 1
        self._counted.clear()
        self._rests.clear()

    def _adjust(self, row_key: bytes, change: int) -> None:
        self.changes += 1
        for table in (self._counted, self._rests):
            for entry in table.values():
                if entry.lower <= row_key < entry.upper:
                    entry.count += change


def _short(lower: bytes, upper: bytes) -> bool:
    return len(lower) + len(upper) <= BOUND_BYTES_MAX
