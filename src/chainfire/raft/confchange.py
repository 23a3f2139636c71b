"""Membership arithmetic: a configuration and a change in, the next configuration out.

    simple        at most one voter changes: any two majorities of before and after overlap
    enter_joint   old and new majority both decide, until
    leave_joint   only the new one does (thesis §4.3)

Nothing is changed in place: a refused change leaves no trace. A voter that is
demoted while joint stays a voter of the outgoing half, so it waits in
`learners_next` and becomes a learner on leaving.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from chainfire.errors import ChainfireError
from chainfire.raft.changes import ChangeKind, ChangeStep, ConfChange
from chainfire.raft.messages import NOBODY
from chainfire.raft.progress import Progress
from chainfire.raft.tracker import Tracker, sorted_conf
from chainfire.types import ConfState


class Reason(Enum):
    """Why a change cannot be made to a configuration."""

    ALREADY_JOINT = "the configuration is joint already"
    NOT_JOINT = "there is no joint configuration to leave"
    NO_VOTERS = "a configuration without voters cannot become joint"
    SIMPLE_IN_JOINT = "a simple change must wait until the joint configuration is left"
    TWO_VOTERS = "more than one voter changes, which needs a joint configuration"
    LAST_VOTER = "no voter would be left"


class InvalidConfChange(ChainfireError):
    """The configuration is as it was."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class Changer:
    """Works on copies; `conf` and `progress` are the result, to be installed in the tracker."""

    def __init__(self, tracker: Tracker, last_index: int) -> None:
        conf = tracker.conf
        self._tracker = tracker
        # A new member is probed from our last entry on; one step back per refusal's hint.
        self._next_index = max(last_index, 1)
        self._voters = set(conf.voters)
        self._learners = set(conf.learners)
        self._outgoing = set(conf.voters_outgoing)
        self._learners_next = set(conf.learners_next)
        self._auto_leave = conf.auto_leave
        self.progress: dict[int, Progress] = dict(tracker.progress)

    @property
    def conf(self) -> ConfState:
        return sorted_conf(
            self._voters, self._learners, self._outgoing, self._learners_next, self._auto_leave
        )

    # ── the three changes ───────────────────────────────────────────────────

    def change(self, change: ConfChange) -> None:
        """Carry out whichever of the three the change asks for; raises InvalidConfChange."""
        if change.leaves_joint:
            self.leave_joint()
        elif change.enters_joint:
            self.enter_joint(change.steps, auto_leave=change.auto_leave)
        else:
            self.simple(change.steps)

    def simple(self, steps: Iterable[ChangeStep]) -> None:
        if self._outgoing:
            raise InvalidConfChange(Reason.SIMPLE_IN_JOINT)
        before = set(self._voters)
        self._apply(steps)
        if len(before ^ self._voters) > 1:
            raise InvalidConfChange(Reason.TWO_VOTERS)

    def enter_joint(self, steps: Iterable[ChangeStep], *, auto_leave: bool) -> None:
        if self._outgoing:
            raise InvalidConfChange(Reason.ALREADY_JOINT)
        if not self._voters:
            raise InvalidConfChange(Reason.NO_VOTERS)
        self._outgoing = set(self._voters)
        self._apply(steps)
        self._auto_leave = auto_leave

    def leave_joint(self) -> None:
        if not self._outgoing:
            raise InvalidConfChange(Reason.NOT_JOINT)
        self._learners |= self._learners_next
        for id in self._outgoing - self._voters - self._learners:
            del self.progress[id]
        self._outgoing, self._learners_next, self._auto_leave = set(), set(), False

    # ── steps ───────────────────────────────────────────────────────────────

    def _apply(self, steps: Iterable[ChangeStep]) -> None:
        for step in steps:
            if step.id == NOBODY:
                continue  # how a proposer takes one step out of a change
            if step.kind is ChangeKind.ADD_VOTER:
                self._make_voter(step.id)
            elif step.kind is ChangeKind.ADD_LEARNER:
                self._make_learner(step.id)
            elif step.kind is ChangeKind.REMOVE:
                self._remove(step.id)
        if not self._voters:
            raise InvalidConfChange(Reason.LAST_VOTER)

    def _make_voter(self, id: int) -> None:
        self._track(id)
        self._learners.discard(id)
        self._learners_next.discard(id)
        self._voters.add(id)

    def _make_learner(self, id: int) -> None:
        self._track(id)
        self._voters.discard(id)
        if id in self._outgoing:
            self._learners_next.add(id)
        else:
            self._learners.add(id)

    def _remove(self, id: int) -> None:
        self._voters.discard(id)
        self._learners.discard(id)
        self._learners_next.discard(id)
        if id not in self._outgoing:
            self.progress.pop(id, None)

    def _track(self, id: int) -> None:
        if id not in self.progress:
            self.progress[id] = self._tracker.new_progress(self._next_index)
