from __future__ import annotations

from chainfire.raft.config import ReadOnly
from chainfire.raft.messages import Message
from chainfire.raft.rawnode import RawNode
from tests.raft.build import M, acknowledge, append, leader, log_of, member, settle, turn


def states(node: RawNode) -> list[tuple[int, bytes]]:
    found = [(state.index, state.context) for state in node.raft.read_states]
    settle(node)
    return found


def test_read_waits_for_an_entry_of_the_term() -> None:
    """etcd#7331."""
    node = leader(storage=log_of(1, 1), term=1, commit=2, applied_index=2)
    node.read_index(b"r")
    assert all(not message.context for message in settle(node))
    acknowledge(node, 2)
    rounds = [m for m in settle(node) if m.type is M.HEARTBEAT]
    assert len(rounds) == 2
    node.step(Message(M.HEARTBEAT_REPLY, 1, 3, 2, context=rounds[0].context))
    assert states(node) == [(3, b"r")]


def test_sole_voter_answers_alone_but_not_before_its_term_is_committed() -> None:
    """raft#105."""
    node = member((1,), storage=log_of(1, 1), term=1, commit=1)
    node.campaign()
    turn(node)
    assert node.raft.leader == 1 and node.raft.log.committed == 1
    node.read_index(b"r")
    assert not node.raft.read_states
    turn(node)
    assert states(node) == [(3, b"r")]


def test_lost_leadership_drops_reads_unanswered() -> None:
    node = leader()
    acknowledge(node, 2)
    node.read_index(b"r")
    context = settle(node)[-1].context
    append(node, (0, 0), term=5)
    node.step(Message(M.HEARTBEAT_REPLY, 1, 3, 5, context=context))
    assert states(node) == [] and len(node.raft.reads) == 0


def test_periodic_heartbeat_repeats_an_unconfirmed_round() -> None:
    node = leader()
    acknowledge(node, 2)
    node.read_index(b"r")
    first = {m.context for m in settle(node) if m.type is M.HEARTBEAT}
    node.tick()
    assert {m.context for m in settle(node) if m.type is M.HEARTBEAT} == first != {b""}


def test_lease_answers_at_once_but_not_during_a_transfer() -> None:
    """openraft#1747."""
    node = leader(check_quorum=True, read_only=ReadOnly.LEASE_BASED)
    acknowledge(node, 2)
    node.read_index(b"r")
    assert states(node) == [(1, b"r")]
    node.transfer_leader(2)
    node.read_index(b"s")
    assert states(node) == []


def test_follower_asks_and_is_answered_by_its_own_context() -> None:
    node = member()
    assert not node.read_index(b"nobody")
    append(node, (0, 0), term=1)
    settle(node)
    assert node.read_index(b"r")
    (message,) = settle(node)
    assert (message.type, message.to, message.context) == (M.READ_INDEX, 2, b"r")
    node.step(Message(M.READ_INDEX_REPLY, 1, 2, 1, index=7, context=b"r"))
    assert states(node) == [(7, b"r")]


def test_answer_of_a_deposed_leader_is_not_used() -> None:
    """etcd#21375."""
    node = member(term=5)
    node.step(Message(M.READ_INDEX_REPLY, 1, 2, 4, index=7, context=b"r"))
    assert states(node) == []
