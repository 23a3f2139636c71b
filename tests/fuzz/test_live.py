"""Clients that send anything, to a cluster of three: it lives, serves and agrees."""

from __future__ import annotations

from pathlib import Path

from tests import peers, report
from tests.clusters import Cluster
from tests.fuzz import live

CALLS = 4_000


def test_no_request_harms_a_cluster(tmp_path: Path) -> None:
    with Cluster(peers.need_chainfire(), tmp_path) as cluster:
        totals = live.run(cluster.start(), CALLS, seed=7)
    assert {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED"} <= totals.codes.keys()
    assert totals.streamed
    report.count("random calls to a cluster", totals.calls)
