"""Commands on their way into the log: our own, and at the leader those that others forward.

    leader      proposes what is queued, one batch per turn, while no log write waits for its
                sync; what was forwarded gets the leader's stamp
    follower    forwards its own to the leader, one batch per turn
    no leader, or one that hands over: they wait

Whoever took a call answers it, from its own apply, by command id. So nothing
need be known here of what became of a command that is out: it is proposed
again under the same id when the leader changes, when something for the leader
could not be sent, when the leader refuses, and after a while of silence, each
time later than before: what comes through late, or never got lost, is in the log
once more, and in the way of all behind it. The machine applies it once. At its
deadline its outcome is unknown.

What waits here while nobody takes it, or would be proposed again, is dropped
once its caller is gone (cancelled, past its own deadline): after an outage only
those are served who still wait. That is safe whether or not it was out:

    never out    no log has it, and none will: it has not happened
    out before   a copy may be in some log, and is applied once, or is void, because later
                 envelopes call it settled; its caller has no answer that either contradicts
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from chainfire import command
from chainfire.command import Envelope
from chainfire.errors import TooManyRequests
from chainfire.node.commits import Commits
from chainfire.node.effects import Answer, Effects
from chainfire.node.frames import Change, Forward, Refused
from chainfire.node.handover import HandOver
from chainfire.node.leadership import Leadership
from chainfire.node.leaseclock import LeaseClock
from chainfire.node.proposals import Own, Proposals
from chainfire.proto.cluster_pb2 import Member
from chainfire.proto.command_pb2 import ConfChangeContext
from chainfire.raft.changes import ChangeKind, ChangeStep, ConfChange
from chainfire.raft.messages import NOBODY, ProposalDropped
from chainfire.raft.rawnode import RawNode
from chainfire.raft.ready import Role
from chainfire.types import Entry, Pending

# A forwarded command is sent again after so long, and then each time after twice as long:
REPEAT_TICKS = 10  # when nothing was heard of it
REPEAT_LOST_TICKS = 1  # when it may have been lost, or was refused
FORWARDED_MAX = 20_000  # commands of others that wait here; more are refused
FORWARDED_CHANGES_MAX = 100


@dataclass(slots=True)
class _Out:
    """Commands that were forwarded together."""

    sent_tick: int
    waits: int  # so many times as long as after the first sending
    commands: list[Own]
    may_be_lost: bool = False

    @property
    def due_tick(self) -> int:
        wait = REPEAT_LOST_TICKS if self.may_be_lost else REPEAT_TICKS
        return self.sent_tick + self.waits * wait


class Proposer:
    def __init__(
        self,
        raft: RawNode,
        commits: Commits,
        clock: LeaseClock,
        leadership: Leadership,
        hand_over: HandOver,
        effects: Effects,
        *,
        member_id: int,
        start_number: int,
        pending_max: int,
        timeout_ms: int,
        learners_max: int,
    ) -> None:
        self.member_id = member_id
        self.start_number = start_number
        self.pending = Proposals(pending_max=pending_max, timeout_ms=timeout_ms)
        self._timeout_ms = timeout_ms
        self._learners_max = learners_max
        self._raft = raft
        self._core = raft.raft  # read, never written
        self._commits = commits
        self._clock = clock
        self._leadership = leadership
        self._hand_over = hand_over
        self._gave_way = False  # as a leader that is to be removed, once
        self._effects = effects
        self._queue: list[Own] = []  # to be proposed or forwarded
        self._forwarded: list[tuple[int, bytes]] = []  # at the leader: (from whom, command)
        self._changes: list[Own] = []  # our membership changes, to be proposed or forwarded
        self._forwarded_changes: list[bytes] = []
        self._out: deque[_Out] = deque()  # at a follower, in the order in which they went
        self._ticks = 0

    @property
    def has_queued(self) -> bool:
        """Whether anything waits to be proposed or forwarded."""
        return bool(self._queue or self._forwarded or self._changes or self._forwarded_changes)

    # ── in ──────────────────────────────────────────────────────────────────

    def add(
        self,
        kind: int,
        body: bytes,
        pending: Pending,
        keyspace: int,
        user: str,
        auth_revision: int,
    ) -> None:
        """Queue a command for the next turn."""
        self._queue.append(self.pending.add(pending, kind, body, keyspace, user, auth_revision))

    def add_change(self, change: ConfChange, members: Iterable[Member], pending: Pending) -> None:
        """Queue a membership change; `members` are those that it adds or moves."""
        context = ConfChangeContext(members=members, learners_max=self._learners_max)
        body = context.SerializeToString()
        self._changes.append(self.pending.add(pending, 0, body, change=change))

    def forwarded(self, sender: int, commands: Sequence[bytes]) -> None:
        """Another member takes us for the leader. If we are not, it will hear who is."""
        if self._core.role is not Role.LEADER:
            return
        if len(self._forwarded) + len(commands) > FORWARDED_MAX:
            self._refuse([(sender, data) for data in commands])
        else:
            self._forwarded += [(sender, data) for data in commands]

    def forwarded_change(self, data: bytes) -> None:
        """As `forwarded`, for a membership change."""
        if self._core.role is Role.LEADER and len(self._forwarded_changes) < FORWARDED_CHANGES_MAX:
            self._forwarded_changes.append(data)

    def refused(self, refusal: Refused) -> None:
        """The leader has too much to do: send these again soon.

        No answer to a caller: an earlier copy of the command may be in the log.
        """
        if refusal.start_number == self.start_number:
            sequences = set(refusal.sequences)
            for out in self._out:
                if any(own.sequence in sequences for own in out.commands):
                    out.may_be_lost = True

    def repeat(self) -> None:
        """Something for the leader was lost, nobody knows what: send all that is out again soon."""
        for out in self._out:
            out.may_be_lost = True

    def leader_changed(self) -> None:
        """What is out may be lost: all that somebody waits for is proposed again, in order."""
        wanted = self.pending.wanted(self.pending.unsettled())
        self._queue = [own for own in wanted if own.change is None]
        self._changes = [own for own in wanted if own.change is not None]
        self._out.clear()
        self._forwarded.clear()  # who sent it sees the change too, and sends it again
        self._forwarded_changes.clear()
        self._gave_way = False

    # ── time ────────────────────────────────────────────────────────────────

    def turn(self, now_ms: int, *, may_append: bool) -> Sequence[Entry]:
        """Propose or forward what is queued, if somebody may take it now.

        Returns what Raft wants written at once (`RawNode.propose_alone`).
        """
        if self._queue or self._changes:
            self.pending.mark_turn(now_ms)
        core = self._core
        if core.role is Role.LEADER:
            if may_append and core.transferee == NOBODY:
                entries: Sequence[Entry] = ()
                if self._queue or self._forwarded:
                    entries = self._propose(now_ms)
                if self._changes or self._forwarded_changes:
                    self._propose_change()
                return entries
        elif core.leader and (self._queue or self._changes):
            self._forward(core.leader)
        return ()

    def tick(self, now_ms: int, *, may_expire: bool) -> None:
        """Those whose time is over hear that their outcome is unknown, those who are gone leave
        their places to others; silence is asked again.
        """
        self._ticks += 1
        late = self.pending.overdue(now_ms) if may_expire else []
        if late:
            error = self._leadership.timeout(now_ms - self._timeout_ms)
            self._effects.answers += [Answer(pending, error) for pending in late]
        self._queue = self.pending.wanted(self._queue)
        self._changes = self.pending.wanted(self._changes)
        if self._out and self._core.leader:
            self._repeat_overdue(self._core.leader)

    def stop(self) -> list[Pending]:
        """Everybody who waits; nothing more is proposed."""
        for held in (
            self._queue,
            self._changes,
            self._forwarded,
            self._forwarded_changes,
            self._out,
        ):
            held.clear()
        return self.pending.take_all()

    # ── at the leader ───────────────────────────────────────────────────────

    def _propose(self, now_ms: int) -> Sequence[Entry]:
        queue, self._queue = self._queue, []
        forwarded, self._forwarded = self._forwarded, []
        term, clock_ms = self._core.term, self._clock.reading(now_ms)
        datas = self._encoded(queue, term, clock_ms)
        if forwarded:
            stamp = command.stamp(term, clock_ms)
            datas += [data + stamp for _, data in forwarded]
        entries = self._raft.propose_alone(datas)
        try:
            if not entries:
                self._raft.propose(datas)
        except ProposalDropped:
            self._queue = [own for own in queue if own.is_out]
            for own in queue:
                if not own.is_out and self.pending.settle(own.sequence):
                    self._effects.answers.append(Answer(own.pending, TooManyRequests()))
            self._refuse(forwarded)
        else:
            for own in queue:
                own.is_out = True
            if forwarded:
                members = {sender for sender, _ in forwarded}
                self._commits.forwarded(members, self._core.log.last_index)
        return entries

    def _propose_change(self) -> None:
        """One at a time: another is proposed when the last one is applied and left."""
        core = self._core
        if core.pending_conf_index > core.log.applied or core.tracker.is_joint:
            return
        own = self._changes[0] if self._changes else None
        if own is not None:
            change = self._change(own)
        else:
            change = ConfChange.decode(self._forwarded_changes[0])
        if self._gives_way(change):
            return
        if own is not None:
            own.is_out = True
            del self._changes[0]
        else:
            del self._forwarded_changes[0]
        # Dropped where the leader is removed: who waits asks the next one.
        with suppress(ProposalDropped):
            self._raft.propose_conf_change(change)

    def _gives_way(self, change: ConfChange) -> bool:
        """Whether another member is to lead before this change is made, which removes this one.

        A, B. A leads, removes itself, which both hold, and is gone before B
        hears that it is committed: B needs A's vote, for ever. So B leads first,
        and A hears from it. If nobody takes over, the change is made all the same.
        """
        core = self._core
        if self._gave_way or ChangeStep(ChangeKind.REMOVE, core.id) not in change.steps:
            return False
        self._gave_way = True
        best = self._hand_over.best()
        return best != NOBODY and self._raft.transfer_leader(best)

    def _refuse(self, forwarded: Sequence[tuple[int, bytes]]) -> None:
        by_start: dict[tuple[int, int], list[int]] = {}
        for sender, data in forwarded:
            message = command.decode(data)
            by_start.setdefault((sender, message.start_number), []).append(message.sequence)
        for (sender, start_number), sequences in by_start.items():
            refusal = Refused(start_number, sequences, TooManyRequests.code)
            self._effects.send(sender, refusal)

    # ── at a follower ───────────────────────────────────────────────────────

    def _forward(self, leader: int) -> None:
        commands, self._queue, self._changes = [*self._queue, *self._changes], [], []
        self._out.append(_Out(self._ticks, 1, commands))
        self._send(leader, commands)
        for own in commands:
            own.is_out = True

    def _send(self, leader: int, commands: Sequence[Own]) -> None:
        normal = [own for own in commands if own.change is None]
        if normal:
            self._effects.send(leader, Forward(self._encoded(normal, 0, 0)))
        for own in commands:
            if own.change is not None:
                self._effects.send(leader, Change(self._change(own).encode()))

    def _repeat_overdue(self, leader: int) -> None:
        due = [out for out in self._out if out.due_tick <= self._ticks]
        if not due:
            return
        self._out = deque([out for out in self._out if out.due_tick > self._ticks])
        for out in due:
            left = self.pending.wanted(out.commands)
            if left:
                self._out.append(_Out(self._ticks, 2 * out.waits, left))
                self._send(leader, left)

    def _encoded(self, commands: Sequence[Own], term: int, clock_ms: int) -> list[bytes]:
        encode = Envelope(
            member_id=self.member_id,
            start_number=self.start_number,
            lowest_unsettled=self.pending.lowest_unsettled,
            proposing_term=term,
            leader_clock_ms=clock_ms,
        ).encode
        return [
            encode(
                own.sequence,
                own.kind,
                own.body,
                keyspace=own.keyspace,
                user=own.user,
                auth_revision=own.auth_revision,
            )
            for own in commands
        ]

    def _change(self, own: Own) -> ConfChange:
        """The membership change under its command id, which follows on the members."""
        assert own.change is not None
        id_ = ConfChangeContext(
            member_id=self.member_id,
            start_number=self.start_number,
            sequence=own.sequence,
            lowest_unsettled=self.pending.lowest_unsettled,
        )
        return replace(own.change, context=own.body + id_.SerializeToString())
