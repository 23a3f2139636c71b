from __future__ import annotations

import pytest

from chainfire.raft.config import ReadOnly
from chainfire.raft.messages import TRANSFER, Message, ProposalDropped
from chainfire.raft.ready import Role, StepDown
from tests.raft.build import M, acknowledge, append, leader, member, settle


def test_member_that_is_up_to_date_is_told_at_once() -> None:
    node = leader()
    acknowledge(node, 2)
    settle(node)
    node.transfer_leader(2)
    assert [(m.type, m.to) for m in settle(node)] == [(M.TIMEOUT_NOW, 2)]


def test_member_that_lags_is_caught_up_first_and_nothing_is_proposed_meanwhile() -> None:
    """hashicorp#581: under a stream of writes the transferee never caught up."""
    node = leader()
    settle(node)
    node.transfer_leader(2)
    with pytest.raises(ProposalDropped):
        node.propose([b"x"])
    assert M.TIMEOUT_NOW not in [m.type for m in settle(node)]
    acknowledge(node, 2)
    assert M.TIMEOUT_NOW in [m.type for m in settle(node)]


def test_learner_or_stranger_is_not_transferred_to() -> None:
    """raft-rs#165."""
    node = leader(learners=(4,))
    for id in (4, 9):
        node.transfer_leader(id)
        assert node.raft.transferee == 0


def test_transfer_to_the_leader_itself_ends_another() -> None:
    node = leader()
    node.transfer_leader(2)
    node.transfer_leader(1)
    assert node.raft.transferee == 0 and node.raft.role is Role.LEADER


def test_transferee_skips_the_pre_vote_and_is_heard_beside_a_leader() -> None:
    node = member(pre_vote=True, check_quorum=True)
    append(node, (0, 0), term=1)
    settle(node)
    node.step(Message(M.TIMEOUT_NOW, 1, 2, 1))
    assert node.raft.role is Role.CANDIDATE
    votes = [m for m in settle(node) if m.type is M.VOTE]
    assert [m.context for m in votes] == [TRANSFER, TRANSFER]


def test_follower_tells_its_leader() -> None:
    node = member()
    assert not node.transfer_leader(3)
    append(node, (0, 0), term=1)
    settle(node)
    assert node.transfer_leader(3)
    (message,) = settle(node)
    assert (message.type, message.to, message.sender) == (M.TRANSFER_LEADER, 2, 3)


def test_leader_is_not_forgotten_under_leases() -> None:
    node = member(check_quorum=True, read_only=ReadOnly.LEASE_BASED)
    append(node, (0, 0), term=1)
    node.forget_leader()
    assert node.raft.leader == 2


def test_unfit_leader_steps_down_in_its_term() -> None:
    node = leader()
    node.step_down(StepDown.DISK_STALLS)
    assert node.raft.role is Role.FOLLOWER and node.raft.term == 1
    assert node.raft.vote == 1
