"""Virtual time: a heap of things to do, and dice for each concern.

Times are microseconds. What is due at the same time happens in the order in
which it was asked for. Dice are split by concern, so that a change of one
(more clients, another fault) leaves the others' sequences alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any, Final, TypeVar

MS: Final = 1000
SECOND: Final = 1_000_000

T = TypeVar("T")


def dice(seed: int, concern: str) -> random.Random:
    """The same for the same two, in every process: a str is hashed by SHA-512 here."""
    return random.Random(f"{seed} {concern}")


def below(roll: random.Random, bound: int) -> int:
    """As `randrange`, at a tenth of what it costs."""
    return int(roll.random() * bound)


def pick(roll: random.Random, some: Sequence[T]) -> T:
    """As `choice`, at a tenth of what it costs."""
    return some[int(roll.random() * len(some))]


@dataclass(slots=True)
class Clock:
    """A member's monotonic clock: it begins somewhere, and runs at its own rate."""

    offset_us: int
    rate: float

    def read_ms(self, now_us: int) -> int:
        return int(self.offset_us + now_us * self.rate) // MS


class Schedule:
    def __init__(self) -> None:
        self.now = 0
        self.events = 0  # carried out
        self._heap: list[tuple[int, int, Callable[..., object], tuple[Any, ...]]] = []
        self._sequence = 0

    def at(self, time: int, do: Callable[..., object], *args: Any) -> None:
        self._sequence += 1
        heappush(self._heap, (time, self._sequence, do, args))

    def after(self, delay: int, do: Callable[..., object], *args: Any) -> None:
        self._sequence += 1
        heappush(self._heap, (self.now + delay, self._sequence, do, args))

    def run_until(self, time: int) -> None:
        """Carry out everything that is due before `time`, which is then now."""
        heap = self._heap
        while heap and heap[0][0] < time:
            self.now, _, do, args = heappop(heap)
            self.events += 1
            do(*args)
        self.now = time
