from __future__ import annotations

from chainfire.raft.messages import Message
from chainfire.raft.progress import ProgressState
from chainfire.raft.rawnode import RawNode
from tests.raft.build import M, acknowledge, leader, log_of, settle, snapshot


def peer_state(node: RawNode, id: int) -> tuple[ProgressState, int, int]:
    peer = node.raft.tracker.progress[id]
    return peer.state, peer.match, peer.next


def test_entries_of_older_terms_are_not_committed_by_counting() -> None:
    """Figure 8: entry 2 of term 1 is on all three and yet waits for one of term 2."""
    node = leader(storage=log_of(1, 1), term=1)
    acknowledge(node, 2, 2)
    acknowledge(node, 3, 2)
    assert node.raft.log.committed == 0
    acknowledge(node, 2, 3)
    assert node.raft.log.committed == 3


def test_even_number_of_voters_needs_more_than_half() -> None:
    """hashicorp/raft 163a55f."""
    node = leader((1, 2, 3, 4))
    acknowledge(node, 2)
    assert node.raft.log.committed == 0
    acknowledge(node, 3)
    assert node.raft.log.committed == 1


def test_learners_do_not_count_for_a_commit() -> None:
    node = leader(learners=(4, 5))
    acknowledge(node, 4)
    acknowledge(node, 5)
    assert node.raft.log.committed == 0


def test_acknowledgement_of_more_than_the_leader_has_is_ignored() -> None:
    node = leader()
    acknowledge(node, 2, 99)
    assert peer_state(node, 2)[1] == 0


def test_divergent_tail_costs_one_round_per_term() -> None:
    """openraft 6d53aa12: one round per entry livelocked."""
    node = leader(storage=log_of(1, *[3] * 3, *[5] * 60), term=5)
    node.step(
        Message(M.APPEND_REPLY, 1, 2, 6, 2, 64, reject=True, reject_hint=50)  # hint: (50, term 2)
    )
    assert peer_state(node, 2)[2] == 2


def test_stale_refusal_after_progress_moves_nothing() -> None:
    """raft#149, openraft fbbf37b1."""
    node = leader()
    acknowledge(node, 2)
    before = peer_state(node, 2)
    node.step(Message(M.APPEND_REPLY, 1, 2, 1, 0, 1, reject=True, reject_hint=0))
    assert peer_state(node, 2) == before


def test_heartbeat_answer_of_one_who_lags_brings_an_append() -> None:
    """One signal: who answers heartbeats while appends are lost is sent an append."""
    node = leader()
    settle(node)
    node.step(Message(M.HEARTBEAT_REPLY, 1, 2, 1))
    assert [message.type for message in settle(node)] == [M.APPEND]


def test_full_window_lets_one_empty_append_through_per_heartbeat_answer() -> None:
    """etcd#14633: entries leaked to a stuck follower without bound."""
    node = leader(inflight_messages_max=2)
    acknowledge(node, 2)
    for _ in range(4):
        node.propose([b"x"])
    settle(node)
    for _ in range(3):
        node.step(Message(M.HEARTBEAT_REPLY, 1, 2, 1))
        sent = [message for message in settle(node) if message.to == 2]
        assert [(message.type, len(message.entries)) for message in sent] == [(M.APPEND, 0)]


def test_snapshot_is_sent_where_the_log_does_not_reach_and_resumed_behind() -> None:
    storage = log_of(1, 1, base=(10, 1))
    storage.latest = snapshot(11, 1)
    node = leader(storage=storage, term=1, commit=12, applied_index=12)
    node.raft.tracker.progress[2].recent_active = True
    node.step(Message(M.APPEND_REPLY, 1, 2, 2, 0, 12, reject=True, reject_hint=3))
    assert [m.type for m in settle(node) if m.to == 2] == [M.SNAPSHOT]
    assert peer_state(node, 2) == (ProgressState.SNAPSHOT, 0, 12)
    acknowledge(node, 2, 11)
    assert peer_state(node, 2)[:2] == (ProgressState.REPLICATE, 11)


def test_no_snapshot_for_one_who_does_not_answer() -> None:
    storage = log_of(1, 1, base=(10, 1))
    storage.latest = snapshot(11, 1)
    node = leader(storage=storage, term=1, commit=12, applied_index=12)
    node.raft.tracker.progress[2].next = 3
    node.propose([b"x"])
    assert all(message.type is not M.SNAPSHOT for message in settle(node))


def test_failed_snapshot_is_tried_again_with_the_next_heartbeat() -> None:
    storage = log_of(1, 1, base=(10, 1))
    storage.latest = snapshot(11, 1)
    node = leader(storage=storage, term=1, commit=12, applied_index=12)
    for _ in range(2):
        node.raft.tracker.progress[2].next = 3
        node.step(Message(M.HEARTBEAT_REPLY, 1, 2, 2))
        assert M.SNAPSHOT in [message.type for message in settle(node)]
        node.report_snapshot(2, False)
        node.propose([b"x"])
        assert all(message.to != 2 for message in settle(node))


def test_snapshot_that_is_not_to_be_had_now_is_asked_for_again() -> None:
    """tikv#9859."""
    storage = log_of(1, 1, base=(10, 1))
    node = leader(storage=storage, term=1, commit=12, applied_index=12)
    node.raft.tracker.progress[2].next = 3
    node.step(Message(M.HEARTBEAT_REPLY, 1, 2, 2))
    assert not settle(node)
    storage.latest = snapshot(11, 1)
    node.step(Message(M.HEARTBEAT_REPLY, 1, 2, 2))
    assert [message.type for message in settle(node)] == [M.SNAPSHOT]


def test_unreachable_member_is_probed() -> None:
    node = leader()
    acknowledge(node, 2)
    node.propose([b"x"])
    node.report_unreachable(2)
    assert peer_state(node, 2) == (ProgressState.PROBE, 1, 2)


def test_member_that_lost_its_disk_counts_for_nothing_until_it_has_caught_up() -> None:
    node = leader()
    acknowledge(node, 2)
    node.reset_progress(2)
    node.propose([b"x"])
    assert peer_state(node, 2)[1] == 0
