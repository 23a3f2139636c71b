"""The short way to a turn's work says what a Ready says: whole clusters go both, step by step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests import report
from tests.raft.build import M, append, member
from tests.raft.cluster import Chaos, Cluster

STEPS = 6000
EACH = 20
KINDS = {
    "three": Chaos(commits_wait=True, asking_confirms=True),
    "changing": Chaos(size=5, voters=3, conf_change=25, crash=1),
    "crashing": Chaos(crash=10, drop=20),
    "plain elections": Chaos(pre_vote=False, check_quorum=False, size=4, voters=4),
}


def seen(cluster: Cluster) -> dict[str, Any]:
    """All that two equal histories have in common."""
    return {
        "network": cluster.network,
        "answered": cluster.answered_reads,
        "members": [
            (
                m.node.status(),
                m.applied,
                m.node.raft.log.applying,
                m.node.raft.log.unstable.entries,
                m.node.raft.log.unstable.in_progress,
                m.node.raft.after_append,
                [(a.term, a.vote, a.commit, list(a.entries), list(a.responses)) for a in m.appends],
                [list(a.entries) for a in m.applies],
                m.storage.log,
                m.storage.hard_state,
            )
            for m in cluster.members.values()
        ],
    }


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_the_short_way_leads_where_a_ready_leads(kind: str, seed: int) -> None:
    general, short = (Cluster(seed, replace(KINDS[kind], short_way=way)) for way in (False, True))
    for _ in range(STEPS // EACH):
        general.run(EACH)
        short.run(EACH)
        assert seen(general) == seen(short)
    assert short.short_turns > STEPS // 100
    report.count("turns of raft by the short way", short.short_turns)


def test_a_follower_that_takes_entries_needs_no_ready() -> None:
    node = member(async_storage_writes=True)
    append(node, (0, 0), term=1)
    assert node.work() is None  # a new leader and a new term are news
    node.ready()
    append(node, (0, 0), 1, term=1)
    work = node.work()
    assert work is not None and work.append is not None and not work.messages
    assert [entry.index for entry in work.append.entries] == [1]
    assert [m.type for m in work.append.responses] == [M.APPEND_REPLY, M.STORAGE_APPEND_REPLY]
    assert not node.has_ready()
