"""Keys in the order of their creation: who is first, or right before whom, without a walk.

Who contends for a lock or an election by etcd's recipe asks a range for its
oldest key, in the very transaction that adds one, and then for the youngest
key that is older than its own. To find it, a walk would look at all of them;
of a thousand that come together, each at a thousand. So what a walk for one
of them has found is remembered as a line: the row keys of the newest state
between two bounds, and the revisions at which they were created.

Creates and deletes keep the lines true; a key keeps its revision as long as
it lives. While a range is being walked in slices, what comes and goes is
noted, and made up for at the end. Several may walk the same range; the first
to end has walked for all. Lines are few, and bounded in bytes.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import Final

from chainfire.mvcc import rows
from chainfire.mvcc.ranges import Bounds

KEYS_MIN: Final = 16  # to walk past fewer is cheaper than to remember them
LINES_MAX: Final = 8  # every create and delete looks at all of them, and at as many walks
BYTES_MAX: Final = 8 << 20  # of all lines together: some thirty thousand keys
KEY_OVERHEAD_BYTES: Final = 200  # objects, and their places in a list and in a dict
ORDER_MAX: Final = BYTES_MAX // KEY_OVERHEAD_BYTES  # more keys are no line

Order = list[tuple[int, bytes]]  # create revision and row key, or row


def taken(
    order: Order, limit: int, descending: bool, lowest: int, highest: int
) -> tuple[list[bytes], bool]:
    """The first ones of those that were created between the two revisions, and whether there are
    more; a revision that is 0 is no bound. `order` is by revision, and then by key.

    Of one revision they come in the order of keys, also when descending.
    """
    first = bisect_left(order, (lowest, b"")) if lowest else 0
    stop = bisect_left(order, (highest + 1, b"")) if highest else len(order)
    if not descending:
        found = order[first : min(stop, first + limit)]
    else:
        found = []
        end = stop
        while end > first and len(found) < limit:
            begin = bisect_left(order, (order[end - 1][0], b""))
            found += order[begin : min(end, begin + limit - len(found))]
            end = begin
    return [one for _, one in found], stop - first > limit


class Line:
    __slots__ = ("_changes", "_created", "_is_ready", "lower", "order", "size", "upper")

    def __init__(self, lower: bytes, upper: bytes) -> None:
        self.lower = lower
        self.upper = upper
        self.order: Order = []
        self.size = 0  # bytes that it holds, about
        self._created: dict[bytes, int] = {}
        self._changes: Order = []  # since the first walk began; revision 0: deleted
        self._is_ready = False

    @property
    def noted(self) -> int:
        """How many keys came and went so far."""
        return len(self._changes)

    def fill(self, order: Order, noted: int) -> None:
        """So it was when so many had been `noted`."""
        changes, self._changes = self._changes, []
        self.order = order
        self._created = {row_key: created for created, row_key in order}
        self._is_ready = True
        self.size = sum([_size(row_key) for row_key in self._created])
        for created, row_key in changes[noted:]:
            self.change(row_key, created)

    def change(self, row_key: bytes, created: int) -> int:
        """The key was created at this revision, or deleted (0): by how much the size changes."""
        size = _size(row_key)
        if not self._is_ready:
            self._changes.append((created, row_key))
        elif created:
            insort(self.order, (created, row_key))
            self._created[row_key] = created
        else:
            order, place = self.order, (self._created.pop(row_key), row_key)
            at = bisect_left(order, place)
            assert order[at] == place, place
            del order[at]
            size = -size
        self.size += size
        return size


@dataclass(slots=True)
class Walk:
    """Somebody's, which ends with `Lines.finish`, or never."""

    line: Line
    noted: int  # by the line when it began


class Lines:
    __slots__ = ("_bytes", "_bytes_max", "_known", "_looking", "_walked", "keys_min")

    def __init__(self, keys_min: int = KEYS_MIN, bytes_max: int = BYTES_MAX) -> None:
        self.keys_min = keys_min
        self._bytes_max = bytes_max
        self.clear()

    def clear(self) -> None:
        self._known: dict[tuple[bytes, bytes], Line] = {}  # who was asked for last is the last
        self._walked: dict[tuple[bytes, bytes], Line] = {}  # lines to be
        self._looking: list[Line] = []  # all of both
        self._bytes = 0

    # ── reads ───────────────────────────────────────────────────────────────

    def find(self, bounds: Bounds) -> Order | None:
        """All row keys between the bounds; None: not known. To be read at once."""
        name = bounds.lower, bounds.upper
        line = self._known.get(name)
        if line is None:
            return None
        self._known[name] = self._known.pop(name)
        return line.order

    def is_walked(self, bounds: Bounds) -> bool:
        """Whether somebody has begun to walk, and nobody has come to the end."""
        return (bounds.lower, bounds.upper) in self._walked

    def begin(self, bounds: Bounds) -> Walk:
        """Somebody walks along the newest state between these bounds from now on; see `finish`."""
        name = bounds.lower, bounds.upper
        line = self._walked.get(name)
        if line is None:
            line = Line(*name)
            _make_room(self._walked)
            self._walked[name] = line
            self._look()
        return Walk(line, line.noted)

    def finish(self, walk: Walk, order: Order) -> None:
        """All row keys that there were when it began, in order. It is the line's from now on."""
        line = walk.line
        name = line.lower, line.upper
        if self._walked.get(name) is not line:
            return  # somebody was faster, or it was given up
        del self._walked[name]
        if len(order) >= self.keys_min:
            line.fill(order, walk.noted)
            _make_room(self._known)
            self._known[name] = line
        self._look()
        self._bound()

    # ── changes of the newest state ─────────────────────────────────────────

    def created(self, row_key: bytes, row: bytes) -> None:
        for line in self._looking:
            if line.lower <= row_key < line.upper:
                kv = rows.decode(row[rows.ROW_HEAD_BYTES :])
                self._bytes += line.change(row_key, kv.create_revision)
        if self._bytes > self._bytes_max:
            self._bound()

    def deleted(self, row_key: bytes) -> None:
        for line in self._looking:
            if line.lower <= row_key < line.upper:
                self._bytes += line.change(row_key, 0)
        if self._bytes > self._bytes_max:
            self._bound()

    # ── their bound ─────────────────────────────────────────────────────────

    def _look(self) -> None:
        self._looking = [*self._walked.values(), *self._known.values()]
        self._bytes = sum([line.size for line in self._looking])

    def _bound(self) -> None:
        """Give up walks, and then lines: those first that nobody has asked for the longest."""
        while self._bytes > self._bytes_max:
            table = self._walked or self._known
            del table[next(iter(table))]
            self._look()


def _make_room(table: dict[tuple[bytes, bytes], Line]) -> None:
    if len(table) >= LINES_MAX:
        del table[next(iter(table))]


def _size(row_key: bytes) -> int:
    return len(row_key) + KEY_OVERHEAD_BYTES
