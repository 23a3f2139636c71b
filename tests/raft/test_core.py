from __future__ import annotations

from chainfire.raft.messages import Message
from chainfire.raft.ready import Role
from tests.raft.build import M, acknowledge, append, leader, log_of, member, settle, turn


def ticks(node: object, count: int) -> None:
    for _ in range(count):
        node.tick()  # type: ignore[attr-defined]


def test_follower_stands_when_nobody_is_heard_for_its_timeout() -> None:
    node = member(draw=lambda ticks: 4)
    ticks(node, 13)
    assert node.raft.role is Role.FOLLOWER
    ticks(node, 1)
    assert node.raft.role is Role.CANDIDATE


def test_hearing_the_leader_starts_the_timeout_anew() -> None:
    node = member()
    ticks(node, 9)
    append(node, (0, 0), term=1)
    ticks(node, 9)
    assert node.raft.role is Role.FOLLOWER


def test_leader_without_a_quorum_steps_down_in_its_term() -> None:
    node = leader(check_quorum=True, election_ticks=5)
    acknowledge(node, 2)
    ticks(node, 5)
    assert node.raft.role is Role.LEADER
    ticks(node, 5)
    assert node.raft.role is Role.FOLLOWER and node.raft.term == 1


def test_learners_keep_no_leader_in_office() -> None:
    node = leader(learners=(4, 5), check_quorum=True, election_ticks=5)
    for _ in range(12):
        acknowledge(node, 4)
        acknowledge(node, 5)
        node.tick()
    assert node.raft.role is not Role.LEADER


def test_cut_off_member_brings_a_leader_to_its_term_without_an_election() -> None:
    node = member(check_quorum=True, term=9)
    append(node, (0, 0), term=3)
    (reply,) = turn(node).messages
    assert (reply.type, reply.term) == (M.APPEND_REPLY, 9)


def test_members_with_and_without_pre_vote_do_not_wait_for_each_other() -> None:
    """raft 3c7359d."""
    node = member(pre_vote=True, term=9)
    node.step(Message(M.PRE_VOTE, 1, 2, 4))
    (reply,) = turn(node).messages
    assert (reply.type, reply.term, reply.reject) == (M.PRE_VOTE_REPLY, 9, True)


def test_answers_of_an_older_term_are_ignored() -> None:
    node = leader(storage=log_of(1), term=1)
    for type in (M.APPEND_REPLY, M.HEARTBEAT_REPLY, M.VOTE_REPLY):
        node.step(Message(type, 1, 2, 1, 0, 2))
    peer = node.raft.tracker.progress[2]
    assert peer.match == 0 and not peer.recent_active


def test_writes_of_an_older_term_make_nothing_stable() -> None:
    """The ABA race at the top of rawnode.py."""
    node = member(async_storage_writes=True)
    append(node, (0, 0), 1, term=1)
    first = node.ready().messages[-1].responses[-1]
    append(node, (0, 0), 2, term=2)
    second = node.ready().messages[-1].responses[-1]
    append(node, (0, 0), 1, term=3)
    third = node.ready().messages[-1].responses[-1]
    for late in (first, second):
        node.step(late)
        assert node.raft.log.unstable.entries
    node.step(third)
    assert not node.raft.log.unstable.entries


def test_stable_entries_are_reported_by_a_later_write_after_a_change_of_term() -> None:
    node = member(async_storage_writes=True)
    append(node, (0, 0), 1, term=1)
    early = node.ready().messages[-1].responses[-1]
    node.step(Message(M.HEARTBEAT, 1, 3, 2))
    late = node.ready().messages[-1].responses[-1]
    node.step(early)
    assert node.raft.log.unstable.entries
    assert (late.type, late.index, late.term) == (M.STORAGE_APPEND_REPLY, 1, 2)
    node.step(late)
    assert not node.raft.log.unstable.entries


def test_transfer_is_given_up_after_an_election_timeout() -> None:
    node = leader(election_ticks=5)
    node.transfer_leader(2)
    assert node.raft.transferee == 2
    ticks(node, 5)
    assert node.raft.transferee == 0
    node.propose([b"x"])
    settle(node)
