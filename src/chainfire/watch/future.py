"""Watchers whose start revision is not reached yet."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Final

from chainfire.watch.groups import Watcher

NEVER: Final = 1 << 63
_WAITS: Final = -1  # `Watcher.at` of those that are here


class Future:
    """By their starts; those with equal starts in the order in which they came."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Watcher]] = []  # by start; may hold some that have left
        self._order = 0  # of those with equal starts
        self._left = 0

    @property
    def first(self) -> int:
        """Nobody starts before; NEVER if nobody is here."""
        return self._heap[0][0] if self._heap else NEVER

    def add(self, watcher: Watcher) -> None:
        """Until `next` is reached. It may be here already."""
        if watcher.at != _WAITS:
            watcher.at = _WAITS
            self._order += 1
            heappush(self._heap, (watcher.next, self._order, watcher))

    def discard(self, watcher: Watcher) -> None:
        """It is not told any more. It need not be here."""
        if watcher.at != _WAITS:
            return
        watcher.at = 0
        self._left += 1
        if self._left * 2 > len(self._heap):  # its start may never come
            self._heap = [entry for entry in self._heap if entry[2].at == _WAITS]
            heapify(self._heap)
            self._left = 0

    def take(self, revision: int) -> list[Watcher]:
        """Those that start at this revision or before."""
        taken: list[Watcher] = []
        heap = self._heap
        while heap and heap[0][0] <= revision:
            watcher = heappop(heap)[2]
            if watcher.at == _WAITS:
                watcher.at = 0
                taken.append(watcher)
            else:
                self._left -= 1
        return taken
