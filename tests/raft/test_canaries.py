"""A checker that finds nothing proves nothing: bugs are planted, and the random clusters must trip.

Each planted bug is one that somebody shipped.
"""

from __future__ import annotations

import pytest

from chainfire.raft import core, election, follower, log, membership, proposals, replies, state
from chainfire.raft.messages import Message
from chainfire.raft.readindex import ReadRequest
from chainfire.raft.reads import answer_read
from chainfire.raft.replication import append_own
from chainfire.raft.state import Raft
from chainfire.types import Entry
from tests import report
from tests.raft.cluster import Chaos, Cluster

SEEDS = 20
STEPS = 12_000
CHURN = Chaos(drop=200, crash=4, campaign=40, conf_change=0, pre_vote=False, check_quorum=False)
THREE = Chaos(partition=15, crash=6, conf_change=0, transfer=6)


def found(chaos: Chaos) -> int | None:
    """The first seed that trips an assertion."""
    for seed in range(SEEDS):
        try:
            Cluster(seed, chaos).run(STEPS)
        except (AssertionError, LookupError):
            report.count("planted bugs found by random clusters")
            return seed
    return None


@pytest.mark.interpreted
def test_votes_for_shorter_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log.RaftLog, "is_up_to_date", lambda *_: True)
    assert found(THREE) is not None


def test_two_votes_in_a_term(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(raft: Raft, message: Message) -> None:
        raft.vote, raft.leader = 0, 0
        original(raft, message)

    original = election.on_vote_request
    for table in core._HANDLERS.values():
        for type in core._VOTE_REQUESTS:
            monkeypatch.setitem(table, type, forgetful)
    assert found(THREE) is not None


@pytest.mark.interpreted
def test_leader_counts_what_its_disk_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """etcd#14370, openraft a9f696a9."""

    def hasty(raft: Raft, entries: list[Entry]) -> None:
        append_own(raft, entries)
        raft.tracker.progress[raft.id].maybe_update(entries[-1].index)

    for module in (election, proposals):
        monkeypatch.setattr(module, "append_own", hasty)
    assert found(THREE) is not None


@pytest.mark.interpreted
def test_older_terms_committed_by_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figure 8; async-raft#106."""

    def counting(raft: Raft) -> bool:
        index = raft.tracker.committed()
        if index <= raft.log.committed:
            return False
        raft.log.commit_to(index)
        return True

    for module in (replies, membership):
        monkeypatch.setattr(module, "maybe_commit", counting)
    assert found(CHURN) is not None


@pytest.mark.interpreted
def test_every_append_truncates(monkeypatch: pytest.MonkeyPatch) -> None:
    """A late, shorter append takes away what was acknowledged (openraft 9540c904)."""
    monkeypatch.setattr(log.RaftLog, "_matching_prefix", lambda *_: 0)
    assert found(THREE) is not None


@pytest.mark.interpreted
def test_reads_without_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    def trusting(raft: Raft, request: ReadRequest) -> None:
        answer_read(raft, request, raft.log.committed)

    monkeypatch.setattr("chainfire.raft.rawnode.start_read", trusting)
    assert found(THREE) is not None


@pytest.mark.interpreted
def test_reads_before_an_entry_of_the_term(monkeypatch: pytest.MonkeyPatch) -> None:
    """etcd#7331."""
    monkeypatch.setattr(state.Raft, "committed_in_term", True)
    assert found(THREE) is not None


@pytest.mark.interpreted
def test_writes_reported_in_another_term(monkeypatch: pytest.MonkeyPatch) -> None:
    """Acknowledging before the write: the reply does not wait for the disk."""

    def hasty(raft: Raft, leader: int, index: int) -> None:
        raft.messages.append(Message(follower._APPEND_REPLY, leader, raft.id, raft.term, 0, index))

    monkeypatch.setattr(follower, "_acknowledge", hasty)
    assert found(THREE) is not None
