"""This member's own commands on their way into the log: queued, put into envelopes, proposed.

`pending` knows who waits for which of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from chainfire.command import Envelope
from chainfire.errors import RequestError, Timeout, TooManyRequests
from chainfire.machine import Machine
from chainfire.node.effects import Answer, Effects
from chainfire.node.proposals import Proposals
from chainfire.raft.messages import ProposalDropped
from chainfire.raft.rawnode import RawNode
from chainfire.types import Pending


@dataclass(slots=True)
class _Queued:
    sequence: int
    kind: int
    body: bytes
    keyspace: int
    user: str
    auth_revision: int


class Proposer:
    def __init__(
        self,
        raft: RawNode,
        machine: Machine,
        effects: Effects,
        *,
        member_id: int,
        start_number: int,
        pending_max: int,
        timeout_ms: int,
    ) -> None:
        self.member_id = member_id
        self.start_number = start_number
        self.pending = Proposals(pending_max=pending_max, timeout_ms=timeout_ms)
        self._raft = raft
        self._core = raft.raft  # read, never written
        self._machine = machine
        self._effects = effects
        self._queue: list[_Queued] = []  # not yet handed to raft

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
        sequence = self.pending.add(pending)
        self._queue.append(_Queued(sequence, kind, body, keyspace, user, auth_revision))

    def turn(self, now_ms: int, *, may_propose: bool) -> None:
        """Hand what is queued to raft, if it may take it now."""
        if self._queue:
            self.pending.mark_turn(now_ms)
            if may_propose and self._core.leader:
                self._propose()

    def tick(self, now_ms: int) -> None:
        """Those whose time is over hear that their outcome is unknown."""
        late = self.pending.overdue(now_ms)
        if late:
            self._effects.answers += [Answer(pending, Timeout()) for pending in late]
            self._queue = [item for item in self._queue if self.pending.waits(item.sequence)]

    def stop(self) -> list[Pending]:
        """Everybody who waits; nothing more is proposed."""
        self._queue.clear()
        return self.pending.take_all()

    def _propose(self) -> None:
        queue, self._queue = self._queue, []
        envelope = Envelope(
            member_id=self.member_id,
            start_number=self.start_number,
            lowest_unsettled=self.pending.lowest_unsettled,
            proposing_term=self._core.term,
            leader_clock_ms=self._machine.leader_clock_ms,
        )
        encode = envelope.encode
        try:
            self._raft.propose(
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

    def _answer(self, sequence: int, result: RequestError) -> None:
        pending = self.pending.settle(sequence)
        if pending is not None:
            self._effects.answers.append(Answer(pending, result))
