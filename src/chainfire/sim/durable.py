"""What of a member's log is on its disk for good: seen from outside, entry by entry.

A sync covers what was written when it began, so the view is taken then
(`capture`) and counts when the sync has ended (`advance`).
"""

from __future__ import annotations

from chainfire.node.logstore import LogStore
from chainfire.types import HardState


class DurableLog:
    def __init__(self, log: LogStore | None = None) -> None:
        """Of a log that was just opened: all of it."""
        self.last = 0
        self.truncated = 0
        self.hard_state = HardState()
        self._terms: dict[int, int] = {}
        self._captured: tuple[list[tuple[int, int]], int, int, HardState] | None = None
        if log is not None:
            self.capture(log)
            self.advance()

    def capture(self, log: LogStore) -> bool:
        """Whether something durable has been replaced since."""
        new: list[tuple[int, int]] = []
        terms = self._terms
        index, first = log.last_index(), log.first_index()
        while index >= first:
            term = log.term(index)
            if terms.get(index) == term and index <= self.last:
                break  # log matching: below is the same
            new.append((index, term))
            index -= 1
        self._captured = new, log.last_index(), first - 1, log.hard_state
        return index < self.last and index >= first

    def advance(self) -> None:
        if self._captured is None:
            return
        new, self.last, self.truncated, self.hard_state = self._captured
        self._captured = None
        self._terms.update(new)
        if len(self._terms) > 20_000:
            self._terms = {i: term for i, term in self._terms.items() if i > self.truncated}

    def installed(self, log: LogStore) -> None:
        """A snapshot took the place of all; its state is durable, whatever is not of the log."""
        self.last = self.truncated = log.first_index() - 1
        if self._captured is not None:  # it was synced before the switch
            self.hard_state, self._captured = self._captured[3], None
        self._terms.clear()

    def holds(self, index: int, term: int) -> bool:
        """Whether this entry is durable here: in the log, or in what the log was cut behind."""
        if index <= self.truncated:
            return True
        return index <= self.last and self._terms.get(index) == term
