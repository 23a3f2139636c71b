"""With `commits_wait` the commit index travels with entries, or when the caller says so."""

from __future__ import annotations

from chainfire.raft.changes import ChangeKind, ChangeStep, ConfChange
from chainfire.raft.messages import Message
from chainfire.raft.rawnode import RawNode
from tests.raft.build import M, acknowledge, append, leader, member, settle


def waiting() -> RawNode:
    """A leader of three whose first entry has just been committed, by the second's answer."""
    node = leader(commits_wait=True)
    node.propose([b"x"])
    settle(node)
    acknowledge(node, 2)
    assert node.raft.log.committed == node.raft.log.last_index
    return node


def test_a_commit_alone_is_not_told() -> None:
    assert settle(waiting()) == []


def test_the_next_entries_bring_it() -> None:
    node = waiting()
    committed = node.raft.log.committed
    node.propose([b"y"])
    sent = settle(node)
    assert [(m.type, m.to, m.commit, len(m.entries)) for m in sent] == [(M.APPEND, 2, committed, 1)]
    assert not node.tell_commit(2)  # it has been sent that


def test_who_is_told_does_not_answer() -> None:
    node = waiting()
    assert node.tell_commit(2)
    [told] = settle(node)
    assert (told.type, told.to, told.commit, told.quiet) == (M.APPEND, 2, 2, True)
    assert not node.tell_commit(2)

    follower = member()
    append(follower, (0, 0), 1, 1, term=1)
    settle(follower)
    follower.step(Message(M.APPEND, 1, 2, 1, 1, 2, commit=2, quiet=True))
    assert settle(follower) == []
    assert follower.raft.log.committed == 2


def test_a_log_that_does_not_match_is_reported_all_the_same() -> None:
    follower = member()
    follower.step(Message(M.APPEND, 1, 2, 3, 3, 5, commit=5, quiet=True))
    [answer] = settle(follower)
    assert (answer.type, answer.reject) == (M.APPEND_REPLY, True)
    assert follower.raft.log.committed == 0


def test_who_is_probed_is_not_told() -> None:
    node = waiting()
    assert not node.tell_commit(3)  # has never answered
    assert settle(node) == []


def test_who_asked_for_a_read_index_is_told() -> None:
    node = waiting()
    node.step(Message(M.READ_INDEX, 1, 2, context=b"r"))
    [round_] = [m.context for m in settle(node) if m.type is M.HEARTBEAT and m.to == 3]
    node.raft.tracker.progress[2].sent_commit = 0
    node.step(Message(M.HEARTBEAT_REPLY, 1, 3, node.raft.term, context=round_))
    answer, told = (m for m in settle(node) if m.to == 2)
    assert (answer.type, answer.to, answer.index) == (M.READ_INDEX_REPLY, 2, 2)
    assert (told.type, told.to, told.commit, told.quiet) == (M.APPEND, 2, 2, True)


def test_a_change_of_the_membership_is_told_at_once() -> None:
    node = leader(commits_wait=True)
    settle(node)
    acknowledge(node, 2)
    settle(node)
    node.propose_conf_change(ConfChange((ChangeStep(ChangeKind.REMOVE, 3),)))
    settle(node)
    acknowledge(node, 2)
    sent = settle(node)
    assert [(m.type, m.to, m.commit) for m in sent if m.to == 2] == [
        (M.APPEND, 2, node.raft.log.committed)
    ]
