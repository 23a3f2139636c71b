"""Who hears of a node's turns: who waits for an answer, and who follows all that is applied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from chainfire.errors import RequestError
from chainfire.machine import Machine
from chainfire.node.effects import Answer
from chainfire.node.reads import ReadPending
from chainfire.storage.staged import Change


class Follower(Protocol):
    """Somebody who is told what is applied, turn by turn. Must not raise."""

    @property
    def wants_changes(self) -> bool:
        """Else it hears of revisions only."""
        ...

    def applied(self, changes: Sequence[Sequence[Change]], revision: int) -> None:
        """The store is at `revision` now; the rows of entries that changed some, in order.

        The first entries may be missing after `wants_changes` was set.
        """
        ...


class Outlet(Protocol):
    """A door by which many answers leave at once. Must not raise."""

    def hold(self) -> None:
        """Answers follow."""
        ...

    def flush(self) -> None:
        """That were all: let them leave."""
        ...


class Audience:
    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._outlets: list[Outlet] = []
        self._follower: Follower | None = None
        self._told_revision = machine.revision

    def follow(self, follower: Follower) -> None:
        assert self._follower is None
        self._follower = follower

    def answer_through(self, outlet: Outlet) -> None:
        self._outlets.append(outlet)

    def before_turn(self) -> None:
        """Whether anybody wants the rows may have changed."""
        if self._follower is not None:
            self._machine.keeps_changes = self._follower.wants_changes

    def show(self, answers: Sequence[Answer], reads: Sequence[ReadPending] = ()) -> None:
        """Tell who follows, then who waits; it all leaves together."""
        if not answers and not reads and self._machine.revision == self._told_revision:
            return
        for outlet in self._outlets:
            outlet.hold()
        try:
            self.tell_follower()
            self.answer(answers)
            for reader in reads:
                reader.ready()
        finally:
            for outlet in self._outlets:
                outlet.flush()

    def tell_follower(self) -> None:
        """Of what was applied since it heard last."""
        revision = self._machine.revision
        if self._follower is not None and revision != self._told_revision:
            self._told_revision = revision
            self._follower.applied(self._machine.take_changes(), revision)

    def answer(self, answers: Sequence[Answer]) -> None:
        for answer in answers:
            result = answer.result
            if isinstance(result, RequestError):
                answer.pending.refused(result)
            else:
                answer.pending.done(result)
