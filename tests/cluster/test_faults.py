"""Three real members under load, and what happens to members: no acknowledged write is lost.

What clients saw is judged by revisions (load.py), and members are compared by their hashes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.load import Arena, Load
from tests.clusters import Cluster, Member
from tests.compat.ctl import Ctl
from tests.peers import need_chainfire, need_tool

SMALL_LOG = ("--snapshot-count=200", "--snapshot-catchup-entries=100")


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    with Cluster(need_chainfire(), tmp_path_factory.mktemp("arena"), flags=SMALL_LOG) as made:
        yield Arena(made.start())


@pytest.fixture(scope="module")
def cuttable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    with Cluster(need_chainfire(), tmp_path_factory.mktemp("cuttable"), proxied=True) as made:
        yield Arena(made.start())


def kill_members(arena: Arena, rounds: int, rng: random.Random) -> None:
    cluster = arena.cluster

    def faults(load: Load) -> None:
        for _ in range(rounds):
            load.go_on()
            victim = cluster.leader() if rng.random() < 0.5 else rng.choice(cluster.members)
            victim.kill()
            load.go_on()
            victim.start()

    arena.under_load(faults)


def test_members_killed_under_load_lose_nothing(arena: Arena) -> None:
    kill_members(arena, 2, random.Random(1))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [2, 3])
def test_many_kills_lose_nothing(arena: Arena, seed: int) -> None:
    kill_members(arena, 25, random.Random(seed))


def test_all_members_killed_at_once_lose_nothing(arena: Arena) -> None:
    def faults(load: Load) -> None:
        load.go_on()
        for member in arena.cluster.members:
            member.kill()
        for member in arena.cluster.members:
            member.spawn()
        arena.cluster.wait_ready()
        load.go_on()

    arena.under_load(faults)


def test_a_paused_leader_is_replaced_and_comes_back(arena: Arena) -> None:
    def faults(load: Load) -> None:
        load.go_on()
        leader = arena.cluster.leader()
        leader.pause()
        load.go_on(20)
        leader.resume()
        load.go_on()

    arena.under_load(faults)


def test_a_follower_far_behind_gets_a_snapshot_while_writes_go_on(arena: Arena) -> None:
    def faults(load: Load) -> None:
        follower = arena.cluster.followers()[0]
        follower.kill()
        load.go_on(700)
        before = received(follower)
        follower.start()
        assert received(follower) > before
        load.go_on()
        follower.kill()  # and what was installed is there after a crash
        follower.start()

    arena.under_load(faults)


def test_a_follower_within_reach_of_the_log_needs_no_snapshot(arena: Arena) -> None:
    def faults(load: Load) -> None:
        follower = arena.cluster.followers()[0]
        before = received(follower)
        load.running = False
        follower.kill()
        arena.cluster.leader()
        follower.start()
        assert received(follower) == before

    arena.under_load(faults)


def received(member: Member) -> int:
    return member.log(last_bytes=10_000_000).count("received snapshot")


def test_a_wiped_member_does_not_come_back_under_its_old_id(arena: Arena) -> None:
    def faults(load: Load) -> None:
        load.go_on()
        victim = arena.cluster.followers()[0]
        victim.kill()
        aside = victim.data_dir.rename(victim.data_dir.with_suffix(".aside"))
        victim.spawn()
        assert victim.wait_exit() == 1
        assert f"member remove {victim.id:x}" in victim.log()
        load.go_on()
        victim.wipe()
        aside.rename(victim.data_dir)
        victim.start()

    arena.under_load(faults)


def test_a_rolling_restart_goes_on_serving(arena: Arena) -> None:
    def faults(load: Load) -> None:
        for member in arena.cluster.members:
            load.go_on(50)
            assert member.stop() == 0
            member.start()
        load.go_on()

    arena.under_load(faults)


def test_a_leader_cut_off_is_replaced_and_comes_back(cuttable: Arena) -> None:
    cluster = cuttable.cluster

    def faults(load: Load) -> None:
        load.go_on()
        cluster.cut_off(cluster.leader())
        load.go_on(20)
        cluster.heal()
        cluster.leader()
        load.go_on()

    cuttable.under_load(faults)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_partitions_of_every_kind_lose_nothing(cuttable: Arena) -> None:
    cluster = cuttable.cluster

    def faults(load: Load) -> None:
        for member in cluster.members * 3:
            load.go_on()
            cluster.cut_off(member)
            load.go_on(20)
            cluster.heal()
            load.go_on(20)

    cuttable.under_load(faults)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_wiped_member_is_replaced_by_the_commands_that_it_names(tmp_path: Path) -> None:
    with Cluster(need_chainfire(), tmp_path) as cluster:
        arena = Arena(cluster.start())

        def faults(load: Load) -> None:
            load.go_on()
            victim = cluster.followers()[0]
            victim.kill()
            victim.wipe()
            ctl = Ctl(need_tool("etcdctl"), cluster.running[0].target)
            # Refused as "unhealthy" until all have been connected for five seconds, as by etcd.
            for change in (
                f"member remove {victim.id:x}",
                f"member add {victim.name} --peer-urls={victim.peer_url}",
            ):
                cluster.wait(lambda change=change: ctl(change).code == 0, f"never: {change}", 30)
            victim.state = "existing"
            victim.start()
            load.go_on()

        arena.under_load(faults)
