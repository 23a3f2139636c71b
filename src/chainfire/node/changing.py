"""Membership changes: which are refused when they are applied, the same on every member.

The api refuses earlier what it can see; this is what holds, in log order.
"""

from __future__ import annotations

from collections.abc import Mapping

from chainfire.errors import MemberExists, MemberNotFound, MemberNotLearner, TooManyLearners
from chainfire.proto.cluster_pb2 import Member
from chainfire.proto.command_pb2 import ConfChangeContext
from chainfire.raft.changes import ChangeKind, ConfChange

_ADDS = (ChangeKind.ADD_VOTER, ChangeKind.ADD_LEARNER)


def check(change: ConfChange, context: ConfChangeContext, members: Mapping[int, Member]) -> None:
    """Raise a RequestError if a step of the change does not fit the members that there are.

    Who is described is new (or, with UPDATE, moved); a voter step for a
    learner that is not described promotes it.
    """
    new = {member.ID for member in context.members}
    learners = {member.ID for member in members.values() if member.isLearner}
    for step in change.steps:
        known = members.get(step.id)
        if known is None:
            if step.kind not in _ADDS or step.id not in new:
                raise MemberNotFound
        elif step.kind in _ADDS and step.id in new:
            raise MemberExists
        elif step.kind is ChangeKind.ADD_VOTER and not known.isLearner:
            raise MemberNotLearner
        if step.kind is ChangeKind.ADD_LEARNER:
            learners.add(step.id)
            if context.learners_max and len(learners) > context.learners_max:
                raise TooManyLearners
        else:
            learners.discard(step.id)
