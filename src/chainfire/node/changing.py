"""Membership changes: which are refused when they are applied, the same on every member.

The api refuses earlier what it can see; this is what holds, in log order.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

from chainfire.errors import (
    MemberExists,
    MemberNotFound,
    MemberNotLearner,
    PeerUrlExists,
    TooManyLearners,
)
from chainfire.proto.cluster_pb2 import Member
from chainfire.proto.command_pb2 import ConfChangeContext
from chainfire.raft.changes import ChangeKind, ConfChange

_ADDS = (ChangeKind.ADD_VOTER, ChangeKind.ADD_LEARNER)


def check(
    change: ConfChange,
    context: ConfChangeContext,
    members: Mapping[int, Member],
    removed: Set[int],
) -> None:
    """Raise a RequestError if a step of the change does not fit the members that there are.

    Who is described is new (or, with UPDATE, moved); a voter step for a learner that is not
    described promotes it. `removed` are ids that never come back. Of several reasons the first is
    told, in etcd's order: who it is about, then the peer URLs, then how many learners (etcd:
    membership/cluster.go).
    """
    described = {member.ID: member for member in context.members}
    learners = {member.ID for member in members.values() if member.isLearner}
    for step in change.steps:
        known, new = members.get(step.id), described.get(step.id)
        if step.id in removed and new is not None and step.kind in _ADDS:
            raise MemberExists(f"member {step.id:x} was removed, its id cannot come back")
        if known is None:
            if step.kind not in _ADDS or new is None:
                raise MemberNotFound
        elif step.kind in _ADDS and new is not None:
            raise MemberExists
        elif step.kind is ChangeKind.ADD_VOTER and not known.isLearner:
            raise MemberNotLearner
        if new is not None:
            _check_urls(new, members)
        if step.kind is ChangeKind.ADD_LEARNER:
            learners.add(step.id)
            if context.learners_max and len(learners) > context.learners_max:
                raise TooManyLearners
        else:
            learners.discard(step.id)


def _check_urls(new: Member, members: Mapping[int, Member]) -> None:
    for other in members.values():
        if other.ID != new.ID and not set(other.peerURLs).isdisjoint(new.peerURLs):
            raise PeerUrlExists
