from __future__ import annotations

from typing import Any

import pytest

from chainfire.raft.messages import AFTER_SYNC, TRANSFER, Message
from chainfire.raft.rawnode import RawNode
from chainfire.raft.ready import Role
from chainfire.types import Entry, EntryType
from tests.raft.build import M, append, leader, log_of, member, settle, turn


def test_candidate_counts_its_own_vote_only_when_it_is_durable() -> None:
    node = member((1,))
    node.campaign()
    assert node.raft.role is Role.CANDIDATE
    turn(node)
    assert node.raft.role is Role.LEADER


def test_timeouts_are_drawn_anew_at_every_change_of_role() -> None:
    drawn = iter([3, 7, 1, 5, 9, 2])
    node = member(draw=lambda ticks: next(drawn))
    seen = [node.raft.election_timeout_ticks]
    node.campaign()
    seen.append(node.raft.election_timeout_ticks)
    append(node, (0, 0), term=5)
    seen.append(node.raft.election_timeout_ticks)
    assert seen == [13, 17, 11]


def test_vote_request_waits_for_the_durable_term() -> None:
    """A candidate that dies before its term is stored could stand in it twice."""
    node = member(async_storage_writes=True)
    node.campaign()
    types = [message.type for message in node.ready().messages]
    assert types == [M.VOTE, M.VOTE, M.STORAGE_APPEND]
    assert M.VOTE in AFTER_SYNC


def test_vote_goes_to_one_candidate_per_term() -> None:
    node = member()
    for candidate in (2, 3, 2):
        node.step(Message(M.VOTE, 1, candidate, 4))
    replies = [(m.to, m.reject) for m in turn(node).messages]
    assert replies == [(2, False), (3, True), (2, False)]
    assert (node.raft.term, node.raft.vote) == (4, 2)


def test_vote_is_refused_to_a_log_that_is_older_though_longer() -> None:
    node = member(storage=log_of(1, 2))
    node.step(Message(M.VOTE, 1, 2, 4, 1, 9))
    assert turn(node).messages[0].reject


@pytest.mark.parametrize("is_candidate", [False, True])
def test_a_candidate_that_gets_no_vote_makes_nobody_wait_anew(is_candidate: bool) -> None:
    """Raft, figure 2. Simulator, seed 6440224: who campaigned fastest could not be elected, and
    who could never came to campaign.
    """
    node = member(storage=log_of(1, 2), draw=lambda ticks: 5)
    if is_candidate:
        node.campaign()
        turn(node)
    for tick in range(node.raft.election_timeout_ticks):
        if tick % 4 == 0:
            node.step(Message(M.VOTE, 1, 2, 4 + tick, 1, 9))
            assert turn(node).messages[-1].reject
            assert node.raft.role is Role.FOLLOWER
        node.tick()
    assert node.raft.role is Role.CANDIDATE


def test_a_vote_that_is_given_begins_a_wait_anew() -> None:
    node = member(draw=lambda ticks: 5)
    for _ in range(node.raft.election_timeout_ticks - 1):
        node.tick()
    node.step(Message(M.VOTE, 1, 2, 4))
    assert node.raft.election_elapsed_ticks == 0


def test_learner_that_is_asked_votes() -> None:
    """etcd#10998: whoever asks knows a newer membership."""
    node = member((2, 3), learners=(1,))
    node.step(Message(M.VOTE, 1, 2, 4))
    assert not turn(node).messages[0].reject
    assert not node.campaign()


def test_pre_vote_changes_neither_term_nor_vote() -> None:
    node = member(pre_vote=True)
    node.step(Message(M.PRE_VOTE, 1, 2, 4))
    ready = turn(node)
    assert ready.hard_state is None and (node.raft.term, node.raft.vote) == (0, 0)
    assert ready.messages[0].term == 4 and not ready.messages[0].reject


def test_refused_pre_vote_teaches_the_newer_term() -> None:
    """raft d4471b2, openraft#1796."""
    node = member(pre_vote=True, term=7, storage=log_of(7))
    node.step(Message(M.PRE_VOTE, 1, 2, 5))
    reply = turn(node).messages[0]
    assert reply.reject and reply.term == 7

    behind = member(pre_vote=True, id=2, term=4)
    behind.campaign()
    behind.step(Message(M.PRE_VOTE_REPLY, 2, 1, 7, reject=True))
    assert behind.raft.role is Role.FOLLOWER and behind.raft.term == 7


def test_late_pre_vote_answers_start_no_second_campaign() -> None:
    """openraft 511f33c7."""
    node = member((1, 2, 3, 4, 5), pre_vote=True)
    node.campaign()
    settle(node)
    for voter in (2, 3, 4, 5):
        node.step(Message(M.PRE_VOTE_REPLY, 1, voter, 1))
    assert node.raft.role is Role.CANDIDATE and node.raft.term == 1


def test_majority_of_refusals_ends_the_election() -> None:
    node = member()
    node.campaign()
    settle(node)
    for voter in (2, 3):
        node.step(Message(M.VOTE_REPLY, 1, voter, 1, reject=True))
    assert node.raft.role is Role.FOLLOWER and node.raft.term == 1


def test_leader_of_the_same_term_ends_the_election() -> None:
    node = member()
    node.campaign()
    append(node, (0, 0), term=1)
    assert node.raft.role is Role.FOLLOWER and node.raft.leader == 2


def test_votes_are_not_even_read_while_a_leader_is_heard() -> None:
    node = member(check_quorum=True)
    append(node, (0, 0), term=1)
    settle(node)
    node.step(Message(M.VOTE, 1, 3, 9))
    assert node.raft.term == 1 and not node.has_ready()
    node.step(Message(M.VOTE, 1, 3, 9, context=TRANSFER))
    assert node.raft.vote == 3


def test_forgotten_leader_no_longer_stands_in_the_way() -> None:
    node = member(check_quorum=True)
    append(node, (0, 0), term=1)
    node.forget_leader()
    node.step(Message(M.VOTE, 1, 3, 9))
    assert node.raft.vote == 3


def test_nobody_stands_with_a_committed_membership_change_unapplied() -> None:
    storage = log_of(1, 1)
    storage.log[1] = Entry(1, 2, EntryType.CONF_CHANGE_V2)
    assert not member(storage=storage, term=1, commit=2).campaign()
    assert member(storage=storage, term=1, commit=1).campaign()
    assert member(storage=storage, term=1, commit=2, applied_index=2).campaign()


def test_refusal_tells_of_a_committed_membership_change() -> None:
    """etcd#10563: the survivor of two needed the vote of the removed one, whose log is longer."""
    storage = log_of(1, 1)
    storage.log[1] = Entry(1, 2, EntryType.CONF_CHANGE_V2)
    survivor = member((1, 2), storage=storage, term=1, commit=1)
    survivor.campaign()
    settle(survivor)
    survivor.step(Message(M.VOTE_REPLY, 1, 2, 2, reject=True, settled=(2, 1)))
    assert survivor.raft.role is Role.FOLLOWER and survivor.raft.log.committed == 2

    removed = member((1, 2), id=2, storage=log_of(1, 1, 1), term=1, commit=2)
    removed.step(Message(M.VOTE, 2, 1, 2, 1, 2))
    assert turn(removed).messages[0].settled == (2, 1)


def test_settled_entry_of_another_term_teaches_nothing() -> None:
    storage = log_of(1, 1)
    storage.log[1] = Entry(1, 2, EntryType.CONF_CHANGE_V2)
    node = member((1, 2), storage=storage, term=1, commit=1)
    node.campaign()
    settle(node)
    node.step(Message(M.VOTE_REPLY, 1, 2, 2, reject=True, settled=(2, 2)))
    assert node.raft.log.committed == 1


def test_new_leader_opens_its_term_with_an_empty_entry() -> None:
    node = leader(storage=log_of(1), term=1)
    assert node.raft.log.last_term == 2 and node.raft.log.last_index == 2
    assert node.raft.log.committed == 0


def elected(**config: Any) -> RawNode:
    """By one other voter, before its first Ready as a leader."""
    node = member(**config)
    node.campaign()
    settle(node)
    node.step(Message(M.VOTE_REPLY, 1, 2, node.raft.term))
    assert node.raft.role is Role.LEADER
    return node


@pytest.mark.parametrize(("waits", "entries"), [(False, 1), (True, 2)])
def test_what_is_proposed_at_once_travels_with_a_leaders_first_entry_if_that_waits(
    waits: bool, entries: int
) -> None:
    node = elected(first_append_waits=waits)
    node.propose([b"x"])
    sent = {m.to: len(m.entries) for m in turn(node).messages if m.type is M.APPEND}
    assert sent == {2: entries, 3: entries}


def test_a_first_entry_waits_for_no_more_than_the_next_ready() -> None:
    node = elected(first_append_waits=True)
    assert [(m.type, len(m.entries)) for m in turn(node).messages] == [(M.APPEND, 1)] * 2
    assert not [m for m in settle(node) if m.type is M.APPEND]


def test_a_leader_that_is_replaced_before_its_first_entry_leaves_sends_none() -> None:
    node = elected(first_append_waits=True)
    node.step(Message(M.HEARTBEAT, 1, 3, node.raft.term + 1))
    assert not [m for m in settle(node) if m.type is M.APPEND]
