from __future__ import annotations

import pytest

from chainfire.raft.config import Config
from chainfire.raft.messages import LOCAL_APPLY_THREAD, Message, Refusal
from chainfire.raft.ready import Role
from tests.raft.build import M, acknowledge, append, leader, log_of, member, settle, turn


def test_nothing_to_do_after_a_start() -> None:
    assert not member(storage=log_of(1, 1), term=1, commit=2, applied_index=2).has_ready()


def test_restart_hands_out_what_is_committed_and_not_applied() -> None:
    node = member(storage=log_of(1, 1, 1), term=1, commit=2, applied_index=1)
    ready = turn(node)
    assert [entry.index for entry in ready.committed] == [2] and not ready.must_sync


def test_only_promises_need_a_sync() -> None:
    node = leader((1,))
    node.propose([b"x"])
    assert turn(node).must_sync
    commit_only = turn(node)
    assert commit_only.hard_state is not None and not commit_only.must_sync


def test_ready_is_not_changed_by_what_happens_later() -> None:
    node = member(async_storage_writes=True)
    first = node.ready()
    append(node, (0, 0), 1, term=1)
    assert not first.messages and not first.read_states and not first.entries


def test_sole_voter_with_asynchronous_storage_commits_when_its_disk_says_so() -> None:
    """etcd#14370."""
    node = member((1,), async_storage_writes=True)
    node.campaign()
    for _ in range(2):  # its vote, then its first entry
        (work,) = node.ready().messages
        assert node.raft.log.committed == 0
        node.raft.log.storage.append(work.entries)  # type: ignore[attr-defined]
        for response in work.responses:
            node.step(response)
    assert node.raft.log.committed == 1


def test_stranger_replies_and_local_kinds_are_refused() -> None:
    node = leader()
    assert node.step(Message(M.APPEND_REPLY, 1, 9, 1, 0, 1)) is Refusal.PEER_NOT_FOUND
    assert node.step(Message(M.STORAGE_APPEND, 1, 2, 1)) is Refusal.LOCAL_MESSAGE
    assert node.step(Message(M.STORAGE_APPLY_REPLY, 1, 2)) is Refusal.LOCAL_MESSAGE
    assert node.step(Message(M.STORAGE_APPLY_REPLY, 1, LOCAL_APPLY_THREAD)) is None
    for type in (M.APPEND, M.VOTE, M.HEARTBEAT_REPLY):
        assert node.step(Message(type, 1, 2)) is Refusal.LOCAL_MESSAGE


def test_reports_about_strangers_are_ignored() -> None:
    node = leader()
    node.report_unreachable(9)
    node.report_snapshot(9, True)
    node.reset_progress(9)
    assert sorted(node.raft.tracker.progress) == [1, 2, 3]


def test_status_of_a_leader_tells_of_its_peers() -> None:
    node = leader()
    acknowledge(node, 2)
    settle(node)
    status = node.status()
    assert (status.role, status.leader, status.term, status.commit) == (Role.LEADER, 1, 1, 1)
    assert status.peers[2].match == 1 and status.peers[3].match == 0
    assert not member().status().peers


def test_config_that_cannot_work_is_refused() -> None:
    for wrong in ({"id": 0}, {"heartbeat_ticks": 10}, {"inflight_bytes_max": 1}):
        with pytest.raises(AssertionError):
            Config(**({"id": 1, "draw": lambda ticks: 0} | wrong))  # type: ignore[arg-type]
