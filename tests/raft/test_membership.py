from __future__ import annotations

import pytest

from chainfire.raft.changes import ChangeKind, ChangeStep, ConfChange, Transition
from chainfire.raft.confchange import InvalidConfChange
from chainfire.raft.ready import Role
from chainfire.types import EntryType
from tests.raft.build import M, acknowledge, leader, member, settle, turn


def change(*steps: tuple[ChangeKind, int]) -> ConfChange:
    return ConfChange(tuple(ChangeStep(kind, id) for kind, id in steps))


REMOVE, ADD, LEARN = ChangeKind.REMOVE, ChangeKind.ADD_VOTER, ChangeKind.ADD_LEARNER


def test_smaller_quorum_may_have_agreed_already() -> None:
    node = leader((1, 2, 3, 4))
    acknowledge(node, 2)
    assert node.raft.log.committed == 0
    assert node.apply_conf_change(change((REMOVE, 4))).voters == (1, 2, 3)
    assert node.raft.log.committed == 1


def test_new_member_is_probed_at_once() -> None:
    node = leader((1,))
    node.apply_conf_change(change((LEARN, 7)))
    assert [(m.type, m.to) for m in settle(node)] == [(M.APPEND, 7)]


def test_removed_leader_goes_on_unless_told_to_step_down() -> None:
    for step_down in (False, True):
        node = leader(step_down_on_removal=step_down)
        node.apply_conf_change(change((REMOVE, 1)))
        assert (node.raft.role is Role.FOLLOWER) is step_down


def test_removed_leader_does_not_count_itself() -> None:
    node = leader()
    node.apply_conf_change(change((REMOVE, 1)))
    acknowledge(node, 2)
    assert node.raft.log.committed == 0
    acknowledge(node, 3)
    assert node.raft.log.committed == 1


def test_smaller_quorum_may_have_agreed_without_the_removed_leader() -> None:
    node = leader((1, 2, 3, 4))
    acknowledge(node, 2)
    for id in (1, 4, 3):
        assert node.raft.log.committed == 0
        node.apply_conf_change(change((REMOVE, id)))
    assert node.raft.log.committed == 1


def test_removed_leader_leaves_a_joint_configuration_that_it_is_in_no_half_of() -> None:
    node = leader()
    acknowledge(node, 2)
    settle(node)
    node.apply_conf_change(change((REMOVE, 1)))
    joint = ConfChange((ChangeStep(LEARN, 3),), Transition.JOINT_IMPLICIT)
    assert node.apply_conf_change(joint).auto_leave
    node.tick()
    assert [entry.type for entry in turn(node).entries] == [EntryType.CONF_CHANGE_V2]
    node.tick()
    assert not turn(node).entries, "proposed again before it is applied"
    acknowledge(node, 2)
    acknowledge(node, 3)
    (left,) = node.ready().committed
    conf = node.apply_conf_change(ConfChange.decode(left.data))
    assert (conf.voters, conf.learners, conf.voters_outgoing) == ((2,), (3,), ())


def test_removed_transferee_ends_the_transfer() -> None:
    node = leader((1, 2, 3, 4))
    node.transfer_leader(4)
    node.apply_conf_change(change((REMOVE, 4)))
    assert node.raft.transferee == 0


def test_change_that_cannot_be_made_changes_nothing() -> None:
    node = member((1,))
    with pytest.raises(InvalidConfChange):
        node.apply_conf_change(change((REMOVE, 1)))
    assert node.raft.tracker.conf.voters == (1,)


def test_learner_becomes_promotable_with_its_promotion() -> None:
    node = member((2,), learners=(1,))
    assert not node.campaign()
    node.apply_conf_change(change((ADD, 1)))
    assert node.campaign()
