"""Membership changes: made once, by whatever member takes them, or refused by all alike."""

from __future__ import annotations

import pytest

from chainfire.errors import (
    MemberExists,
    MemberNotFound,
    MemberNotLearner,
    PeerUrlExists,
)
from chainfire.node.driver import Limits
from chainfire.node.frames import Change
from chainfire.proto.cluster_pb2 import Member
from chainfire.raft.changes import ChangeKind
from chainfire.raft.messages import MessageType
from chainfire.types import AckResult
from tests.node.cluster import Cluster, Packet, losing, reliable
from tests.node.world import PLENTY


def test_a_membership_change_is_taken_by_any_member_and_made_once() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    new = Member(ID=9, peerURLs=["http://9"])

    def twice(packet: Packet) -> list[Packet]:
        return [packet, packet] if isinstance(packet.frame, Change) else [packet]

    cluster.network = twice
    added = cluster.members[2].change(ChangeKind.ADD_LEARNER, 9, new)
    cluster.settle()
    assert isinstance(added.result, AckResult)
    cluster.run(3)
    assert leader.machine.conf_state.learners == (9,)
    assert all(world.machine.members[9].isLearner for world in cluster.members.values())
    removed = cluster.members[3].change(ChangeKind.REMOVE, 9)
    cluster.run(3)
    assert isinstance(removed.result, AckResult)
    assert leader.machine.conf_state.learners == () and cluster.all_equal()
    assert leader.machine.removed_members == {9}


@pytest.mark.parametrize(
    ("kind", "id_", "members", "error"),
    [
        (ChangeKind.REMOVE, 9, [], MemberNotFound),
        (ChangeKind.UPDATE, 9, [], MemberNotFound),
        (ChangeKind.ADD_VOTER, 9, [], MemberNotFound),
        (ChangeKind.ADD_VOTER, 2, [], MemberNotLearner),
        (ChangeKind.ADD_VOTER, 2, [Member(ID=2, peerURLs=["http://2"])], MemberExists),
        (ChangeKind.ADD_VOTER, 9, [Member(ID=9, peerURLs=["http://127.0.0.1:2"])], PeerUrlExists),
    ],
)
def test_a_change_that_does_not_fit_is_refused_when_applied(
    kind: ChangeKind, id_: int, members: list[Member], error: type[Exception]
) -> None:
    cluster = Cluster()
    cluster.elect()
    caller = cluster.members[2].change(kind, id_, *members)
    cluster.settle()
    assert isinstance(caller.error, error)
    cluster.run(2)
    assert cluster.all_equal() and cluster.members[1].machine.conf_state.voters == (1, 2, 3)


def test_membership_changes_wait_for_each_other() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    callers = [
        cluster.members[1 + id_ % 3].change(
            ChangeKind.ADD_LEARNER,
            id_,
            Member(ID=id_, peerURLs=[f"http://{id_}"]),
        )
        for id_ in (7, 8, 9)
    ]
    cluster.run(3)
    assert all(isinstance(caller.result, AckResult) for caller in callers)
    assert leader.machine.conf_state.learners == (7, 8, 9)


def test_learners_are_counted_when_the_change_is_applied() -> None:
    """Two members are asked at the same time, and neither sees the other's learner yet."""
    cluster = Cluster(limits=Limits(learners_max=1))
    cluster.elect()
    callers = [
        cluster.members[me].change(
            ChangeKind.ADD_LEARNER,
            id_,
            Member(ID=id_, peerURLs=[f"http://{id_}"]),
        )
        for me, id_ in ((2, 8), (3, 9))
    ]
    cluster.run(3)
    assert sorted(type(caller.error or caller.result).__name__ for caller in callers) == [
        "AckResult",
        "TooManyLearners",
    ]
    assert cluster.all_equal() and len(cluster.members[1].machine.conf_state.learners) == 1


@pytest.mark.parametrize("asked", [1, 2])
def test_a_leader_that_is_removed_lets_another_one_lead_first(asked: int) -> None:
    """Of two members: when the leader has gone, the other goes on alone."""
    cluster = Cluster(2)
    removed = cluster.elect(1)
    caller = cluster.members[asked].change(ChangeKind.REMOVE, 1)
    while 1 in removed.machine.members:
        cluster.now_ms += 100
        assert cluster.step() or cluster.now_ms < 100_000
        if cluster.now_ms % 1000 == 0:
            for world in cluster.members.values():
                world.driver.tick(cluster.now_ms, PLENTY)
    cluster.crash(1)
    left = cluster.members[2]
    put = left.put(b"k")
    cluster.run_until(lambda: put.answered)
    assert put.result is not None
    assert left.machine.conf_state.voters == (2,)
    assert asked == 1 or isinstance(caller.result, AckResult)


def test_a_leader_that_nobody_can_follow_removes_itself_all_the_same() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.network = losing(MessageType.TIMEOUT_NOW)
    caller = leader.change(ChangeKind.REMOVE, 1)
    cluster.run_until(lambda: caller.answered)
    assert isinstance(caller.result, AckResult)


def test_a_change_lost_with_its_leader_is_made_by_the_next_one() -> None:
    cluster = Cluster()
    cluster.elect()
    cluster.network = losing(MessageType.APPEND)
    caller = cluster.members[2].change(
        ChangeKind.ADD_LEARNER, 9, Member(ID=9, peerURLs=["http://9"])
    )
    cluster.settle()
    cluster.crash(1)
    cluster.network = reliable
    cluster.run_until(lambda: caller.answered)
    assert isinstance(caller.result, AckResult)
