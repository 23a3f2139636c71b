"""When to look at which lease again: slots of time on integers.

Renewals outnumber everything else, so a renewal does not touch this: a lease
stays in the slot it was put into, which begins at its deadline of then (within
`SLOT_MS`), and whoever takes it out of there looks what its deadline has become
and puts it back if that is still to come. A lease that is gone is noticed then, too; for
that, and so that revoked ones do not stay for years, no slot lies further
ahead than `LOOK_AHEAD_MS`.

A lease that was revoked and granted again is named twice. So that these become
one, whatever lies far ahead is put where its name says: who is granted again
and again under one id is not looked at ever more often.

Costs: `add` is O(1); a lease is taken out about once in its TTL, or once in
`LOOK_AHEAD_MS` if its TTL is longer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Final

SLOT_MS: Final = 50
LOOK_AHEAD_MS: Final = 60_000
_SLOTS_AHEAD: Final = LOOK_AHEAD_MS // SLOT_MS
_FAR_TOGETHER: Final = 100  # names


class Deadlines:
    """Names of leases (integers) by the slot in which to look at them."""

    __slots__ = ("_heap", "_slots", "_spread")

    def __init__(self) -> None:
        self._slots: defaultdict[int, list[int]] = defaultdict(list)
        self._heap: list[int] = []  # the keys of `_slots`
        self._spread = 0  # lists of names that were far away

    def add(self, name: int, deadline_ms: int, now_ms: int) -> None:
        """`take` names it within SLOT_MS after its deadline, or earlier where that is far away."""
        number = -(-deadline_ms // SLOT_MS)
        latest = (now_ms + LOOK_AHEAD_MS) // SLOT_MS
        if number > latest:
            number = latest - (latest - name) % _SLOTS_AHEAD
        if number not in self._slots:
            heappush(self._heap, number)
        self._slots[number].append(name)

    def add_all(self, names: Sequence[int], deadlines_ms: Sequence[int], now_ms: int) -> None:
        """As `add` one by one, for much less: a start may have a million of them.

        Those that are far away are spread over all slots: in one, they would all be looked at
        together, and keep waiting what ends then.
        """
        latest_ms, slots = now_ms + LOOK_AHEAD_MS, self._slots
        latest = latest_ms // SLOT_MS
        far = names
        if deadlines_ms and min(deadlines_ms) < latest_ms:
            pairs = list(zip(names, deadlines_ms, strict=True))
            far = [name for name, deadline_ms in pairs if deadline_ms >= latest_ms]
            for name, deadline_ms in pairs:
                if deadline_ms < latest_ms:
                    slots[-(-deadline_ms // SLOT_MS)].append(name)
        for start in range(0, len(far), _FAR_TOGETHER):
            self._spread += 1
            slots[latest - self._spread % _SLOTS_AHEAD] += far[start : start + _FAR_TOGETHER]
        if len(slots) != len(self._heap):
            self._heap = sorted(slots)

    def take(self, now_ms: int, count_max: int) -> list[int]:
        """Take out those in slots that have begun, earliest slots first; a name may come again."""
        taken: list[int] = []
        heap, slots = self._heap, self._slots
        while heap and heap[0] * SLOT_MS <= now_ms and len(taken) < count_max:
            slot = slots[heap[0]]
            room = count_max - len(taken)
            if len(slot) > room:
                taken += slot[-room:]
                del slot[-room:]
            else:
                taken += slot
                del slots[heappop(heap)]
        return list(dict.fromkeys(taken))
