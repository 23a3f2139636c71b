"""One member's heart: calls, messages, ticks and completions in; work for the shell out.

Pure but for the storage it is handed: no clock, no socket, no thread, so the
simulator runs this very class. One turn takes everything that has arrived:

    propose, read, step, tick        collect
    turn()      proposals -> raft -> log batch (written, not durable)    -> Effects.sync
    synced(n)   witness, raft's own acknowledgements -> committed entries
                -> machine.apply: one atom -> answers                    -> next turn's Effects

Durable before shown: what raft wants to say after a storage write hangs on
that write (its `responses`) and is stepped only by `synced`. Entries are
applied only after our own disk has them.

A write stall (`Stalled`) leaves the work where it is; it is tried again at
the next turn, and new proposals are refused meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from chainfire.command import Envelope
from chainfire.errors import RequestError, Stalled, Stopped, Timeout, TooManyRequests
from chainfire.machine import Machine
from chainfire.node.duties import Duties
from chainfire.node.logstore import LogStore
from chainfire.node.proposals import Answer, Proposals
from chainfire.node.reads import ReadPending, Reads
from chainfire.proto.kv_pb2 import LINEARIZABLE, LOCAL
from chainfire.raft.changes import ConfChange
from chainfire.raft.confchange import InvalidConfChange
from chainfire.raft.messages import (
    LOCAL_APPEND_THREAD,
    LOCAL_APPLY_THREAD,
    Message,
    ProposalDropped,
)
from chainfire.raft.rawnode import RawNode
from chainfire.raft.ready import Role
from chainfire.types import Entry, EntryType, HardState, Pending

READ_ROUND_TICKS = 5  # etcd asks again after 500 ms
APPLIED_PER_TURN_MAX = 4096  # entries; a long replay gives the loop back in between


class WitnessFile(Protocol):
    """What the driver needs of `storage.witness.Witness`."""

    def note(self, last_index: int, last_term: int, term: int, vote: int) -> None: ...

    def lower(self, last_index: int, last_term: int) -> None: ...


@dataclass(slots=True, frozen=True)
class Limits:
    pending_max: int = 5000  # proposals of this member without an answer
    reads_max: int = 20_000  # reads that wait
    request_timeout_ms: int = 7000  # etcd: 5 s + 2 x election timeout


@dataclass(slots=True)
class Effects:
    """What the shell carries out, in this order."""

    messages: list[Message] = field(default_factory=list)  # to other members
    sync: int | None = None  # make the log durable, then call synced() with this number
    answers: list[Answer] = field(default_factory=list)
    reads: list[ReadPending] = field(default_factory=list)  # the store may be read
    stalled: bool = False  # storage asked to wait: come back soon
    more: bool = False  # the turn was cut short: take another one at once


@dataclass(slots=True)
class _Unsynced:
    """A log write that is not durable yet, and what the log was when it was written."""

    number: int
    responses: Sequence[Message]
    last_index: int
    last_term: int
    term: int
    vote: int


@dataclass(slots=True)
class _Queued:
    sequence: int
    kind: int
    body: bytes
    keyspace: int
    user: str
    auth_revision: int


class Driver:
    def __init__(
        self,
        *,
        raft: RawNode,
        log: LogStore,
        machine: Machine,
        witness: WitnessFile,
        duties: Duties,
        member_id: int,
        start_number: int,
        limits: Limits,
    ) -> None:
        self.raft = raft
        self._core = raft.raft  # read, never written
        self.log = log
        self.machine = machine
        self.member_id = member_id
        self._witness = witness
        self.duties = duties
        self._start_number = start_number
        self._now_ms = 0
        self._ticks = 0
        self._last_leader = 0
        self.leader_changes = 0  # leaders seen, the first one included
        self._limits = limits
        self._proposals = Proposals(
            pending_max=limits.pending_max, timeout_ms=limits.request_timeout_ms
        )
        self._reads = Reads(limits.request_timeout_ms)
        self._queue: list[_Queued] = []  # not yet handed to raft
        self._storage_work: deque[Message] = deque()  # for our own disk, in raft's order
        self._written = 0  # log writes that need a sync
        self._unsynced: deque[_Unsynced] = deque()
        self._effects = Effects()
        self._stopped = False
        # Design §3: nothing is read before the last life's commit index is applied again. A
        # sole voter had committed whatever its disk held.
        self._read_gate = log.hard_state.commit
        self._reads_are_local = False  # a linearizable read needs no round of heartbeats
        if self.is_sole_voter:
            self._read_gate = log.last_index()

    @property
    def is_sole_voter(self) -> bool:
        conf = self.machine.conf_state
        return conf.voters == (self.member_id,) and not conf.voters_outgoing

    @property
    def proposals_pending(self) -> int:
        return len(self._proposals)

    # ── in ──────────────────────────────────────────────────────────────────

    def propose(
        self,
        kind: int,
        body: bytes,
        pending: Pending,
        *,
        keyspace: int = 0,
        user: str = "",
        auth_revision: int = 0,
    ) -> None:
        """Queue a command for the next turn. Refused at once when too much is waiting."""
        if self._stopped:
            pending.refused(Stopped())
        elif self._proposals.full or self._storage_work:
            pending.refused(TooManyRequests())
        else:
            sequence = self._proposals.add(pending)
            self._queue.append(_Queued(sequence, kind, body, keyspace, user, auth_revision))

    def read(
        self, level: int, min_revision: int, deadline_ms: int | None, pending: ReadPending
    ) -> bool:
        """True: the store may be read now. False: `pending` hears later, in some turn's Effects."""
        if self._stopped:
            pending.refused(Stopped())
            return False
        machine = self.machine
        index = 0 if level == LOCAL else self._core.log.committed
        index = max(index, self._read_gate)
        needs_round = level == LINEARIZABLE and not self._reads_are_local
        # While a write is stalled the machine's memory is ahead of its store.
        if (
            not needs_round
            and not self._storage_work
            and machine.applied_index >= index
            and machine.revision >= min_revision
        ):
            return True
        if len(self._reads) >= self._limits.reads_max:
            pending.refused(TooManyRequests())
        elif needs_round:
            self._reads.wait_for_round(min_revision, self._now_ms, deadline_ms, pending)
        else:
            self._reads.wait(index, min_revision, self._now_ms, deadline_ms, pending)
        return False

    def step(self, message: Message) -> None:
        """A message from another member."""
        self.raft.step(message)

    def begin(self, now_ms: int) -> None:
        """The clock's reading at the start: what comes before the first tick counts from here."""
        self._now_ms = now_ms

    def tick(self, now_ms: int, free_bytes: int) -> None:
        """One heartbeat interval has passed; `now_ms` is monotonic."""
        self._now_ms = now_ms
        self.raft.tick()
        self._ticks += 1
        if self._ticks % READ_ROUND_TICKS == 0:
            self._reads.repeat_rounds()  # its messages may be lost
        late = self._proposals.overdue(now_ms)
        if late:
            self._effects.answers += [Answer(pending, Timeout()) for pending in late]
            self._queue = [item for item in self._queue if self._proposals.waits(item.sequence)]
        for reader, error in self._reads.overdue(now_ms):
            reader.refused(error)
        if self._core.leader and not self._storage_work:
            leading = self._core.role is Role.LEADER
            for duty in self.duties.due(now_ms, leader=leading, free_bytes=free_bytes):
                self.propose(duty.kind, duty.body, duty)

    def synced(self, number: int) -> None:
        """The log writes up to `number` are durable: say what hangs on them."""
        durable: list[_Unsynced] = []
        while self._unsynced and self._unsynced[0].number <= number:
            durable.append(self._unsynced.popleft())
        if durable:
            last = durable[-1]
            self._witness.note(last.last_index, last.last_term, last.term, last.vote)
        for write in durable:
            for response in write.responses:
                self._route(response)

    # ── out ─────────────────────────────────────────────────────────────────

    def turn(self) -> Effects:
        """Carry everything that has arrived one step further."""
        if self._queue:
            self._proposals.mark_turn(self._now_ms)
            # Group commit: one sync for everything that arrived during the last one.
            if self._core.leader and not self._unsynced:
                self._propose_queued()
        if self._core.leader:
            context = self._reads.start_round()
            if context is not None:
                self.raft.read_index(context)
        self._pump()
        machine = self.machine
        effects, self._effects = self._effects, Effects()
        effects.stalled = bool(self._storage_work)
        if self._unsynced:
            effects.sync = self._unsynced[-1].number
        if not self._storage_work:
            effects.reads += self._reads.ready(machine.applied_index, machine.revision)
        return effects

    def stop(self) -> Effects:
        """Answer everybody who waits: what is applied with its result, the rest with Stopped."""
        self._stopped = True
        self._queue.clear()
        effects, self._effects = Effects(answers=self._effects.answers), Effects()
        effects.answers += [Answer(pending, Stopped()) for pending in self._proposals.take_all()]
        for reader in self._reads.take_all():
            reader.refused(Stopped())
        return effects

    # ── inside a turn ───────────────────────────────────────────────────────

    def _propose_queued(self) -> None:
        queue, self._queue = self._queue, []
        envelope = Envelope(
            member_id=self.member_id,
            start_number=self._start_number,
            lowest_unsettled=self._proposals.lowest_unsettled,
            proposing_term=self._core.term,
            leader_clock_ms=self.machine.leader_clock_ms,
        )
        encode = envelope.encode
        try:
            self.raft.propose(
                [
                    encode(
                        item.sequence,
                        item.kind,
                        item.body,
                        keyspace=item.keyspace,
                        user=item.user,
                        auth_revision=item.auth_revision,
                    )
                    for item in queue
                ]
            )
        except ProposalDropped:
            for item in queue:
                self._answer(item.sequence, TooManyRequests())

    def _pump(self) -> None:
        raft, machine = self.raft, self.machine
        enough = machine.applied_index + APPLIED_PER_TURN_MAX
        self._work_off()
        while raft.has_ready():
            if machine.applied_index >= enough:
                self._effects.more = True
                break
            ready = raft.ready()
            if ready.soft_state is not None:
                # An index that an old leader names later must not answer anybody (etcd#21375).
                self._reads.repeat_rounds()
                self._note_leader(ready.soft_state.leader)
            for state in ready.read_states:
                self._reads.confirm_round(state.context, max(state.index, self._read_gate))
            for message in ready.messages:
                self._route(message)
            self._work_off()
        core = self._core
        # ReadIndex of a sole voter: nobody else can have been elected, so that its commit index
        # counts at once; but only when an entry of its own term is committed (Raft §8).
        self._reads_are_local = (
            core.role is Role.LEADER
            and self.is_sole_voter
            and core.log.term(core.log.committed) == core.term
        )

    def _note_leader(self, leader: int) -> None:
        if leader and leader != self._last_leader:
            self._last_leader = leader
            self.leader_changes += 1

    def _route(self, message: Message) -> None:
        if message.to in (LOCAL_APPEND_THREAD, LOCAL_APPLY_THREAD):
            self._storage_work.append(message)
        elif message.to == self.member_id:
            self.raft.step(message)
        else:
            self._effects.messages.append(message)

    def _work_off(self) -> None:
        """Do the disk work that raft ordered, in its order, until done or stalled."""
        work = self._storage_work
        while work:
            message = work[0]
            try:
                if message.to == LOCAL_APPEND_THREAD:
                    self._append(message)
                else:
                    self._apply(message.entries)
            except Stalled:
                return
            work.popleft()
            if message.to == LOCAL_APPLY_THREAD:
                for response in message.responses:
                    self._route(response)

    def _append(self, message: Message) -> None:
        assert message.snapshot is None, "snapshots come with the cluster"
        entries, log = message.entries, self.log
        hard_state = HardState(message.term, message.vote, message.commit) if message.term else None
        if entries and entries[0].index <= log.last_index():
            self._promise_no_more_than(entries[0].index - 1)
        if entries or (hard_state is not None and not self._is_only_a_commit(hard_state)):
            log.append(entries, hard_state)
        if message.responses:
            self._written += 1
            last, hard = log.last_index(), log.hard_state
            self._unsynced.append(
                _Unsynced(
                    self._written, message.responses, last, log.term(last), hard.term, hard.vote
                )
            )

    def _is_only_a_commit(self, new: HardState) -> bool:
        """A sole voter's new commit index, which is not worth a write: whatever its log holds is
        committed, and nothing is read after a start before all of it is applied.
        """
        old = self.log.hard_state
        return self.is_sole_voter and (new.term, new.vote) == (old.term, old.vote)

    def _promise_no_more_than(self, index: int) -> None:
        """The log is about to be shortened to `index`.

        Not the witness alone: a sync of an earlier write that ends after this one was
        written would promise again what the log no longer holds.
        """
        term = self.log.term(index)
        for write in self._unsynced:
            if write.last_index > index:
                write.last_index, write.last_term = index, term
        self._witness.lower(index, term)

    def _apply(self, entries: Sequence[Entry]) -> None:
        """Apply committed entries; a configuration change closes the batch before it."""
        start = 0
        for at, entry in enumerate(entries):
            if entry.type is not EntryType.NORMAL:
                self._apply_normal(entries[start:at])
                self._apply_conf_change(entry)
                start = at + 1
        self._apply_normal(entries[start:] if start else entries)

    def _apply_normal(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        me, start, settle = self.member_id, self._start_number, self._proposals.settle
        answers = self._effects.answers
        for applied in self.machine.apply(entries):
            if applied.member_id == me and applied.start_number == start:
                pending = settle(applied.sequence)
                if pending is not None:
                    answers.append(Answer(pending, applied.result))

    def _apply_conf_change(self, entry: Entry) -> None:
        change = ConfChange.decode(entry.data)
        conf_state, context = self.machine.conf_state, b""
        with suppress(InvalidConfChange):  # every member skips it alike
            conf_state, context = self.raft.apply_conf_change(change), change.context
        self.machine.apply_conf_change(entry, conf_state, context)

    def _answer(self, sequence: int, result: RequestError) -> None:
        pending = self._proposals.settle(sequence)
        if pending is not None:
            self._effects.answers.append(Answer(pending, result))
