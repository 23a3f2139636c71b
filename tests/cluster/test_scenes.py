"""What a user of etcdctl sees while members and clients die: watches, locks and leases go on."""

from __future__ import annotations

import queue
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

from tests import report
from tests.clusters import Cluster, Member
from tests.compat.ctl import Ctl
from tests.peers import need_chainfire, need_etcdctl

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SECONDS = 60  # within which everything has happened, on the busiest machine
PUTS = 60


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(need_chainfire(), tmp_path_factory.mktemp("scenes")) as made:
        yield made.start()


@pytest.fixture(scope="module", params=["3.4", "3.5"])
def etcdctl(request: pytest.FixtureRequest) -> str:
    return need_etcdctl(request.param)


class Shell:
    """An etcdctl that runs until it is told not to; its lines come one by one."""

    def __init__(self, program: str, endpoints: str, *words: str) -> None:
        self.process = subprocess.Popen(
            [program, f"--endpoints={endpoints}", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={"ETCDCTL_API": "3"},
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))

    def line(self) -> str:
        return self._lines.get(timeout=SECONDS)

    @property
    def has_said_nothing(self) -> bool:
        return self._lines.empty()

    def end(self, number: signal.Signals) -> None:
        self.process.send_signal(number)
        self.process.wait(SECONDS)
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def shell(program: str, endpoints: str, *words: str) -> Iterator[Shell]:
    running = Shell(program, endpoints, *words)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.end(signal.SIGKILL)


def put(member: Member, key: bytes, value: bytes) -> None:
    """Until it is acknowledged."""
    give_up = time.monotonic() + SECONDS
    while True:
        try:
            member.put(key, value)
        except grpc.RpcError:
            assert time.monotonic() < give_up
        else:
            return


@pytest.mark.parametrize("victim", ["leader", "follower"])
def test_a_watch_at_one_member_misses_nothing_while_another_is_killed_and_the_third_writes(
    cluster: Cluster, etcdctl: str, victim: str
) -> None:
    leader, (one, other) = cluster.leader(), cluster.followers()
    killed, writer = (leader, other) if victim == "leader" else (other, leader)
    with shell(etcdctl, one.target, "watch", "--prefix", f"{victim}/") as watching:
        while watching.has_said_nothing:  # nobody says from outside whether a watch stands
            put(writer, b"%s/0" % victim.encode(), b"-1")
        for number in range(PUTS):
            if number == PUTS // 3:
                killed.kill()
            put(writer, b"%s/%d" % (victim.encode(), number), b"%d" % number)
        told: list[int] = []
        while not told or told[-1] != PUTS - 1:
            assert watching.line() == "PUT"
            watching.line()
            told.append(int(watching.line()))
        # A put whose answer was lost was sent again, and so may be told twice.
        assert sorted(set(told)) == list(range(-1, PUTS))
        assert told == sorted(told)
    killed.start()
    report.count("events told by etcdctl watch over a kill", PUTS)


def lock(cluster: Cluster, etcdctl: str, ttl: int) -> tuple[str, ...]:
    return etcdctl, ",".join(cluster.endpoints), "lock", f"--ttl={ttl}", "scene"


def test_a_lock_is_handed_over_by_expiry_when_its_holder_is_killed(
    cluster: Cluster, etcdctl: str
) -> None:
    ttl = 5
    with shell(*lock(cluster, etcdctl, ttl)) as first, shell(*lock(cluster, etcdctl, ttl)) as later:
        holder, waiter = (first, later) if _says_first(first, later) else (later, first)
        key = holder.line()
        holder.end(signal.SIGKILL)
        killed_at = time.monotonic()
        assert waiter.line() != key
        # It kept its lease alive every third of the TTL: so much was left at least.
        assert time.monotonic() - killed_at > ttl / 3
        waiter.end(signal.SIGTERM)


def test_a_lock_is_handed_over_at_once_when_its_holder_is_asked_to_end(
    cluster: Cluster, etcdctl: str
) -> None:
    ttl = 10 * SECONDS
    with shell(*lock(cluster, etcdctl, ttl)) as first, shell(*lock(cluster, etcdctl, ttl)) as later:
        holder, waiter = (first, later) if _says_first(first, later) else (later, first)
        key = holder.line()
        holder.end(signal.SIGTERM)
        assert waiter.line() != key
        waiter.end(signal.SIGTERM)


def _says_first(first: Shell, later: Shell) -> bool:
    give_up = time.monotonic() + SECONDS
    while first.has_said_nothing and later.has_said_nothing:
        assert time.monotonic() < give_up
        time.sleep(0.01)
    return not first.has_said_nothing


def test_a_lease_survives_two_changes_of_leader_and_ends_when_it_should(
    cluster: Cluster, etcdctl: str
) -> None:
    ttl = 15
    ctl = Ctl(etcdctl, ",".join(cluster.endpoints))
    asked_at = time.monotonic()
    lease = re.findall(r"lease (\w+) granted", ctl.raw(f"lease grant {ttl}"))[0]
    granted_at = time.monotonic()
    assert ctl(f"put leased v --lease={lease}").code == 0
    while time.monotonic() < granted_at + ttl / 3:  # so that a TTL that began anew is noticed
        time.sleep(0.02)
    without_leader = 0.0
    for _ in range(2):
        leader = cluster.leader()
        killed_at = time.monotonic()
        leader.kill()
        put(cluster.running[0], b"there", b"is a leader")
        without_leader += time.monotonic() - killed_at
        leader.start()
    found = re.findall(r"remaining\((\d+)s\)", ctl.raw(f"lease timetolive {lease}"))
    passed = time.monotonic() - asked_at
    if found:  # else it is over: a change of leader took long
        assert int(found[0]) <= ttl - passed + without_leader + 2  # a second of stamps each
    while ctl("get leased").out:
        assert time.monotonic() < granted_at + SECONDS
        time.sleep(0.02)
    assert time.monotonic() - asked_at >= ttl
