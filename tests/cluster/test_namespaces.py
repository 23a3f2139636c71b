"""Real members on networks of their own: cables that are pulled, and roads that lead nowhere.

A proxy between members can drop bytes; it cannot make a machine vanish, whose address answers
nothing at all. Namespaces can, where the test may make them (root, `ip`).
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import report
from tests.cluster.load import Arena, Load
from tests.clusters import Cluster, Member
from tests.peers import need_chainfire

NET = "10.213.97"


class Wires:
    """A bridge on this host, and a namespace for each member at its end of a cable."""

    def __init__(self) -> None:
        self._tag = f"cf{os.getpid() % 100_000}"
        self._undo: list[tuple[str, ...]] = []
        self._names: dict[str, str] = {}

    def begin(self) -> None:
        self._ip("link", "add", self._tag, "type", "bridge")
        self._undo.append(("link", "del", self._tag))
        self._ip("addr", "add", f"{NET}.1/24", "dev", self._tag)
        self._ip("link", "set", self._tag, "up")

    def attach(self, member: Member, number: int) -> None:
        space = f"{self._tag}n{number}"
        self._ip("netns", "add", space)
        self._undo.append(("netns", "del", space))
        self._ip("link", "add", f"{space}h", "type", "veth", "peer", "name", "eth0", "netns", space)
        self._ip("link", "set", f"{space}h", "master", self._tag, "up")
        for command in (
            ("addr", "add", f"{NET}.{number + 1}/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("link", "set", "lo", "up"),
        ):
            self._ip("-n", space, *command)
        self._names[member.name] = space
        member.host = f"{NET}.{number + 1}"
        member.prefix = ("ip", "netns", "exec", space)

    def pull(self, member: Member) -> None:
        self._ip("link", "set", f"{self._names[member.name]}h", "down")

    def plug(self, member: Member) -> None:
        self._ip("link", "set", f"{self._names[member.name]}h", "up")

    def lead_nowhere(self, member: Member, other: Member) -> None:
        """What the member sends to the other is lost; what comes from there arrives."""
        self._ip("-n", self._names[member.name], "route", "add", "blackhole", f"{other.host}/32")

    def lead_there(self, member: Member, other: Member) -> None:
        self._ip("-n", self._names[member.name], "route", "del", "blackhole", f"{other.host}/32")

    def end(self) -> None:
        for command in reversed(self._undo):
            subprocess.run(["ip", *command], check=False, capture_output=True)

    def _ip(self, *arguments: str) -> None:
        done = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


@pytest.fixture
def wires() -> Iterator[Wires]:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and the program ip")
    made = Wires()
    try:
        try:
            made.begin()
            made.attach(Member(need_chainfire(), Path(), name="probe"), 200)
        except OSError as error:
            pytest.skip(f"network namespaces may not be made here: {error}")
        yield made
    finally:
        made.end()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_machines_that_vanish_and_one_way_roads_lose_nothing(wires: Wires, tmp_path: Path) -> None:
    def attach(member: Member) -> None:
        wires.attach(member, next(numbers))

    numbers = itertools.count(1)
    with Cluster(need_chainfire(), tmp_path, prepare=attach) as cluster:
        arena = Arena(cluster.start())

        def faults(load: Load) -> None:
            load.go_on()
            for victim in (cluster.leader(), cluster.followers()[0]):
                wires.pull(victim)
                load.go_on(20)
                wires.plug(victim)
                cluster.wait_ready()
                load.go_on(20)
            leader = cluster.leader()
            others = [member for member in cluster.members if member is not leader]
            for other in others:
                wires.lead_nowhere(leader, other)
            load.go_on(20)
            for other in others:
                wires.lead_there(leader, other)
            wires.lead_nowhere(others[0], others[1])
            load.go_on(20)
            wires.lead_there(others[0], others[1])
            load.go_on(20)

        arena.under_load(faults)
        report.count("cables pulled", 2)
