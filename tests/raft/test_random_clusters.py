"""Random schedules of small clusters keep what Raft promises; afterwards they converge.

A failure names its seed; `Cluster(seed, chaos).run(steps)` is the whole history again.
"""

from __future__ import annotations

import pytest

from tests import report
from tests.raft.cluster import Chaos, Cluster

STEPS = 12000
KINDS = {
    "three": Chaos(),
    "five": Chaos(size=5, voters=5),
    "changing": Chaos(size=5, voters=3, conf_change=25, crash=1),
    "crashing": Chaos(crash=10, drop=20),
    "lossy": Chaos(drop=300, duplicate=200, partition=12),
    "waiting commits": Chaos(commits_wait=True, crash=4),
    "asking confirms": Chaos(asking_confirms=True, crash=4, partition=8),
    "asking confirms, changing": Chaos(asking_confirms=True, size=5, conf_change=25),
    "plain elections": Chaos(pre_vote=False, check_quorum=False, size=4, voters=4),
    "one": Chaos(size=2, voters=1, crash=10, conf_change=15),
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", KINDS)
def test_safe_in_chaos_and_live_after_it(kind: str, seed: int) -> None:
    run(KINDS[kind], seed, STEPS)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_safe_in_more_chaos(kind: str) -> None:
    for seed in range(1000, 1100):
        run(KINDS[kind], seed, 2 * STEPS)


def run(chaos: Chaos, seed: int, steps: int) -> None:
    cluster = Cluster(seed, chaos)
    cluster.run(steps)
    cluster.settle()
    cluster.oracle.log_matching([member.storage for member in cluster.members.values()])
    report.count("raft cluster steps under chaos", steps)
    report.count("raft reads checked for staleness", cluster.answered_reads)
