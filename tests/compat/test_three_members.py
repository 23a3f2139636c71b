"""etcdctl on three members of each system: they say the same, and grow and shrink alike."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chainfire.client import connect_sync
from chainfire.client.calls import Call
from chainfire.proto import cluster_pb2 as pb
from tests import peers
from tests.compat.ctl import Ctl, Output
from tests.servers import Kind, Server, etcds, free_port

READY_SECONDS = 60.0
NAMES = ("m1", "m2", "m3")


class Trio:
    """Three members of a kind, and more that join later."""

    def __init__(self, kind: Kind, directory: Path) -> None:
        self._directory = directory
        self._kind = kind
        ports = {name: (free_port(), free_port()) for name in NAMES}
        founders = ",".join(f"{name}=http://127.0.0.1:{peer}" for name, (_, peer) in ports.items())
        self.members = {
            name: self.make(name, founders, "new", port=port, peer_port=peer)
            for name, (port, peer) in ports.items()
        }

    def make(
        self, name: str, founders: str, state: str, *, port: int = 0, peer_port: int = 0
    ) -> Server:
        flags = (
            f"--name={name}",
            f"--initial-cluster={founders}",
            f"--initial-cluster-state={state}",
        )
        path = self._directory / name
        return Server(self._kind, path, flags, port=port, peer_port=peer_port)

    def start(self) -> Trio:
        for server in self.members.values():
            server.spawn()
        for server in self.members.values():
            server.wait_ready(READY_SECONDS)
        until(self._all_know_all, "a member did not hear of another's name")
        return self

    def _all_know_all(self) -> bool:
        """A member that lags serves while the names of others are still on their way to it."""
        lists = (self.ctl(name).raw("member list") for name in self.members)
        return not any("unstarted" in listed for listed in lists)

    def ctl(self, *names: str) -> Ctl:
        targets = ",".join(self.members[name].target for name in names or self.members)
        return Ctl(peers.need_tool("etcdctl"), targets)

    def leader(self) -> str:
        statuses = json.loads(self.ctl().raw("endpoint status -w json"))
        leader = statuses[0]["Status"]["leader"]
        [at] = [s["Endpoint"] for s in statuses if s["Status"]["header"]["member_id"] == leader]
        [name] = [name for name, server in self.members.items() if server.target == at]
        return name

    def id_of(self, name: str) -> str:
        rows = (row.split(", ") for row in self.ctl().raw("member list").splitlines())
        [id_] = [row[0] for row in rows if row[2] == name]
        return id_

    def kill(self) -> None:
        for server in self.members.values():
            server.kill()


def _kinds() -> list[Kind]:
    theirs = peers.need_kind(next(iter(etcds()), None), "a real etcd")
    return [theirs, peers.need_chainfire()]


@pytest.fixture(scope="module")
def trios(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Trio]]:
    """etcd's, then ours."""
    made = [Trio(kind, tmp_path_factory.mktemp("trio")) for kind in _kinds()]
    try:
        yield [trio.start() for trio in made]
    finally:
        for trio in made:
            trio.kill()


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + READY_SECONDS
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.1)


_ID = re.compile(r"(?:(?<= ) +)?\b[0-9a-f]{13,16}\b")  # padded by some commands
_URL = re.compile(r"http://(127\.0\.0\.1:\d+|HOST:PORT)")
_FOUNDERS = re.compile(r'(?<=INITIAL_CLUSTER=")[^"]*')


def settled(output: Output) -> tuple[int, list[str], str]:
    def text(given: str) -> str:
        given = _URL.sub("URL", _ID.sub("ID", given.replace(" as learner", "")))
        return _FOUNDERS.sub(lambda found: ",".join(sorted(found[0].split(","))), given)

    return output.code, sorted(text(output.out).splitlines()), text(output.error)


def test_the_members_are_listed_alike(trios: list[Trio]) -> None:
    theirs, ours = ([settled(t.ctl(n)("member list")) for n in NAMES] for t in trios)
    assert ours == theirs


def test_every_member_serves_writes_and_reads(trios: list[Trio]) -> None:
    for trio in trios:
        for name in NAMES:
            assert trio.ctl(name)(f"put from {name}").out == "OK\n"
            for reader in NAMES:
                assert trio.ctl(reader)("get from").out == f"from\n{name}\n"


def test_leadership_moves(trios: list[Trio]) -> None:
    for trio in trios:
        leader = trio.leader()
        target = next(name for name in NAMES if name != leader)
        other = next(name for name in NAMES if name not in (leader, target))
        moved = trio.ctl()(f"move-leader {trio.id_of(target)}")
        assert moved.code == 0, moved
        until(lambda trio=trio, target=target: trio.leader() == target, "no new leader")  # type: ignore[misc]
        refused = trio.ctl(other)(f"move-leader {trio.id_of(other)}")
        assert (refused.code != 0, "no leader endpoint" in refused.error) == (True, True)


def test_a_learner_joins_catches_up_votes_and_leaves(trios: list[Trio]) -> None:
    theirs, ours = map(_life_of_a_fourth, trios)
    assert ours == theirs


def _life_of_a_fourth(trio: Trio) -> list[tuple[int, list[str], str]]:
    """It is added by one member, promoted by another, removed by the third."""
    first, second, third = (trio.ctl(name) for name in NAMES)
    peer_port = free_port()
    outputs: list[Output] = []

    def is_done(ctl: Ctl, command: str) -> bool:
        output = ctl(command)
        if output.code == 0:
            outputs.append(output)
        return output.code == 0

    add = f"member add m4 --peer-urls=http://127.0.0.1:{peer_port} --learner"
    until(lambda: is_done(first, add), "no member can be added")  # until all have met for 5 s
    rows = [row.split(", ") for row in first.raw("member list").splitlines()]
    [id_] = [row[0] for row in rows if not row[2]]
    outputs.append(third(f"member promote {id_}"))  # too early
    founders = ",".join(f"{row[2] or 'm4'}={row[3]}" for row in rows)
    fourth = trio.members["m4"] = trio.make("m4", founders, "existing", peer_port=peer_port)
    fourth.spawn()
    promote = f"member promote {id_}"
    until(lambda: is_done(second, promote), "the learner does not catch up")
    assert first("put here 1").code == 0
    until(lambda: trio.ctl("m4")("get here").out == "here\n1\n", "the new member does not serve")
    outputs += [second(promote), *(trio.ctl(name)("member list") for name in trio.members)]
    outputs += [third(f"member remove {id_}"), third(f"member remove {id_}")]
    del trio.members["m4"]
    fourth.wait_exit(READY_SECONDS)
    outputs.append(first("member list"))
    return [settled(output) for output in outputs]


def test_one_call_tells_of_all_three(trios: list[Trio]) -> None:
    trio = trios[1]
    call = Call(
        "/chainfire.v1.Cluster/ClusterStatus",
        pb.ClusterStatusRequest(),
        pb.ClusterStatusResponse,
        is_read=True,
    )
    for name in NAMES:
        with connect_sync(trio.members[name].url) as client:
            until(lambda client=client: client.call(call).healthy, "not healthy")  # type: ignore[misc]
            found = client.call(call)
        roles = sorted(pb.MemberRole.Name(member.role) for member in found.members)
        assert roles == ["FOLLOWER", "FOLLOWER", "LEADER"]
        assert {member.member.name for member in found.members} == set(NAMES)
    trio.members["m3"].kill()
    with connect_sync(trio.members["m1"].url) as client:
        until(lambda: not client.call(call).healthy, "a dead member is not noticed")
        silent = [m.member.name for m in client.call(call).members if m.health == pb.SILENT]
        assert silent == ["m3"]
    trio.members["m3"].start(READY_SECONDS)
