"""Which membership changes are refused when they are applied, and for which of several reasons."""

from __future__ import annotations

import pytest

from chainfire.errors import (
    MemberExists,
    MemberNotFound,
    MemberNotLearner,
    PeerUrlExists,
    RequestError,
    TooManyLearners,
)
from chainfire.node.changing import check
from chainfire.proto.cluster_pb2 import Member
from chainfire.proto.command_pb2 import ConfChangeContext
from chainfire.raft.changes import ChangeKind, ChangeStep, ConfChange

VOTER, LEARNER, GONE, UNKNOWN = 1, 2, 3, 9
ADD_VOTER, ADD_LEARNER = ChangeKind.ADD_VOTER, ChangeKind.ADD_LEARNER
UPDATE, REMOVE = ChangeKind.UPDATE, ChangeKind.REMOVE
MEMBERS = {
    VOTER: Member(ID=VOTER, peerURLs=["http://1"]),
    LEARNER: Member(ID=LEARNER, peerURLs=["http://2"], isLearner=True),
}


def refusal(kind: ChangeKind, id_: int, *urls: str) -> type[RequestError] | None:
    """With at most one learner; who has no URLs is not described."""
    described = [Member(ID=id_, peerURLs=urls)] if urls else []
    context = ConfChangeContext(members=described, learners_max=1)
    try:
        check(ConfChange((ChangeStep(kind, id_),)), context, MEMBERS, {GONE})
    except RequestError as error:
        return type(error)
    return None


@pytest.mark.parametrize("url", ["http://1", "http://9"])
def test_who_a_change_is_about_is_judged_before_its_urls(url: str) -> None:
    assert refusal(UPDATE, UNKNOWN, url) is MemberNotFound
    assert refusal(UPDATE, GONE, url) is MemberNotFound
    for kind in (ADD_VOTER, ADD_LEARNER):
        for id_ in (VOTER, LEARNER, GONE):
            assert refusal(kind, id_, url) is MemberExists


def test_a_peer_url_belongs_to_one_member() -> None:
    for id_, kind in ((UNKNOWN, ADD_VOTER), (UNKNOWN, ADD_LEARNER), (LEARNER, UPDATE)):
        assert refusal(kind, id_, "http://8", "http://1") is PeerUrlExists
    assert refusal(UPDATE, VOTER, "http://1", "http://8") is None, "its own"


def test_learners_are_counted_last() -> None:
    assert refusal(ADD_LEARNER, UNKNOWN, "http://8") is TooManyLearners


def test_only_a_learner_is_promoted_and_only_a_member_removed() -> None:
    kinds = {id_: (refusal(ADD_VOTER, id_), refusal(REMOVE, id_)) for id_ in (VOTER, LEARNER)}
    assert kinds == {VOTER: (MemberNotLearner, None), LEARNER: (None, None)}
    for id_ in (GONE, UNKNOWN):
        assert refusal(ADD_VOTER, id_) is refusal(REMOVE, id_) is MemberNotFound
