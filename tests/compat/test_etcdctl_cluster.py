"""The stock etcdctl against three members: asks all, moves the leader, watches on without it."""

from __future__ import annotations

import subprocess
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


@pytest.mark.timeout(180)
def test_watches_of_a_leader_that_is_killed_go_on_at_the_others(tmp_path: Path) -> None:
    """etcdctl requires a leader of its watches: one that is refused meanwhile is over for it."""
    etcdctl = peers.need_tool("etcdctl")
    watches = []
    with Cluster(peers.need_chainfire(), tmp_path).start() as cluster:
        leader = cluster.leader()
        others = [member for member in cluster.members if member is not leader]
        endpoints = ",".join(member.target for member in (leader, *others))
        try:
            for number in range(6):
                words = [etcdctl, f"--endpoints={endpoints}", "watch", f"k{number}", "--rev=1"]
                watches.append(subprocess.Popen(words, stdout=subprocess.PIPE, text=True))
                others[0].put(b"k%d" % number, b"before")
                assert watches[-1].stdout is not None
                assert [next(watches[-1].stdout) for _ in range(3)][2] == "before\n"
            leader.kill()
            for number, watch in enumerate(watches):
                cluster.leader()
                others[0].put(b"k%d" % number, b"after")
                assert watch.stdout is not None
                assert [next(watch.stdout, "") for _ in range(3)][2] == "after\n"
        finally:
            for watch in watches:
                watch.kill()
                watch.communicate()
