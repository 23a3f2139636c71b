"""Real members that lose data, or whose state is not the others', mend themselves under load."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from chainfire.proto import kv_pb2, maintenance_pb2
from tests import report
from tests.cluster.load import Arena, Load
from tests.clusters import Cluster, Member
from tests.crash import damage
from tests.crash.damage import FILES
from tests.peers import need_chainfire

HEAL_SECONDS = 90.0
LOSSES = [False, pytest.param(True, marks=pytest.mark.slow)]  # of a follower; of the leader


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    kind = need_chainfire()
    if not kind.is_chainfire:
        pytest.skip("the files that are damaged are Chainfire's")
    with Cluster(kind, tmp_path_factory.mktemp("healing")) as made:
        yield Arena(made.start())


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    kind = need_chainfire()
    if not kind.is_chainfire:
        pytest.skip("the files that are falsified are Chainfire's")
    with Cluster(kind, tmp_path_factory.mktemp("steady")) as made:
        yield made.start()


def healed(member: Member) -> int:
    return member.log(last_bytes=10_000_000).count("caught up: this member votes again")


def wait_healed(arena: Arena, member: Member, before: int) -> None:
    arena.cluster.wait(lambda: healed(member) > before, "did not heal", HEAL_SECONDS)
    report.count("members healed by the others", 1)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("leads", LOSSES)
def test_a_member_whose_log_is_gone_takes_it_from_the_others(arena: Arena, leads: bool) -> None:
    def faults(load: Load) -> None:
        load.go_on()
        victim = arena.cluster.leader() if leads else arena.cluster.followers()[0]
        before = healed(victim)
        victim.kill()
        FILES["log"](victim.data_dir).unlink()
        load.go_on(20)
        victim.start(HEAL_SECONDS)
        wait_healed(arena, victim, before)
        other = next(m for m in arena.cluster.members if m is not victim)
        other.kill()
        load.go_on(20)  # which needs the victim
        other.start(HEAL_SECONDS)

    arena.under_load(faults)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_damage_that_is_met_while_it_runs_is_mended_without_a_hand(arena: Arena) -> None:
    """A block in the middle of a table: the start does not read it, the scrub does."""

    def faults(load: Load) -> None:
        load.go_on(300)
        victim = arena.cluster.followers()[0]
        victim.kill()
        victim.start()  # RocksDB turns what it replays into tables
        before = healed(victim)
        victim.kill()
        damage.flip_middle(FILES["state SST"](victim.data_dir))
        victim.spawn()
        wait_healed(arena, victim, before)
        victim.wait_ready(HEAL_SECONDS)
        load.go_on()

    arena.under_load(faults)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("leads", LOSSES)
def test_a_member_whose_state_differs_is_found_and_mended(steady: Cluster, leads: bool) -> None:
    """Nobody asks it meanwhile: within a heartbeat it does not know yet, and may answer wrongly."""
    key = b"stored%d" % leads
    victim = steady.followers()[0]
    others = [member for member in steady.members if member is not victim]
    before = healed(victim)
    victim.put(key, b"right")
    assert victim.get(key) == b"right"  # it is applied, and not only answered
    victim.kill()
    damage.falsify(victim.data_dir, key, b"right", b"wrong")
    victim.start(HEAL_SECONDS)
    if leads:
        steady.move_leader(victim)
    compare_and_put(others[0], key)
    steady.wait(lambda: found(victim), "not found", HEAL_SECONDS)
    steady.wait(lambda: healed(victim) > before, "did not heal", HEAL_SECONDS)
    victim.wait_ready(HEAL_SECONDS)
    steady.wait(lambda: not alarms(others[0]), "the alarm stays", HEAL_SECONDS)
    assert victim.get(key) == b"right"
    for number in range(20):
        steady.members[number % 3].put(key + b"later%d" % number, b"v")
    steady.wait_equal()
    report.count("members healed by the others", 1)


@pytest.mark.timeout(180)
def test_a_member_that_is_started_on_an_older_copy_takes_the_rest_from_the_others(
    steady: Cluster, tmp_path: Path
) -> None:
    victim = steady.followers()[0]
    others = [member for member in steady.members if member is not victim]
    before = healed(victim)
    victim.kill()
    shutil.copytree(victim.data_dir, tmp_path / "copy")
    for number in range(2):
        victim.start(HEAL_SECONDS)
        others[0].put(b"newer%d" % number, b"v")
        victim.kill()
    shutil.rmtree(victim.data_dir)
    shutil.copytree(tmp_path / "copy", victim.data_dir)
    victim.spawn()
    steady.wait(lambda: healed(victim) > before, "did not heal", HEAL_SECONDS)
    victim.wait_ready(HEAL_SECONDS)
    assert "its data directory is an older copy" in victim.log(10_000_000)
    assert (victim.data_dir / "damaged-000001").is_dir()
    assert victim.get(b"newer1") == b"v"
    steady.wait_equal()
    report.count("members healed by the others", 1)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_member_whose_log_contradicts_what_the_others_have_committed_begins_anew(
    tmp_path: Path,
) -> None:
    """The disks of the two others were set back, and they have gone on without it."""
    with Cluster(need_chainfire(), tmp_path) as cluster:
        cluster.start()
        odd, *others = cluster.members
        odd.put(b"k", b"v")
        cluster.wait_equal()
        kill(odd, *others)
        for member in others:
            shutil.copytree(member.data_dir, tmp_path / f"copy of {member.name}")
        start(odd, *others)
        odd.put(b"lost", b"v")
        cluster.wait_equal()
        kill(odd, *others)
        for member in others:
            shutil.rmtree(member.data_dir)
            shutil.copytree(tmp_path / f"copy of {member.name}", member.data_dir)
        for _ in range(2):  # in newer terms, and known for an older copy no more
            start(*others)
            kill(*others)
        start(*others)
        others[0].put(b"k", b"w")
        odd.spawn()
        cluster.wait(lambda: healed(odd) > 0, "did not heal", HEAL_SECONDS)
        odd.wait_ready(HEAL_SECONDS)
        assert "has committed another one of term" in odd.log(10_000_000)
        assert (odd.data_dir / "damaged-000001").is_dir()
        assert odd.get(b"lost") is None and odd.get(b"k") == b"w"
        cluster.wait_equal()
        report.count("members healed by the others", 1)


def start(*members: Member) -> None:
    for member in members:
        member.spawn()
    for member in members:
        member.wait_ready(HEAL_SECONDS)


def kill(*members: Member) -> None:
    for member in members:
        member.kill()


def found(member: Member) -> bool:
    return "this member's state is not that of the majority" in member.log(10_000_000)


def compare_and_put(member: Member, key: bytes) -> None:
    """Its outcome hangs on the value that is stored."""
    request = kv_pb2.TxnRequest(
        compare=[kv_pb2.Compare(key=key, target=kv_pb2.Compare.VALUE, value=b"right")],
        success=[kv_pb2.RequestOp(request_put=kv_pb2.PutRequest(key=key + b"equal", value=b"y"))],
    )
    member.call("KV/Txn", request, kv_pb2.TxnResponse)


def alarms(member: Member) -> int:
    request = maintenance_pb2.AlarmRequest()
    reply = member.call("Maintenance/Alarm", request, maintenance_pb2.AlarmResponse)
    return len(reply.alarms)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_told_not_to_heal_it_stops_and_says_why(tmp_path: Path) -> None:
    with Cluster(need_chainfire(), tmp_path, flags=["--auto-heal=false"]) as cluster:
        cluster.start()
        victim = cluster.followers()[0]
        cluster.leader().put(b"k", b"v")
        cluster.wait_equal()
        victim.kill()
        FILES["log"](victim.data_dir).unlink()
        victim.spawn()
        assert victim.wait_exit() == 1
        assert "this member's disk has lost data" in victim.log()
        assert not list(victim.data_dir.glob("damaged-*"))
