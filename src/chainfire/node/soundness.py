"""Is this member's state what it should be, and what follows if not? Pure; asked at every tick.

divergence   is its state the majority's?   ODD: the alarm, no leading, no standing for election
standing     does it hold what it had acknowledged?   FOLLOWING: no vote, no standing
duties       the CORRUPT alarm, raised and cleared
"""

from __future__ import annotations

from collections.abc import Callable

from chainfire.machine import Machine
from chainfire.node.divergence import Divergence, Verdict
from chainfire.node.duties import Duties
from chainfire.node.effects import Effects
from chainfire.node.handover import HandOver
from chainfire.node.reads import ReadPending
from chainfire.node.standing import Stage, Standing
from chainfire.proto.maintenance_pb2 import CORRUPT
from chainfire.raft.messages import NOBODY
from chainfire.raft.rawnode import RawNode


class Soundness:
    def __init__(
        self,
        raft: RawNode,
        machine: Machine,
        duties: Duties,
        hand_over: HandOver,
        effects: Effects,
        stage: Stage,
    ) -> None:
        self._core = raft.raft  # read, never written
        self._duties = duties
        self._hand_over = hand_over
        self.divergence = Divergence(raft, machine, effects)
        self.standing = Standing(raft, stage)

    @property
    def verdict(self) -> Verdict:
        """How this member's state compares with the others'."""
        return self.divergence.verdict

    @property
    def has_caught_up(self) -> bool:
        """A FOLLOWING member holds all that it should, and no alarm bears witness of its past."""
        return self.standing.has_caught_up and not self._duties.has_alarm(CORRUPT)

    @property
    def may_heal(self) -> bool:
        """Its state is not the majority's, all know of it, and it is its turn to begin anew."""
        return (
            self.verdict is Verdict.ODD
            and self._core.leader not in (NOBODY, self._core.id)
            and self._duties.is_first_with(CORRUPT)
        )

    def tick(self, read: Callable[[ReadPending], bool]) -> None:
        """`read` asks for a linearizable read; True: it may be made at once."""
        divergence, standing, duties = self.divergence, self.standing, self._duties
        divergence.tick()
        is_odd = divergence.verdict is Verdict.ODD
        standing.tick(read, is_fit=not is_odd)
        if is_odd:
            self._hand_over.leave()
        duties.is_corrupt = divergence.wants_alarm
        duties.is_sound_again = divergence.is_sound_again or standing.has_caught_up
