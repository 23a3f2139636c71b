from __future__ import annotations

from chainfire.raft.changes import ChangeKind, ChangeStep, ConfChange
from chainfire.raft.config import ReadOnly
from chainfire.raft.messages import Message
from chainfire.raft.rawnode import RawNode
from chainfire.raft.ready import Role
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


def asked(node: RawNode, sender: int, term: int) -> list[tuple[int, int]]:
    """A follower asks in this term: what it is told at once, and what others are asked."""
    node.step(Message(M.READ_INDEX, 1, sender, term, context=b"r"))
    sent = settle(node)
    answers = [m for m in sent if m.type is M.READ_INDEX_REPLY]
    assert bool(answers) != any(m.context and m.type is M.HEARTBEAT for m in sent)
    return [(m.to, m.index) for m in answers]


def test_who_asks_in_the_leaders_term_confirms_it() -> None:
    node = leader()
    acknowledge(node, 2)
    settle(node)
    assert asked(node, 3, term=1) == [(3, 1)]
    assert asked(node, 3, term=0) == []  # says nothing about a term


def test_who_asks_is_half_a_quorum_of_five_and_no_part_of_one_as_a_learner() -> None:
    node = leader((1, 2, 3, 4, 5))
    acknowledge(node, 2), acknowledge(node, 3)
    settle(node)
    assert asked(node, 2, term=1) == []
    node = leader((1, 2, 3), learners=(4,))
    acknowledge(node, 2)
    settle(node)
    assert asked(node, 4, term=1) == []


def test_who_asks_confirms_no_round_of_the_leaders_own() -> None:
    """It may have asked before that read began, and another leader have committed in between."""
    node = leader()
    acknowledge(node, 2)
    node.read_index(b"own")
    settle(node)
    node.step(Message(M.READ_INDEX, 1, 2, 1, context=b"r"))
    assert states(node) == [] and len(node.raft.reads) == 1


def test_few_are_asked_once_they_have_answered_and_all_where_they_are_silent() -> None:
    node = leader(rounds_ask_few=True)
    acknowledge(node, 2)
    settle(node)

    def asked() -> dict[int, bytes]:
        return {m.to: m.context for m in settle(node) if m.context}

    node.read_index(b"one")
    first = asked()
    assert set(first) == {2, 3}
    node.step(Message(M.HEARTBEAT_REPLY, 1, 3, 1, context=first[3]))
    assert states(node) == [(1, b"one")]
    node.read_index(b"two")
    second = asked()
    assert set(second) == {3}
    node.ask_all()
    assert asked() == {2: second[3], 3: second[3]}
    node.step(Message(M.HEARTBEAT_REPLY, 1, 2, 1, context=second[3]))
    assert states(node) == [(1, b"two")]
    node.read_index(b"three")
    assert set(asked()) == {2}
    node.ask_all()
    node.step(Message(M.HEARTBEAT_REPLY, 1, 2, 1, context=asked()[2]))
    node.ask_all()  # nothing is open
    assert asked() == {}


def test_helpers_that_are_no_quorum_any_more_are_not_relied_on() -> None:
    node = leader(rounds_ask_few=True)
    acknowledge(node, 2)
    node.read_index(b"one")
    context = next(m.context for m in settle(node) if m.context)
    node.step(Message(M.HEARTBEAT_REPLY, 1, 3, 1, context=context))
    settle(node)
    node.apply_conf_change(ConfChange((ChangeStep(ChangeKind.REMOVE, 3),)))
    settle(node)
    node.read_index(b"two")
    assert {m.to for m in settle(node) if m.context} == {2}


def test_who_asks_in_an_older_term_is_not_heard() -> None:
    node = leader(term=4)
    acknowledge(node, 2)
    settle(node)
    node.step(Message(M.READ_INDEX, 1, 2, 4, context=b"r"))
    assert settle(node) == [] and len(node.raft.reads) == 0


def test_who_asks_in_a_newer_term_ends_the_leadership() -> None:
    node = leader()
    acknowledge(node, 2)
    node.step(Message(M.READ_INDEX, 1, 2, 2, context=b"r"))
    assert node.raft.role is Role.FOLLOWER
    assert all(m.type is not M.READ_INDEX_REPLY for m in settle(node))


def test_who_asked_early_is_answered_when_an_entry_of_the_term_is_committed() -> None:
    node = leader()
    node.step(Message(M.READ_INDEX, 1, 2, 1, context=b"r"))
    assert all(m.type is not M.READ_INDEX_REPLY for m in settle(node))
    acknowledge(node, 3)
    assert [(m.to, m.index) for m in settle(node) if m.type is M.READ_INDEX_REPLY] == [(2, 1)]


def test_a_follower_that_confirms_says_its_term() -> None:
    node = member(term=5, asking_confirms=True)
    append(node, (0, 0), term=5)
    settle(node)
    node.read_index(b"r")
    (message,) = settle(node)
    assert (message.type, message.term) == (M.READ_INDEX, 5)


def test_answer_of_a_deposed_leader_is_not_used() -> None:
    """etcd#21375."""
    node = member(term=5)
    node.step(Message(M.READ_INDEX_REPLY, 1, 2, 4, index=7, context=b"r"))
    assert states(node) == []
