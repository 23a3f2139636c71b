"""The campaign of faults in small, and its judge held against lies.

The whole is `make faults RUNS=…` (docs/verification.md says what it has shown).
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from chainfire.node.divergence import Verdict
from chainfire.node.journal import VERDICTS
from chainfire.proto import lease_pb2, lock_pb2
from chainfire.sim.check_kv import check_kv
from chainfire.sim.history import Change, Kv, Operation, Put, PutDone, Revision, Violation
from tests import report
from tests.cluster.feed import feed
from tests.clusters import Cluster, Member
from tests.faults.__main__ import PLANTED_IN, ROOT, TRUE, canary
from tests.faults.clients import LockHeld, left_by_lock
from tests.faults.crashing import POINTS, VARIABLE
from tests.faults.judge import check_locks, confession
from tests.faults.kinds import at_once, mended_in_turn
from tests.faults.scene import run
from tests.faults.shim import library
from tests.peers import need_chainfire
from tests.servers import Kind


def put(main: int, key: bytes) -> Revision:
    return Revision(main, (Change(Kv(key, b"v", main, main, 1)),))


def deleted(main: int, key: bytes) -> Revision:
    return Revision(main, (Change(Kv(key, b"", 0, main, 0), deleted=True),))


LINE = [put(2, b"l/a"), put(3, b"l/b"), put(4, b"other/c"), deleted(5, b"l/a")]


def test_the_first_in_line_may_hold_the_lock() -> None:
    check_locks([LockHeld(b"l", b"l/a", 2), LockHeld(b"l", b"l/b", 5)], LINE)


@pytest.mark.parametrize(
    "lie",
    [
        LockHeld(b"l", b"l/b", 4),  # another one is before it
        LockHeld(b"l", b"l/a", 5),  # gone
        LockHeld(b"l", b"l/a", 9),  # the revision never was
    ],
)
def test_a_lock_that_is_not_theirs_is_found_out(lie: LockHeld) -> None:
    with pytest.raises(Violation):
        check_locks([lie], LINE)


ENTERED_LATE = Revision(2, (Change(Kv(b"l/a", b"", 2, 2, 1, 10)),))


def of_a_lock_without_an_answer() -> list[Operation]:
    return [Operation(1, 0, 1, 0, request) for request in left_by_lock(b"l/a", 10)]


@pytest.mark.parametrize("feed", [[], [ENTERED_LATE], [ENTERED_LATE, deleted(3, b"l/a")]])
def test_a_lock_without_an_answer_may_enter_its_line_late_and_leave(feed: list[Revision]) -> None:
    check_kv(of_a_lock_without_an_answer(), feed)


def test_a_lock_without_an_answer_takes_nobody_elses_key_away() -> None:
    entered = Operation(1, 1, 1, 1, Put(b"l/a", b"v"), 2, PutDone(2))
    with pytest.raises(Violation, match="nobody's"):
        check_kv([entered, *of_a_lock_without_an_answer()], [put(2, b"l/a"), deleted(3, b"l/a")])


@pytest.mark.slow
def test_a_lock_given_up_at_a_member_that_is_cut_off_does_no_more_than_that(tmp_path: Path) -> None:
    with Cluster(need_chainfire(), tmp_path, proxied=True).start() as cluster:
        leader, cut_off = cluster.leader(), cluster.followers()[0]
        grant = lease_pb2.LeaseGrantRequest(ID=10, TTL=60)
        leader.call("Lease/LeaseGrant", grant, lease_pb2.LeaseGrantResponse)
        cluster.cut_off(cut_off)
        lock = lock_pb2.LockRequest(name=b"l", lease=10).SerializeToString()
        with grpc.insecure_channel(cut_off.target) as channel, pytest.raises(grpc.RpcError):
            channel.unary_unary("/v3lockpb.Lock/Lock")(lock, timeout=1)
        cluster.heal()
        cluster.wait(lambda: cluster.wait_equal() >= 3, "it neither came nor went", 30)
        operations = [Operation(1, 0, 1, 0, request) for request in left_by_lock(b"l/a", 10)]
        state = check_kv(operations, feed(leader, 2, 3))
    assert state.revision == 3
    assert not state.kvs


@pytest.mark.parametrize(
    ("drawn", "members", "together"),
    [
        (["partition", "flip_bits"], 3, ["partition", "flip_bits"]),
        (["flip_bits", "lose_file", "pause"], 3, ["flip_bits", "pause"]),  # one that loses data
        (["flip_bits", "lose_file", "pause"], 5, ["flip_bits", "lose_file", "pause"]),
        (["kill", "pause", "one_way"], 3, ["kill", "pause"]),
        (["old_disk", "partition"], 3, ["partition"]),
    ],
)
def test_no_more_faults_overlap_than_a_quorum_survives(
    drawn: list[str], members: int, together: list[str]
) -> None:
    assert at_once(drawn, members) == together


def test_damage_is_mended_when_those_who_heal_it_are_back() -> None:
    struck = ["wiped_disk", "full_disk", "partition"]
    assert sorted(struck, key=mended_in_turn) == ["partition", "full_disk", "wiped_disk"]


@pytest.mark.parametrize("verdict", [Verdict.ODD, Verdict.SUSPECT])
def test_a_member_that_found_itself_diverged_is_heard(tmp_path: Path, verdict: Verdict) -> None:
    member = Member(Kind("chainfire", (), ()), tmp_path / "m1", name="m1")
    member.log_path.write_text("ready\n")
    assert not confession([member])
    member.log_path.write_text(f"ready\n{VERDICTS[verdict]}\n")
    assert VERDICTS[verdict] in confession([member])


def need_compiler() -> None:
    if library() is None:
        pytest.skip("no C compiler: disks and clocks cannot be made to fail")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("fault", ["kill", "slow_sync"])
def test_a_run_keeps_every_promise(tmp_path: Path, fault: str) -> None:
    need_compiler()
    verdict = run(need_chainfire(), tmp_path, 1, door="auto", only=[fault])
    assert verdict.passed, verdict
    report.count("requests judged under real faults", verdict.operations)


def test_the_bug_of_the_canary_still_has_its_place() -> None:
    assert (ROOT / PLANTED_IN).read_text().count(TRUE) == 1


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_planted_bug_is_found() -> None:
    need_compiler()
    assert canary(need_chainfire(), "auto")


@pytest.mark.parametrize("point", sorted(POINTS))
def test_a_crash_point_names_what_is_there(point: str) -> None:
    module, _, path = POINTS[point].where.partition(":")
    owner = importlib.import_module(module)
    for name in path.split("."):
        owner = getattr(owner, name)
    assert callable(owner)


@pytest.mark.parametrize("point", ["before log-append", "after log-sync", "before turn"])
def test_a_step_of_what_is_compiled_is_come_to(tmp_path: Path, point: str) -> None:
    env = {**os.environ, VARIABLE: f"{point}:2", "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    flags = {
        "data-dir": tmp_path / "data",
        "listen-client-urls": "http://127.0.0.1:0",
        "advertise-client-urls": "http://127.0.0.1:1",
        "listen-peer-urls": "http://127.0.0.1:0",
        "initial-advertise-peer-urls": "http://127.0.0.1:1",
        "initial-cluster": "default=http://127.0.0.1:1",
    }
    command = [sys.executable, "-m", "tests.faults.crashing", "serve"]
    command += [f"--{name}={value}" for name, value in flags.items()]
    done = subprocess.run(command, env=env, capture_output=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
