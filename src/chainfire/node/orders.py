"""What Raft orders, carried out: what is sent, written, applied, and who may read. Pure.

    pump()       Raft's work, piece after piece, until none is left or enough was done
    route()      its messages: to others, to itself, to our own disk
    work_off()   the disk's part, each kind in its order, until done or stalled

A write that storage does not take (`Stalled`) stays where it is, in `appends` or
in the pages of `applying`, until somebody works off again.

A snapshot from another member waits here, too, until Raft may hear of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from chainfire.errors import Stalled
from chainfire.machine import Machine
from chainfire.node.applying import Applying
from chainfire.node.commits import Commits
from chainfire.node.effects import Answer, Effects
from chainfire.node.handover import HandOver
from chainfire.node.installing import Installing
from chainfire.node.leadership import Leadership
from chainfire.node.logwriter import LogWriter
from chainfire.node.proposer import Proposer
from chainfire.node.readgate import ReadGate
from chainfire.raft.messages import (
    AFTER_SYNC,
    LOCAL_APPEND_THREAD,
    LOCAL_APPLY_THREAD,
    Message,
    MessageType,
)
from chainfire.raft.rawnode import RawNode
from chainfire.raft.ready import Ready
from chainfire.types import Entry

APPLIED_PER_TURN_MAX = 4096  # entries; a long replay gives the loop back in between


class Orders:
    def __init__(
        self,
        raft: RawNode,
        machine: Machine,
        writer: LogWriter,
        applying: Applying,
        installing: Installing,
        gate: ReadGate,
        proposer: Proposer,
        leadership: Leadership,
        hand_over: HandOver,
        commits: Commits,
        effects: Effects,
        *,
        installed: Callable[[], None],
    ) -> None:
        """`installed` is called when a snapshot has taken the place of state and log."""
        self.send: Callable[[Effects], None] | None = None  # see Driver.send_through
        self.begin_sync: Callable[[], None] | None = None  # see Driver.sync_through
        self._raft = raft
        self._core = raft.raft  # read, never written
        self._machine = machine
        self._writer = writer
        self._applying = applying
        self._installing = installing
        self._gate = gate
        self._proposer = proposer
        self._leadership = leadership
        self._hand_over = hand_over
        self._commits = commits
        self._effects = effects
        self._member_id = raft.raft.id
        self._installed = installed
        self.appends: deque[Message] = deque()  # for our own disk, in raft's order
        self.arrived: Message | None = None  # a snapshot that raft has not heard of
        self.has_written = False  # in this turn; its sync begins before anything is applied

    # ── what raft says ──────────────────────────────────────────────────────

    def observe_leader(self, now_ms: int) -> None:
        """Whoever waits on a leader goes on with the next one.

        Before anything is proposed: else a new leader would get what waited for it twice, and
        what nobody waits for.
        """
        if self._leadership.observe(now_ms):
            self._gate.leader_changed()
            if self._core.leader:
                self._proposer.leader_changed()

    def pump(self, now_ms: int) -> None:
        """Carry out all there is, or as much as one turn may apply."""
        raft, machine = self._raft, self._machine
        enough = 0
        if self.appends or self._applying.pages:
            self.work_off()
        while True:
            if raft.has_work():
                if not enough:
                    enough = machine.applied_index + APPLIED_PER_TURN_MAX
                elif machine.applied_index >= enough:
                    self._effects.more = True
                    return
                self._order_work(now_ms)
                self.work_off()
            elif self._core.messages:
                self.route(raft.take_messages())
            elif not self._commits.tell_awaited(now_ms):
                return

    def _order_work(self, now_ms: int) -> None:
        """What raft has for us: to be sent, written, applied, and who may read."""
        work = self._raft.work()
        if work is None:
            self._order_all(self._raft.ready(), now_ms)
            return
        if work.messages:
            self.route(work.messages)
        if work.append is not None:
            self.appends.append(work.append)
        if work.committed:
            self._applying.pages.append(work.committed)
        for state in work.read_states:
            self._gate.confirm_round(state)

    def _order_all(self, ready: Ready, now_ms: int) -> None:
        self.observe_leader(now_ms)
        for state in ready.read_states:
            self._gate.confirm_round(state)
        self.route(_held_until_durable(ready.messages))

    def route(self, messages: Iterable[Message]) -> None:
        """Each to whom it is for; what is for our own disk waits for `work_off`."""
        for message in messages:
            to = message.to
            if to == self._member_id:
                self._raft.step(message)
            elif to == LOCAL_APPEND_THREAD:
                self.appends.append(message)
            elif to == LOCAL_APPLY_THREAD:
                self._applying.pages.append(message.entries)
            elif message.type is MessageType.SNAPSHOT:
                self._effects.snapshots.append(message)
            else:
                self._effects.send(to, message)

    # ── the disk's part ─────────────────────────────────────────────────────

    def work_off(self) -> None:
        """Do the disk work that raft ordered, each kind in its order, until done or stalled.

        Or postponed: the machine, or whoever was answered early, wants the loop to
        come round before the next piece. What is to be stored does not wait for that,
        but for a snapshot: it takes the place of a state that nothing is applied to.
        """
        appends, applying = self.appends, self._applying
        try:
            while True:
                if appends and appends[0].snapshot is not None:
                    applying.release(looked_for=False)
                if appends and (appends[0].snapshot is None or not applying.pages):
                    self._append(appends[0])
                elif applying.pages and not applying.is_postponed:
                    self._apply()
                else:
                    return
        except Stalled:
            pass

    def append_alone(self, entries: Sequence[Entry]) -> None:
        """Write what `RawNode.propose_alone` returned: at once, or with the rest of `appends`."""
        if not self.appends:
            try:
                self._writer.append_alone(entries)
            except Stalled:
                pass
            else:
                if self.begin_sync is not None:
                    self.begin_sync()
                return
        self.appends.append(self._raft.work_of(entries))

    def _append(self, message: Message) -> None:
        if self.send is not None and self._effects.frames:
            # Raft thesis §10.2.1: a leader's entries travel while its own disk writes them. What
            # hangs on this write is not among the frames yet.
            self.send(self._effects)
            self._effects.frames = {}
        due = self._writer.append(message)
        self.appends.popleft()
        self.has_written = self._writer.unsynced is not None
        if message.snapshot is not None:
            self._installed()
        if due:
            self.route(due)

    def foretell(self) -> None:
        """Work out what `commit_alone` will let be told, if that comes next."""
        if self._writer.is_alone and not self._applying.pages:
            self._applying.foretell(self._core.log.unstable.entries)

    def commit_alone(self, last: Entry) -> Sequence[Answer]:
        """The writes of `append_alone` up to this entry are durable; who may be told by then."""
        committed, applying = self._raft.stored_alone(last), self._applying
        if not committed:
            return ()
        applying.pages.append(committed)
        if len(applying.pages) > 1:
            return ()
        answers = applying.tell(may_hold=self.may_hold())
        applying.is_postponed = bool(applying.pages)
        return answers

    def _apply(self) -> None:
        applying, effects = self._applying, self._effects
        if not applying.is_told:
            answers = applying.tell(may_hold=self.may_hold())
            effects.answers += answers
            if applying.held:
                return
            applying.is_postponed = effects.told = bool(answers) or self.has_written
        index = 0 if applying.is_postponed else applying.apply()
        if index:
            self._raft.applied_to(index)
        else:
            applying.is_postponed = effects.more = True

    def may_hold(self) -> bool:
        """Whether nobody waits for more to be applied: no reader, no watcher, nor raft."""
        return not (
            self._machine.keeps_changes
            or self._gate.reads.waiting
            or self._core.log.is_paused
            or self._hand_over.is_moving
        )

    def apply_held(self, *, looked_for: bool) -> None:
        """Apply what was answered and not applied; `looked_for`: somebody waits for it."""
        if self._applying.held:
            self._applying.release(looked_for=looked_for)
            self.work_off()

    # ── a snapshot from another member ──────────────────────────────────────

    def take_arrived(self) -> None:
        """Tell raft of a snapshot, but not while entries are handed out: a membership change among
        them would be made once more, in the membership that came with the snapshot.
        """
        arrived = self.arrived
        if arrived is not None:
            self.apply_held(looked_for=False)
            if not self._applying.pages:
                self._raft.step(arrived)
                arrived = self.arrived = None
        wanted = [self._core.log.unstable.snapshot, *[w.snapshot for w in self.appends]]
        if arrived is not None:
            wanted.append(arrived.snapshot)
        self._installing.keep_only([snapshot for snapshot in wanted if snapshot is not None])


def _held_until_durable(messages: Sequence[Message]) -> Sequence[Message]:
    """The messages of one Ready; those of AFTER_SYNC become responses of its STORAGE_APPEND."""
    held = [message for message in messages if message.type in AFTER_SYNC]
    if not held:
        return messages
    rest = [message for message in messages if message.type not in AFTER_SYNC]
    for at, message in enumerate(rest):
        if message.type is MessageType.STORAGE_APPEND:
            rest[at] = replace(message, responses=(*message.responses, *held))
            return rest
    raise AssertionError("a vote is asked for in a term that is not stored")
