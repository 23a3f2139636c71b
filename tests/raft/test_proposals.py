from __future__ import annotations

import pytest

from chainfire.raft.changes import ChangeKind, ChangeStep, ConfChange, Transition
from chainfire.raft.messages import Message, ProposalDropped, Refusal
from chainfire.types import Entry, EntryType
from tests.raft.build import M, acknowledge, append, leader, member, settle, turn

ADD_4 = ConfChange((ChangeStep(ChangeKind.ADD_VOTER, 4),))


def test_batch_is_one_append_in_order() -> None:
    node = leader()
    acknowledge(node, 2)
    settle(node)
    node.propose([b"a", b"b", b"c"])
    ready = turn(node)
    assert [(e.index, e.data) for e in ready.entries] == [(2, b"a"), (3, b"b"), (4, b"c")]
    assert [len(message.entries) for message in ready.messages] == [3]


def test_nobody_to_lead_drops_the_proposal() -> None:
    node = member()
    with pytest.raises(ProposalDropped):
        node.propose([b"a"])
    assert node.step(Message(M.PROPOSE, 1, 2, entries=[Entry(0, 0)])) is Refusal.PROPOSAL_DROPPED
    assert not node.has_ready()


def test_follower_passes_proposals_on_unless_told_not_to() -> None:
    for forward in (True, False):
        node = member(forward_proposals=forward)
        append(node, (0, 0), term=1)
        settle(node)
        if not forward:
            with pytest.raises(ProposalDropped):
                node.propose([b"a"])
            continue
        node.propose([b"a"])
        (message,) = settle(node)
        assert (message.type, message.to, message.entries[0].data) == (M.PROPOSE, 2, b"a")


def test_uncommitted_bytes_are_bounded_and_come_back_when_applied() -> None:
    """raft a370b6f: what was counted and what was given back differed; all was refused for ever."""
    node = leader((1,), uncommitted_bytes_max=10)
    for _ in range(20):
        node.propose([b"x" * 8])
        with pytest.raises(ProposalDropped):
            node.propose([b"yyy"])
        settle(node)
        assert node.raft.uncommitted_bytes == 0


def test_refused_change_does_not_count_its_bytes() -> None:
    node = leader((1,), uncommitted_bytes_max=1000)
    node.propose_conf_change(ADD_4)
    counted = node.raft.uncommitted_bytes
    node.propose_conf_change(ADD_4)
    assert node.raft.uncommitted_bytes == counted


def test_first_proposal_of_any_size_is_taken() -> None:
    node = leader((1,), uncommitted_bytes_max=10)
    node.propose([b"x" * 500])
    settle(node)
    assert node.raft.log.applied == 2


def test_second_change_waits_until_the_first_is_applied() -> None:
    node = leader((1,))
    node.propose_conf_change(ADD_4)
    node.propose_conf_change(ADD_4)
    types = [entry.type for entry in turn(node).entries]
    assert types == [EntryType.CONF_CHANGE_V2, EntryType.NORMAL]


def test_no_change_before_what_was_inherited_is_applied() -> None:
    node = leader()
    node.propose_conf_change(ADD_4)
    assert [entry.type for entry in turn(node).entries] == [EntryType.CONF_CHANGE_V2]
    inherited = leader(storage=node.raft.log.storage, term=1)  # type: ignore[arg-type]
    inherited.propose_conf_change(ADD_4)
    assert [entry.type for entry in turn(inherited).entries] == [EntryType.NORMAL]


def test_joint_configuration_is_left_once_and_even_when_nothing_else_happens() -> None:
    """etcd#12136: proposed repeatedly; and an idle group stayed joint after a failed transfer."""
    node = leader((1, 2))
    acknowledge(node, 2)
    settle(node)
    node.propose_conf_change(ConfChange(ADD_4.steps, Transition.JOINT_IMPLICIT))
    settle(node)
    node.transfer_leader(2)  # while it goes on, nothing is proposed
    node.raft.log.commit_to(2)
    ready = node.ready()
    node.raft.log.storage.append(ready.entries)  # type: ignore[attr-defined]
    node.apply_conf_change(ConfChange.decode(ready.committed[0].data))
    node.advance()
    assert node.raft.tracker.is_joint and node.raft.log.last_index == 2
    for _ in range(12):
        node.tick()
        settle(node)
    assert node.raft.log.last_index == 3


def test_removed_leader_takes_no_proposals() -> None:
    node = leader((1, 2))
    node.apply_conf_change(ConfChange((ChangeStep(ChangeKind.REMOVE, 1),)))
    with pytest.raises(ProposalDropped):
        node.propose([b"x"])
