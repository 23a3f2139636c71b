"""Writes what Raft wants stored, and keeps what may be said only once that is durable.

append(message)      one batch: written, readable, not durable; gets a number
append_alone(…)      the same for the entries of a leader of itself alone
durable(number)      the writes up to it are durable: the witness is told,
                     and their responses come back, to be sent or stepped

A new commit index alone is not worth a write: the next entries carry it. A start
waits for all that the log holds, committed or not (`readgate`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from chainfire.node.installing import Installing
from chainfire.node.logstore import LogStore
from chainfire.raft.messages import Message, MessageType, Snapshot
from chainfire.types import Entry, HardState


class WitnessFile(Protocol):
    """What the driver needs of `storage.witness.Witness`."""

    def note(self, last_index: int, last_term: int, term: int, vote: int) -> None: ...

    def lower(self, last_index: int, last_term: int) -> None: ...


@dataclass(slots=True, init=False)
class _Unsynced:
    """A log write that is not durable yet, and what the log was when it was written."""

    number: int
    responses: Sequence[Message]
    last_index: int
    last_term: int
    term: int
    vote: int

    def __init__(
        self,
        number: int,
        responses: Sequence[Message],
        last_index: int,
        last_term: int,
        term: int,
        vote: int,
    ) -> None:
        self.number = number
        self.responses = responses
        self.last_index = last_index
        self.last_term = last_term
        self.term = term
        self.vote = vote


class LogWriter:
    def __init__(self, log: LogStore, witness: WitnessFile, installing: Installing) -> None:
        self._log = log
        self._witness = witness
        self._installing = installing
        self._written = 0  # log writes that need a sync
        self._unwritten: HardState | None = None  # a commit index that the next entries carry
        self._unsynced: deque[_Unsynced] = deque()
        # The numbers of the first and the last write that is not known to be durable.
        self.oldest_unsynced: int | None = None
        self.unsynced: int | None = None
        # The last entry of the first of these writes, if `append_alone` made it.
        self._alone: Entry | None = None

    def append(self, message: Message) -> Sequence[Message]:
        """Carry out a STORAGE_APPEND; the responses that are due at once.

        Raises Stalled with nothing changed.
        """
        entries, log = message.entries, self._log
        hard_state = HardState(message.term, message.vote, message.commit) if message.term else None
        if message.snapshot is not None:
            self._install(message.snapshot, hard_state or log.hard_state)
            hard_state = self._unwritten = None
        if entries and entries[0].index <= log.last_index():
            self._promise_no_more_than(entries[0].index - 1, log.term(entries[0].index - 1))
        promises = hard_state is not None and self._promises(hard_state)
        if hard_state is None:
            hard_state = self._unwritten
        if entries or promises:
            log.append(entries, hard_state)
            hard_state = None
        self._unwritten = hard_state
        if not entries and not promises and message.snapshot is None:
            if not self._unsynced:
                return message.responses
            last = self._unsynced[-1]
            last.responses = [*last.responses, *message.responses]
            return ()
        index = log.last_index()
        self._note(message.responses, index, log.term(index))
        return ()

    def append_alone(self, entries: Sequence[Entry]) -> None:
        """Write what `RawNode.propose_alone` returned, with nothing before it without a sync.

        Raises Stalled with nothing changed.
        """
        assert not self._unsynced
        self._log.append(entries, None)
        self._alone = last = entries[-1]
        self._note((), last.index, last.term)

    @property
    def is_alone(self) -> bool:
        """Whether what is not durable yet are the entries of one `append_alone`."""
        return self._alone is not None and len(self._unsynced) == 1

    def durable(self, number: int) -> tuple[Entry | None, Sequence[Message]]:
        """What the writes up to `number` let happen, in their order: the last entry of an
        `append_alone`, then the responses of the others.
        """
        unsynced = self._unsynced
        if not unsynced or unsynced[0].number > number:
            return None, ()
        last = unsynced.popleft()
        responses = last.responses
        while unsynced and unsynced[0].number <= number:
            last = unsynced.popleft()
            responses = [*responses, *last.responses]
        self._witness.note(last.last_index, last.last_term, last.term, last.vote)
        responses = _without_overtaken(responses, last.term)
        if unsynced:
            self.oldest_unsynced = unsynced[0].number
        else:
            self.oldest_unsynced = self.unsynced = None
        alone, self._alone = self._alone, None
        return alone, responses

    def _note(self, responses: Sequence[Message], last_index: int, last_term: int) -> None:
        """Something was written that needs a sync."""
        self._written += 1
        hard = self._log.hard_state
        self._unsynced.append(
            _Unsynced(self._written, responses, last_index, last_term, hard.term, hard.vote)
        )
        self.unsynced = self._written
        if self.oldest_unsynced is None:
            self.oldest_unsynced = self._written

    def _promises(self, new: HardState) -> bool:
        old = self._log.hard_state
        return (new.term, new.vote) != (old.term, old.vote)

    def _install(self, snapshot: Snapshot, hard_state: HardState) -> None:
        # What both the log that is there and the snapshot hold: a crash may come between the two,
        # and the log may have another term at the snapshot's index.
        log = self._log
        index = max(log.first_index() - 1, min(log.hard_state.commit, log.last_index()))
        self._promise_no_more_than(index, log.term(index))
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


def _without_overtaken(responses: Sequence[Message], term: int) -> Sequence[Message]:
    """Less the acknowledgements of a term that was over before this sync: what they speak of may
    have been replaced, by the next leader, in the same sync. Who led then is deposed by a quorum
    and could commit nothing by them; but what leaves is true.
    """
    for message in responses:
        if _is_overtaken(message, term):
            return [each for each in responses if not _is_overtaken(each, term)]
    return responses


def _is_overtaken(message: Message, term: int) -> bool:
    return message.term < term and message.type is MessageType.APPEND_REPLY and not message.reject
