from __future__ import annotations

import pytest

from chainfire.errors import Damaged, Diverged
from chainfire.raft.messages import Message
from chainfire.types import Entry
from tests.raft.build import M, append, log_of, member, settle, snapshot, turn


def test_acknowledgement_waits_for_the_disk() -> None:
    node = member(async_storage_writes=True)
    append(node, (0, 0), 1, 1, term=1)
    ready = node.ready()
    (work,) = ready.messages
    assert work.type is M.STORAGE_APPEND
    assert [(r.type, r.index) for r in work.responses] == [
        (M.APPEND_REPLY, 2),
        (M.STORAGE_APPEND_REPLY, 2),
    ]


def test_refusal_hints_at_the_last_entry_that_may_match() -> None:
    node = member(storage=log_of(1, 1, 2, 2), term=2)
    append(node, (9, 5), 5, term=5)
    (reply,) = turn(node).messages
    assert (reply.reject, reply.index, reply.reject_hint, reply.log_term) == (True, 9, 4, 2)
    append(node, (4, 1), 5, term=5)
    (reply,) = turn(node).messages
    assert (reply.index, reply.reject_hint, reply.log_term) == (4, 2, 1)


def test_stale_append_before_the_commit_index_is_acknowledged() -> None:
    """raft#36, openraft 71a290cd: what is truncated or committed is no conflict."""
    node = member(storage=log_of(2, 2, base=(10, 1)), term=2, commit=12)
    append(node, (3, 1), 1)
    (reply,) = turn(node).messages
    assert not reply.reject and reply.index == 12


OTHERS = [
    pytest.param((3, 5), (), id="the same index"),
    pytest.param((2, 5), (5,), id="below"),
    pytest.param((1, 1), (5, 5, 5), id="entries"),
]


@pytest.mark.parametrize(("prev", "entries"), OTHERS)
def test_who_holds_other_entries_than_a_leader_has_committed_goes_no_further(
    prev: tuple[int, int], entries: tuple[int, ...]
) -> None:
    node = member(storage=log_of(1, 1, 1, 1), term=5, commit=3)
    append(node, prev, *entries, term=5)
    assert not turn(node).messages, "no answer ends this"
    assert node.raft.contradicted_at in (2, 3)
    with pytest.raises(Diverged, match="member 2, which leads term 5, has committed another"):
        append(node, prev, *entries, term=5, commit=3)


def test_a_snapshot_of_other_entries_than_those_committed_here_is_not_acknowledged() -> None:
    node = member(storage=log_of(1, 1, 1, 1), term=5, commit=3)
    with pytest.raises(Diverged):
        node.step(Message(M.SNAPSHOT, 1, 2, 5, snapshot=snapshot(3, 4)))


def test_a_leader_of_a_newer_term_may_agree_again() -> None:
    node = member(storage=log_of(1, 1, 1), term=5, commit=3)
    append(node, (3, 5), term=5)
    assert node.raft.contradicted_at == 3
    append(node, (3, 1), 6, term=6)
    (reply,) = turn(node).messages
    assert not reply.reject and reply.index == 4
    assert not node.raft.contradicted_at


def test_entries_that_are_no_piece_of_a_log_are_dropped() -> None:
    """etcd#13603."""
    node = member(term=1)
    entries = [Entry(1, 1), Entry(1, 7)]
    node.step(Message(M.APPEND, 1, 2, 1, 0, 0, entries))
    node.step(Message(M.APPEND, 1, 2, 1, 0, 0, [Entry(1, 5)]))
    assert node.raft.log.last_index == 0


def test_heartbeat_commit_beyond_the_log_is_damage_and_no_panic_loop() -> None:
    node = member(storage=log_of(1), term=1)
    with pytest.raises(Damaged):
        node.step(Message(M.HEARTBEAT, 1, 2, 1, commit=5))


def test_start_with_less_than_was_committed_is_damage() -> None:
    """etcd#16220."""
    with pytest.raises(Damaged, match="entry 3 was committed"):
        member(storage=log_of(1, 1), term=1, commit=3)


def test_stored_commit_index_may_lag_behind_what_is_applied() -> None:
    node = member(storage=log_of(1, 1), term=1, commit=1, applied_index=2)
    assert node.raft.log.committed == node.raft.log.applied == 2
    assert not node.has_ready()


def test_snapshot_replaces_log_and_membership_and_keeps_term_and_vote() -> None:
    node = member(storage=log_of(1, 1), term=4, vote=3)
    node.step(Message(M.SNAPSHOT, 1, 2, 4, snapshot=snapshot(20, 3, (1, 2, 9))))
    ready = turn(node)
    assert ready.snapshot == snapshot(20, 3, (1, 2, 9))
    assert (node.raft.term, node.raft.vote) == (4, 3)
    assert node.raft.log.applied == node.raft.log.last_index == 20
    assert node.raft.tracker.conf.voters == (1, 2, 9)
    assert [(m.type, m.index) for m in ready.messages] == [(M.APPEND_REPLY, 20)]


def test_snapshot_of_what_the_log_holds_only_commits() -> None:
    node = member(storage=log_of(1, 1, 1), term=1)
    node.step(Message(M.SNAPSHOT, 1, 2, 1, snapshot=snapshot(2, 1)))
    ready = turn(node)
    assert ready.snapshot is None and node.raft.log.committed == 2
    assert node.raft.log.last_index == 3


def test_snapshot_at_or_below_the_commit_index_changes_nothing() -> None:
    """openraft#1892."""
    node = member(storage=log_of(1, 1, 1), term=1, commit=2)
    for index in (1, 2):
        node.step(Message(M.SNAPSHOT, 1, 2, 1, snapshot=snapshot(index, 1)))
        assert turn(node).snapshot is None and node.raft.log.last_index == 3


def test_snapshot_of_a_group_without_us_is_ignored() -> None:
    node = member()
    node.step(Message(M.SNAPSHOT, 1, 2, 1, snapshot=snapshot(20, 1, (2, 3))))
    assert node.raft.log.last_index == 0


def test_nobody_stands_while_a_snapshot_is_being_installed() -> None:
    node = member(async_storage_writes=True)
    node.step(Message(M.SNAPSHOT, 1, 2, 1, snapshot=snapshot(20, 1)))
    (work,) = node.ready().messages
    assert not node.campaign() and not node.has_ready()
    for response in work.responses:
        if response.to == 1:
            node.raft.log.storage.install(snapshot(20, 1))  # type: ignore[attr-defined]
            node.step(response)
    assert node.raft.log.applied == 20 and node.campaign()


def test_snapshot_overtaking_an_apply_moves_nothing_back() -> None:
    """openraft eed681d5."""
    node = member(storage=log_of(1, 1), term=1, commit=2, async_storage_writes=True)
    (apply,) = node.ready().messages
    node.step(Message(M.SNAPSHOT, 1, 2, 1, snapshot=snapshot(20, 1)))
    (install,) = node.ready().messages
    node.raft.log.storage.install(snapshot(20, 1))  # type: ignore[attr-defined]
    node.step(install.responses[-1])
    node.step(apply.responses[0])
    assert node.raft.log.applied == 20


def test_new_leader_resets_who_is_followed() -> None:
    node = member()
    append(node, (0, 0), 1, term=1)
    settle(node)
    node.step(Message(M.HEARTBEAT, 1, 3, 2))
    assert (node.raft.term, node.raft.leader) == (2, 3)
