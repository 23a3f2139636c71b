"""The stock etcdctl against three members: asks all of them, and moves the leader."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import peers
from tests.clusters import Cluster
from tests.compat.ctl import Ctl


@pytest.mark.timeout(180)
def test_etcdctl_asks_all_members_and_moves_the_leader(tmp_path: Path) -> None:
    etcdctl = peers.need_tool("etcdctl")
    with Cluster(peers.need_chainfire(), tmp_path).start() as cluster:
        leader, other = cluster.leader(), cluster.followers()[0]
        ctl = Ctl(etcdctl, ",".join(cluster.endpoints))
        assert ctl("put /app/db host").code == 0
        for target in cluster.endpoints:
            assert Ctl(etcdctl, target)("get /app/db --print-value-only").out == "host\n"
        cluster.wait(
            lambda: ctl("member list").out.count("started") == 3, "not all names published", 30
        )
        table = ctl("endpoint status -w table").out
        assert table.count("3.7.1") == 3 and table.count(" true ") == 1
        assert ctl("endpoint health --cluster").code == 0
        for what in ("status", "hashkv"):  # etcdctl 3.4 names the server by a URL here
            asked = ctl(f"endpoint {what} --cluster")
            assert asked.code == 0 and asked.out.count("http://HOST:PORT") == 3, asked
        moved = Ctl(etcdctl, leader.target)(f"move-leader {other.id:x}")
        assert moved.code == 0, moved.error
        assert cluster.leader() is other
        refused = Ctl(etcdctl, leader.target)(f"move-leader {other.id:x}")
        assert refused.code != 0, "only the leader can"
