"""Reads that wait until the store may answer them, at every level of consistency.

    Local          nothing
    Serializable   everything this member knows to be committed is applied
    Linearizable   a read index, confirmed after the read arrived, is applied

and, at any level, the revision that the caller has seen (`min_revision`) is
applied. After a start nothing is read before all is applied that the last life
may have shown (`readgate`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from chainfire.errors import RequestDeadlineExceeded, RequestError, Timeout


class ReadPending(Protocol):
    """Somebody who waits for the store. Exactly one of the two is called, once."""

    @property
    def finished(self) -> bool:
        """Nobody waits any more (the caller is gone): neither of the two need be called."""
        ...

    def ready(self) -> None: ...

    def refused(self, error: RequestError) -> None: ...


@dataclass(slots=True)
class _Wait:
    index: int  # applied must reach it
    min_revision: int
    deadline_ms: int
    by_caller: bool  # the deadline is the caller's own
    pending: ReadPending
    repeats: int = 0  # of its round


class Reads:
    """Reads whose index is known, in no particular order, and those that wait for a round."""

    def __init__(self, timeout_ms: int, start_number: int) -> None:
        self._timeout_ms = timeout_ms
        self.waiting: list[_Wait] = []  # whose index is known: `ready`
        self._rounds: dict[bytes, list[_Wait]] = {}  # unconfirmed ReadIndex rounds
        self.next_round: list[_Wait] = []  # who wants one: `start_round`
        self._start = start_number.to_bytes(8, "big")
        self._round_number = 0

    def __len__(self) -> int:
        return len(self.waiting) + len(self.next_round) + sum(map(len, self._rounds.values()))

    def wait(
        self, index: int, min_revision: int, now_ms: int, deadline_ms: int | None, who: ReadPending
    ) -> None:
        """Hold a read until `index` and `min_revision` are applied."""
        self.waiting.append(self._entry(index, min_revision, now_ms, deadline_ms, who))

    def wait_for_round(
        self, min_revision: int, now_ms: int, deadline_ms: int | None, who: ReadPending
    ) -> None:
        """Hold a read until the next ReadIndex round confirms an index."""
        self.next_round.append(self._entry(0, min_revision, now_ms, deadline_ms, who))

    def start_round(self) -> bytes | None:
        """The context of a new round for all that came since the last one; None if nobody did.

        Numbers are never used twice, over restarts neither, so that a late answer
        cannot confirm a younger round (etcd#20418).
        """
        if not self.next_round:
            return None
        self._round_number += 1
        context = self._start + self._round_number.to_bytes(8, "big")
        self._rounds[context] = self.next_round
        self.next_round = []
        return context

    def confirm_round(self, context: bytes, index: int) -> None:
        """The round's index is confirmed; answers to unknown rounds are ignored."""
        for entry in self._rounds.pop(context, ()):
            entry.index = max(entry.index, index)
            self.waiting.append(entry)

    def repeat_rounds(self) -> int:
        """The leader changed or is silent: ask again, under a new number.

        Returns how many of the rounds had been repeated already.
        """
        again = 0
        for context in list(self._rounds):
            entries = self._rounds.pop(context)
            again += any(entry.repeats for entry in entries)
            for entry in entries:
                entry.repeats += 1
            self.next_round.extend(entries)
        return again

    def ready(self, applied: int, revision: int) -> list[ReadPending]:
        """Take out those that may be answered now."""
        ready = [e for e in self.waiting if e.index <= applied and e.min_revision <= revision]
        if ready:
            self.waiting = [
                e for e in self.waiting if e.index > applied or e.min_revision > revision
            ]
        return [entry.pending for entry in ready]

    def overdue(self, now_ms: int) -> list[tuple[ReadPending, RequestError]]:
        """Take out those whose time is over; those whose caller is gone just go."""
        late: list[_Wait] = []
        for held in (self.waiting, self.next_round, *self._rounds.values()):
            late.extend(entry for entry in held if entry.deadline_ms <= now_ms)
            held[:] = [
                entry for entry in held if entry.deadline_ms > now_ms and not entry.pending.finished
            ]
        return [
            (entry.pending, RequestDeadlineExceeded() if entry.by_caller else Timeout())
            for entry in late
        ]

    def take_all(self) -> list[ReadPending]:
        """Everybody who waits: the member stops."""
        self.repeat_rounds()
        waiting = [entry.pending for entry in (*self.waiting, *self.next_round)]
        self.waiting, self.next_round = [], []
        return waiting

    def _entry(
        self, index: int, min_revision: int, now_ms: int, deadline_ms: int | None, who: ReadPending
    ) -> _Wait:
        ours = now_ms + self._timeout_ms
        if deadline_ms is not None and (deadline_ms < ours or min_revision):
            return _Wait(index, min_revision, deadline_ms, True, who)
        return _Wait(index, min_revision, ours, False, who)
