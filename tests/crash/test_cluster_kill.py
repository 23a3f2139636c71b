"""Three real members: what is acknowledged survives kill -9 of leaders, and stock tools work."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import peers, report
from tests.compat.ctl import Ctl
from tests.servers import Server
from tests.trio import Trio, keys, put, status, wait_for

WRITES_PER_ROUND = 20


@pytest.mark.timeout(300)
def test_nothing_acknowledged_is_lost_when_leaders_are_killed(tmp_path: Path) -> None:
    run_rounds(tmp_path, rounds=2)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_nothing_acknowledged_is_lost_in_thirty_kills_of_leaders(tmp_path: Path) -> None:
    run_rounds(tmp_path, rounds=30)


def run_rounds(tmp_path: Path, rounds: int) -> None:
    acknowledged: set[bytes] = set()
    with Trio(peers.need_chainfire(), tmp_path) as trio:
        for number in range(rounds):
            leader = trio.agree()
            others = [server for name, server in trio.servers.items() if name != leader]
            acknowledged |= write(others, f"{number}-before")
            trio.servers[leader].kill()
            acknowledged |= write(others, f"{number}-after")
            for server in others:
                assert acknowledged <= keys(server, b"k", b"l")
            trio.servers[leader].start()
        trio.agree()
        for server in trio.servers.values():
            assert acknowledged <= keys(server, b"k", b"l")
    report.count("leaders killed -9", rounds)
    report.count("acknowledged writes checked after kill -9 of leaders", len(acknowledged))


def write(servers: list[Server], tag: str) -> set[bytes]:
    """Keys until enough are acknowledged, taken by the servers in turn."""
    acknowledged: set[bytes] = set()
    tries = 0
    while len(acknowledged) < WRITES_PER_ROUND:
        key = f"k-{tag}-{tries}".encode()
        if put(servers[tries % len(servers)], key):
            acknowledged.add(key)
        tries += 1
        assert tries < 20 * WRITES_PER_ROUND, "writes do not go on"
    return acknowledged


@pytest.mark.timeout(120)
def test_etcdctl_asks_and_moves_a_cluster(tmp_path: Path) -> None:
    etcdctl = peers.need_tool("etcdctl")
    with Trio(peers.need_chainfire(), tmp_path) as trio:
        leader = trio.agree()
        other = next(name for name in trio.servers if name != leader)
        ctl = Ctl(etcdctl, trio.targets)
        assert ctl("put /app/db host").code == 0
        for server in trio.servers.values():
            assert Ctl(etcdctl, server.target)("get /app/db --print-value-only").out == "host\n"
        wait_for(lambda: "all" if ctl("member list").out.count("started") == 3 else "")
        table = ctl("endpoint status -w table").out
        assert table.count("3.7.1") == 3 and table.count(" true ") == 1
        assert ctl("endpoint health --cluster").code == 0
        target = f"{status(trio.servers[other]).header.member_id:x}"
        moved = Ctl(etcdctl, trio.servers[leader].target)(f"move-leader {target}")
        assert moved.code == 0, moved.error
        assert trio.agree() == other
        refused = Ctl(etcdctl, trio.servers[leader].target)(f"move-leader {target}")
        assert refused.code != 0
