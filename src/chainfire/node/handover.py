"""Leadership is handed over: because somebody asks for it, or because this leader is unfit: its
disk stalls, or its state is not what the majority's is.

A leader that cannot write holds everybody up while its heartbeats keep the
others from electing a better one (etcd#15247). So after half an election
timeout without a finished sync it hands over to a follower that has
everything, or, if there is none, just follows; after a whole one it follows
in any case. A sole voter goes on: there is nobody else.
"""

from __future__ import annotations

from dataclasses import dataclass

from chainfire.errors import BadLeaderTransferee, NotLeader, RequestError, TimeoutLeaderTransfer
from chainfire.machine import Machine
from chainfire.node.effects import Answer, Effects
from chainfire.raft.messages import NOBODY
from chainfire.raft.progress import ProgressState
from chainfire.raft.rawnode import RawNode
from chainfire.raft.ready import Role
from chainfire.types import AckResult, Pending, Result


@dataclass(slots=True)
class _Move:
    target: int
    pending: Pending


class HandOver:
    def __init__(
        self, raft: RawNode, machine: Machine, effects: Effects, election_timeout_ms: int
    ) -> None:
        self._raft = raft
        self._core = raft.raft  # read, never written
        self._machine = machine
        self._effects = effects
        self._election_timeout_ms = election_timeout_ms
        self._moves: list[_Move] = []  # asked for and not ended
        self._unsynced = (0, 0)  # the oldest log write without a sync, and since when (ms)
        self._leaving_ms: int | None = None  # since when it tries to

    @property
    def is_leaving(self) -> bool:
        """This leader waits for somebody who could take over."""
        return self._leaving_ms is not None

    @property
    def is_moving(self) -> bool:
        """Somebody waits to hear that another member leads."""
        return bool(self._moves)

    def move(self, target: int, pending: Pending) -> None:
        """Make this voter the leader; `pending` hears when it leads, or that it will not."""
        core = self._core
        if core.role is not Role.LEADER:
            pending.refused(NotLeader())
        elif target not in core.tracker.all_voters:
            pending.refused(BadLeaderTransferee())
        elif target == core.id:
            pending.done(AckResult(self._machine.revision))
        else:
            self._moves.append(_Move(target, pending))
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

    def observe(self, now_ms: int, oldest_unsynced: int | None) -> None:
        """After each turn."""
        if oldest_unsynced is None:
            self._unsynced = (0, now_ms)
        elif oldest_unsynced != self._unsynced[0]:
            self._unsynced = (oldest_unsynced, now_ms)
        if self._moves:
            self._end_moves()

    def tick(self, now_ms: int) -> None:
        core = self._core
        if core.role is not Role.LEADER or core.tracker.is_singleton or not self._unsynced[0]:
            return
        stalled_ms = now_ms - self._unsynced[1]
        if stalled_ms >= self._election_timeout_ms:
            self._raft.step_down()
        elif stalled_ms >= self._election_timeout_ms / 2 and core.transferee == NOBODY:
            best = self.best()
            if best != NOBODY and core.tracker.progress[best].match == core.log.last_index:
                self._raft.transfer_leader(best)
            else:
                self._raft.step_down()

    def leave(self, now_ms: int) -> None:
        """A leader that must not lead lets another one, or, after an election timeout, follows."""
        if self._core.role is not Role.LEADER:
            self._leaving_ms = None
            return
        best = self.best()
        if self._leaving_ms is None and best != NOBODY:
            self._leaving_ms = now_ms
            self._raft.transfer_leader(best)
        elif best == NOBODY or now_ms - (self._leaving_ms or 0) >= self._election_timeout_ms:
            self._raft.step_down()

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
            if core.leader == move.target:
                outcome = AckResult(self._machine.revision)
            elif core.role is Role.LEADER and core.transferee != move.target:
                outcome = TimeoutLeaderTransfer()  # given up after an election timeout
            elif core.role is not Role.LEADER and core.leader != NOBODY:
                outcome = TimeoutLeaderTransfer()  # somebody else has won
            else:
                going_on.append(move)
                continue
            self._effects.answers.append(Answer(move.pending, outcome))
        self._moves = going_on
