"""Writes what Raft wants stored, and keeps what may be said only once that is durable.

append(message)   one batch: written, readable, not durable; gets a number
durable(number)   the writes up to it are durable: the witness is told,
                  and their responses come back, to be sent or stepped
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from chainfire.node.installing import Installing
from chainfire.node.logstore import LogStore
from chainfire.raft.messages import Message, Snapshot
from chainfire.types import HardState


class WitnessFile(Protocol):
    """What the driver needs of `storage.witness.Witness`."""

    def note(self, last_index: int, last_term: int, term: int, vote: int) -> None: ...

    def lower(self, last_index: int, last_term: int) -> None: ...


@dataclass(slots=True)
class _Unsynced:
    """A log write that is not durable yet, and what the log was when it was written."""

    number: int
    responses: Sequence[Message]
    last_index: int
    last_term: int
    term: int
    vote: int


class LogWriter:
    def __init__(self, log: LogStore, witness: WitnessFile, installing: Installing) -> None:
        self._log = log
        self._witness = witness
        self._installing = installing
        self._written = 0  # log writes that need a sync
        self._unsynced: deque[_Unsynced] = deque()

    @property
    def oldest_unsynced(self) -> int | None:
        """The number of the first write that is not known to be durable."""
        return self._unsynced[0].number if self._unsynced else None

    @property
    def unsynced(self) -> int | None:
        """The number of the last write that is not known to be durable."""
        return self._unsynced[-1].number if self._unsynced else None

    def append(self, message: Message, *, is_sole_voter: bool) -> Sequence[Message]:
        """Carry out a STORAGE_APPEND; the responses that are due at once.

        Raises Stalled with nothing changed.
        """
        entries, log = message.entries, self._log
        hard_state = HardState(message.term, message.vote, message.commit) if message.term else None
        if message.snapshot is not None:
            self._install(message.snapshot, hard_state or log.hard_state)
            hard_state = None
        if entries and entries[0].index <= log.last_index():
            self._promise_no_more_than(entries[0].index - 1, log.term(entries[0].index - 1))
        promises = hard_state is not None and self._promises(hard_state)
        # A sole voter's new commit index is not worth a write: whatever its log holds is
        # committed, and nothing is read after a start before all of it is applied.
        if entries or promises or (hard_state is not None and not is_sole_voter):
            log.append(entries, hard_state)
        if not entries and not promises and message.snapshot is None:
            if not self._unsynced:
                return message.responses
            last = self._unsynced[-1]
            last.responses = [*last.responses, *message.responses]
            return ()
        self._written += 1
        index, hard = log.last_index(), log.hard_state
        self._unsynced.append(
            _Unsynced(
                self._written, message.responses, index, log.term(index), hard.term, hard.vote
            )
        )
        return ()

    def durable(self, number: int) -> list[Message]:
        """The responses of all writes up to `number`, in the order of the writes."""
        responses: list[Message] = []
        last: _Unsynced | None = None
        while self._unsynced and self._unsynced[0].number <= number:
            last = self._unsynced.popleft()
            responses += last.responses
        if last is not None:
            self._witness.note(last.last_index, last.last_term, last.term, last.vote)
        return responses

    def _promises(self, new: HardState) -> bool:
        old = self._log.hard_state
        return (new.term, new.vote) != (old.term, old.vote)

    def _install(self, snapshot: Snapshot, hard_state: HardState) -> None:
        self._promise_no_more_than(snapshot.index, snapshot.term)
        self._installing.install(snapshot, hard_state)

    def _promise_no_more_than(self, index: int, term: int) -> None:
        """The log is about to be shortened to `index`.

        Not the witness alone: a sync of an earlier write that ends after this one was
        written would promise again what the log no longer holds.
        """
        for write in self._unsynced:
            if write.last_index > index:
                write.last_index, write.last_term = index, term
        self._witness.lower(index, term)
