"""Leadership is handed over: because somebody asks for it, or because this leader is unfit: its
disk stalls, or its state is not what the majority's is.

A leader that cannot write holds everybody up while its heartbeats keep the
others from electing a better one (etcd#15247). So after half an election
timeout without a finished sync it hands over to a follower that has
everything; if there is none, nobody is known to do better, and it waits for
the whole of it before it just follows. A sole voter goes on: there is nobody
else.

Time is counted in ticks, of which a stall of the loop has one at most, however
long it is. By the clock, whoever gets no CPU for half a second while a sync is
under way would take its disk for stalled, and leave a cluster without a leader
that has just elected it.
"""

from __future__ import annotations

from dataclasses import dataclass

from chainfire.errors import BadLeaderTransferee, NotLeader, RequestError, TimeoutLeaderTransfer
from chainfire.machine import Machine
from chainfire.node.effects import Answer, Effects
from chainfire.raft.messages import NOBODY
from chainfire.raft.progress import ProgressState
from chainfire.raft.rawnode import RawNode
from chainfire.raft.ready import Role, StepDown
from chainfire.types import AckResult, Pending, Result


@dataclass(slots=True)
class _Move:
    target: int
    pending: Pending
    entirely: bool
    ticks_left: int  # for the target to commit an entry of its own, or for anybody to lead


class HandOver:
    def __init__(self, raft: RawNode, machine: Machine, effects: Effects) -> None:
        self._raft = raft
        self._core = raft.raft  # read, never written
        self._machine = machine
        self._effects = effects
        self._election_ticks = raft.raft.config.election_ticks
        self._moves: list[_Move] = []  # asked for and not ended
        self._unsynced: int | None = None  # the oldest log write without a sync, at the last tick
        self._stalled_ticks = 0  # how many ticks ago it was that already
        self._leaving_ticks: int | None = None  # for how long it has tried to

    @property
    def is_leaving(self) -> bool:
        """This leader waits for somebody who could take over."""
        return self._leaving_ticks is not None

    @property
    def is_moving(self) -> bool:
        """Somebody waits to hear that another member leads."""
        return bool(self._moves)

    def move(self, target: int, pending: Pending, *, entirely: bool = False) -> None:
        """Make this voter the leader; `pending` hears when it leads, or that it will not.

        `entirely`: when it has committed an entry of its own, too, or an election timeout later.
        Until then this member's word may be the one that it needs, so whoever stops stays.
        Where nobody leads for that long (the others stop, too), it hears that it was in vain.
        """
        core = self._core
        if core.role is not Role.LEADER:
            pending.refused(NotLeader())
        elif target not in core.tracker.all_voters:
            pending.refused(BadLeaderTransferee())
        elif target == core.id:
            pending.done(AckResult(self._machine.revision))
        else:
            self._moves.append(_Move(target, pending, entirely, self._election_ticks))
            self._raft.transfer_leader(target)

    def best(self) -> int:
        """The voter that is nearest to leading well; NOBODY if none was ever heard."""
        core = self._core
        able = [
            (peer.recent_active, peer.state is ProgressState.REPLICATE, peer.match, id)
            for id, peer in core.tracker.progress.items()
            if id != core.id and id in core.tracker.conf.voters and peer.match
        ]
        return max(able)[3] if able else NOBODY

    def observe(self) -> None:
        """After each turn."""
        if self._moves:
            self._end_moves()

    def tick(self, oldest_unsynced: int | None) -> None:
        """`oldest_unsynced` is the number of the oldest log write that waits for its sync."""
        for move in self._moves:
            if self._core.leader in (move.target, NOBODY) and move.ticks_left:
                move.ticks_left -= 1
        if oldest_unsynced is None or oldest_unsynced != self._unsynced:
            self._unsynced, self._stalled_ticks = oldest_unsynced, 0
            return
        self._stalled_ticks += 1
        core = self._core
        if core.role is not Role.LEADER or core.tracker.is_singleton:
            return
        if self._stalled_ticks >= self._election_ticks:
            self._raft.step_down(StepDown.DISK_STALLS)
        elif self._stalled_ticks >= self._election_ticks / 2 and core.transferee == NOBODY:
            best = self.best()
            if best != NOBODY and core.tracker.progress[best].match == core.log.last_index:
                self._raft.transfer_leader(best)

    def leave(self) -> None:
        """At each tick of a leader that must not lead: it lets another one, or, after an election
        timeout, follows.
        """
        if self._core.role is not Role.LEADER:
            self._leaving_ticks = None
            return
        best = self.best()
        if self._leaving_ticks is not None:
            self._leaving_ticks += 1
        if best == NOBODY or (self._leaving_ticks or 0) >= self._election_ticks:
            self._raft.step_down(StepDown.STATE_DIFFERS)
        elif self._leaving_ticks is None:
            self._leaving_ticks = 0
            self._raft.transfer_leader(best)

    def stop(self) -> list[Pending]:
        """Everybody who waits."""
        waiting = [move.pending for move in self._moves]
        self._moves.clear()
        return waiting

    def _end_moves(self) -> None:
        core = self._core
        going_on: list[_Move] = []
        for move in self._moves:
            outcome: Result | RequestError
            leads = core.leader == move.target
            if leads and (not move.entirely or core.committed_in_term or not move.ticks_left):
                outcome = AckResult(self._machine.revision)
            elif leads:
                going_on.append(move)
                continue
            elif core.role is Role.LEADER and core.transferee != move.target:
                outcome = TimeoutLeaderTransfer()  # given up after an election timeout
            elif core.role is not Role.LEADER and core.leader != NOBODY:
                outcome = TimeoutLeaderTransfer()  # somebody else has won
            elif core.leader == NOBODY and not move.ticks_left:
                outcome = TimeoutLeaderTransfer()  # nobody has
            else:
                going_on.append(move)
                continue
            self._effects.answers.append(Answer(move.pending, outcome))
        self._moves = going_on
