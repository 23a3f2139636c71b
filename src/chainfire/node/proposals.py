"""Commands of this member that have not been answered yet, by sequence.

A command's id is (member id, start number, sequence). It is settled once its
caller has an answer, "unknown" included; every envelope says which sequences
of its sender are all settled, so that the machine need not remember those.

Invariant: _lowest <= every pending sequence < _next.
"""

from __future__ import annotations

from collections import deque

from chainfire.types import Pending


class Proposals:
    def __init__(self, *, pending_max: int, timeout_ms: int) -> None:
        self.pending_max = pending_max
        self._timeout_ms = timeout_ms
        self._pending: dict[int, Pending] = {}
        self._next = 1
        self._lowest = 1
        self._deadlines: deque[tuple[int, int]] = deque()  # (ms, sequences below it)

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def full(self) -> bool:
        return len(self._pending) >= self.pending_max

    @property
    def lowest_unsettled(self) -> int:
        """Every sequence below is settled. Amortised O(1)."""
        lowest, pending = self._lowest, self._pending
        while lowest < self._next and lowest not in pending:
            lowest += 1
        self._lowest = lowest
        return lowest

    def add(self, pending: Pending) -> int:
        """Take the next sequence for this caller."""
        sequence = self._next
        self._next = sequence + 1
        self._pending[sequence] = pending
        return sequence

    def waits(self, sequence: int) -> bool:
        """Whether somebody still waits for this sequence."""
        return sequence in self._pending

    def settle(self, sequence: int) -> Pending | None:
        """Who waits for this sequence; None when it was answered before."""
        return self._pending.pop(sequence, None)

    def mark_turn(self, now_ms: int) -> None:
        """Start the clock of everything added since the last mark."""
        if not self._deadlines or self._deadlines[-1][1] != self._next:
            self._deadlines.append((now_ms + self._timeout_ms, self._next))

    def overdue(self, now_ms: int) -> list[Pending]:
        """Take out those whose time is over: their outcome is unknown."""
        late: list[Pending] = []
        while self._deadlines and self._deadlines[0][0] <= now_ms:
            _, below = self._deadlines.popleft()
            for sequence in range(self.lowest_unsettled, below):
                pending = self._pending.pop(sequence, None)
                if pending is not None:
                    late.append(pending)
        return late

    def take_all(self) -> list[Pending]:
        """Everybody who waits: the member stops."""
        waiting = list(self._pending.values())
        self._pending.clear()
        return waiting
