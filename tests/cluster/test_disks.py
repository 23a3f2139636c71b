"""One real member of three whose disk is full, or does not answer: the others go on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import report
from tests.cluster.load import Arena, Load
from tests.clusters import Cluster, Member
from tests.crash.damage import fill_with
from tests.faults.shim import Switches, library
from tests.peers import need_chainfire
from tests.servers import ServerFailed
from tests.small_disk import mounted

DISK_MIB = 400
STALL_SECONDS = 10.0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", DISK_MIB) as place:
        yield place


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("leads", [False, True])
def test_a_full_disk_on_one_of_three_loses_nothing(
    small_disk: Path, tmp_path: Path, leads: bool
) -> None:
    """NOSPACE holds the writes of all back, as etcd's does, until there is room again."""
    kind = need_chainfire()
    if not kind.is_chainfire:
        pytest.skip("etcd preallocates more than this disk holds")
    with Cluster(kind, tmp_path) as cluster:
        victim = cluster.members[0]
        victim.data_dir, victim.log_to = small_disk / "m1", tmp_path / "m1.log"
        arena = Arena(cluster.start())

        def faults(load: Load) -> None:
            load.go_on()
            glutton = small_disk / "others"
            cluster.move_leader(victim if leads else cluster.members[1])
            fill_with(glutton)
            cluster.wait(lambda: "NOSPACE" in logs(cluster), "no alarm", 30)
            for member in cluster.members[1:]:
                assert member.status().errors
            glutton.unlink()
            # Where a write of its log failed it has stopped, or is about to, with words.
            if not is_up_again(victim):
                assert "space" in victim.log().lower()
                victim.start()
            load.go_on(50, seconds=60)

        arena.under_load(faults)
        report.count("full disks", 1)


def is_up_again(victim: Member) -> bool:
    try:
        victim.wait_ready()
    except ServerFailed:
        if victim.runs:
            raise
        return False
    return True


def logs(cluster: Cluster) -> str:
    return "".join(member.log(last_bytes=1_000_000) for member in cluster.members)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_disk_that_stands_still_for_ten_seconds_holds_nobody_else_up(tmp_path: Path) -> None:
    if library() is None:
        pytest.skip("no C compiler: disks cannot be made to stand still")
    with Cluster(need_chainfire(), tmp_path) as cluster:
        switches = {}
        for member in cluster.members:
            switches[member.name] = Switches(tmp_path / f"{member.name}.switches")
            member.env.update(switches[member.name].env)
        arena = Arena(cluster.start())

        def faults(load: Load) -> None:
            for leads in (False, True):
                load.go_on()
                victim = cluster.leader() if leads else cluster.followers()[0]
                switch = switches[victim.name]
                switch.slow_syncs(STALL_SECONDS)
                # What the victim is asked waits with its disk; what the others are, does not.
                load.go_on(50, seconds=STALL_SECONDS)
                switch.heal_disk()
                cluster.wait_ready()
                load.go_on()

        arena.under_load(faults)
        report.count("disks that stood still", 2)
