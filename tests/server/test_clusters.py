"""Clusters of whole members on real sockets and disks, in this process."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chainfire.command import CommandKind
from chainfire.config import Config
from chainfire.config.urls import Url, parse_url
from chainfire.errors import ConfigError, Damaged, DataDirMismatch, Removed, Stopped
from chainfire.node.identity import member_id
from chainfire.node.removal import Removal
from chainfire.node.shell import Node
from chainfire.proto.cluster_pb2 import Member as MemberRow
from chainfire.proto.kv_pb2 import LINEARIZABLE, LOCAL, SERIALIZABLE, PutRequest
from chainfire.raft.changes import ChangeKind, ChangeStep, ConfChange
from chainfire.raft.ready import Role
from chainfire.server.member import Member
from tests.node import running
from tests.node.running import on_loop
from tests.node.world import Caller
from tests.server.directories import put
from tests.servers import free_port


async def until(condition: Callable[[], bool]) -> None:
    """Elections and starts of several members on one loop take their time."""
    await running.until(condition, seconds=40.0)


def _url() -> Url:
    return parse_url(f"http://127.0.0.1:{free_port()}")


class Cluster:
    """Members by name; `urls` are their peer URLs."""

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self.root = root
        self.urls = {name: _url() for name in names}
        self.members: dict[str, Member] = {}
        self.configs = {name: self.config(name, names) for name in names}

    def config(self, name: str, names: Sequence[str], *, existing: bool = False) -> Config:
        base, client = Config(), _url()
        return dataclasses.replace(
            base,
            member=dataclasses.replace(base.member, name=name, data_dir=str(self.root / name)),
            network=dataclasses.replace(
                base.network,
                listen_client_urls=(client,),
                advertise_client_urls=(client,),
                listen_peer_urls=(self.urls[name],),
            ),
            cluster=dataclasses.replace(
                base.cluster,
                initial_advertise_peer_urls=(self.urls[name],),
                initial_cluster=tuple((n, (self.urls[n],)) for n in names),
                initial_cluster_state="existing" if existing else "new",
            ),
            storage=dataclasses.replace(base.storage, ballast_bytes=1 << 20),
        )

    async def start(self, *names: str) -> None:
        members = [Member(self.configs[name]) for name in names]
        self.members.update(zip(names, members, strict=True))
        await asyncio.gather(*(member.start() for member in members))

    async def stop(self, name: str) -> None:
        await self.members.pop(name).aclose()

    def node(self, name: str) -> Node:
        node = self.members[name].node
        assert node is not None
        return node

    @property
    def leader(self) -> str:
        """Whom everybody calls the leader; empty: nobody."""
        nodes = {name: self.node(name) for name in self.members}
        leaders = {node.leader_id for node in nodes.values()}
        found = [name for name, node in nodes.items() if {node.member_id} == leaders]
        return found[0] if found else ""

    async def agree(self) -> str:
        await until(lambda: self.leader != "")
        return self.leader

    async def read(self, name: str, key: bytes, level: int = LINEARIZABLE) -> bytes | None:
        reader = Caller()
        self.node(name).read(level, 0, None, reader)
        await until(lambda: reader.answered)
        assert reader.may_read, reader.error
        return self.node(name).store.get_row(0, key)

    async def change(self, name: str, kind: ChangeKind, id_: int, *rows: MemberRow) -> None:
        caller = Caller()
        change = ConfChange((ChangeStep(kind, id_),))
        self.node(name).propose_conf_change(change, rows, caller)
        await until(lambda: caller.answered)
        assert caller.result is not None, caller.error

    def is_even(self) -> bool:
        machines = [self.node(name).machine for name in self.members]
        return len({(machine.applied_index, machine.hash) for machine in machines}) == 1


@asynccontextmanager
async def cluster_of(root: Path, *names: str) -> AsyncIterator[Cluster]:
    cluster = Cluster(root, names)
    try:
        await cluster.start(*names)
        await cluster.agree()
        yield cluster
    finally:
        for name in list(cluster.members):
            await cluster.stop(name)


@on_loop
async def test_three_members_form_a_cluster_and_the_same_command_line_restarts_them(
    tmp_path: Path,
) -> None:
    async with cluster_of(tmp_path, "a", "b", "c") as cluster:
        for name in "abc":
            await put(cluster.node(name), name.encode())
        for name in "abc":
            for key in (b"a", b"b", b"c"):
                assert await cluster.read(name, key) is not None
        await until(
            lambda: {m.name for m in cluster.node("a").machine.members.values()} == {*"abc"}
        )
        for name in "abc":
            await cluster.stop(name)
        await cluster.start("a", "b", "c")
        await cluster.agree()
        for name in "abc":
            assert await cluster.read(name, b"c") is not None
        await until(cluster.is_even)


@on_loop
async def test_a_graceful_stop_of_the_leader_hands_over_and_no_write_fails(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, "a", "b", "c") as cluster:
        leader = await cluster.agree()
        await put(cluster.node(leader), b"k")
        term = cluster.node(leader).term
        others = [name for name in "abc" if name != leader]
        writes = [asyncio.ensure_future(put(cluster.node(n), b"k-" + n.encode())) for n in others]
        await cluster.stop(leader)
        await asyncio.gather(*writes)
        await cluster.agree()
        assert cluster.node(others[0]).term == term + 1, "one election, asked for"
        await cluster.start(leader)
        await until(cluster.is_even)


@on_loop
async def test_a_follower_that_lags_behind_the_log_is_sent_the_state(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, "a", "b", "c") as cluster:
        leader = await cluster.agree()
        away = next(name for name in "abc" if name != leader)
        await cluster.stop(away)
        for number in range(30):
            await put(cluster.node(leader), b"k%d" % number)
        for member in cluster.members.values():
            node = member.node
            assert node is not None
            node.backend.sync()
            log = node._driver.log
            log.note_state_durable(node.machine.applied_index)
            log.truncate_front(node.machine.applied_index)
        await cluster.start(away)
        await until(cluster.is_even)
        assert await cluster.read(away, b"k29", LOCAL) is not None
        await put(cluster.node(away), b"after")
        await cluster.stop(away)
        await cluster.start(away)
        await until(cluster.is_even)
        assert (tmp_path / away / "CURRENT").read_text().endswith("state-000002\n")
        assert not (tmp_path / away / "state-000001").exists()


@on_loop
async def test_a_member_joins_a_running_cluster_is_promoted_and_leaves(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, "a") as cluster:
        await put(cluster.node("a"), b"before")
        cluster.urls["b"] = _url()
        url = str(cluster.urls["b"])
        id_ = member_id([url], "etcd-cluster", 1_700_000_000)
        await cluster.change("a", ChangeKind.ADD_LEARNER, id_, MemberRow(ID=id_, peerURLs=[url]))
        cluster.configs["b"] = cluster.config("b", ["a", "b"], existing=True)
        await cluster.start("b")
        assert cluster.node("b").member_id == id_
        assert await cluster.read("b", b"before", LOCAL) is not None
        await cluster.change("b", ChangeKind.ADD_VOTER, id_)
        await put(cluster.node("b"), b"after")
        await until(cluster.is_even)
        await cluster.stop("b")
        await cluster.start("b")  # the same command line
        await cluster.agree()
        await until(cluster.is_even)
        await cluster.change("a", ChangeKind.REMOVE, id_)
        failed = await cluster.members["b"].failed()
        assert isinstance(failed, Removed) and "permanently removed" in str(failed)
        await cluster.stop("b")
        with pytest.raises(Removed):
            await cluster.start("b")
        del cluster.members["b"]
        await put(cluster.node("a"), b"alone again")


@on_loop
async def test_a_replaced_member_started_as_its_founder_was_is_told_what_helps(
    tmp_path: Path,
) -> None:
    async with cluster_of(tmp_path, "a", "b", "c") as cluster:
        leader = await cluster.agree()
        name = next(name for name in "abc" if name != leader)
        founder, url = cluster.node(name).member_id, str(cluster.urls[name])
        await cluster.stop(name)
        (tmp_path / name).rename(tmp_path / "lost")
        await cluster.change(leader, ChangeKind.REMOVE, founder)
        id_ = member_id([url], "etcd-cluster", 1_700_000_000)
        row = MemberRow(ID=id_, peerURLs=[url])
        await cluster.change(leader, ChangeKind.ADD_VOTER, id_, row)
        as_founder = cluster.configs[name]
        cluster.configs[name] = cluster.config(name, ["a", "b", "c"], existing=True)
        await cluster.start(name)
        await until(cluster.is_even)
        await cluster.stop(name)
        with pytest.raises(DataDirMismatch, match=r"--initial-cluster-state=existing"):
            await Member(as_founder).start()
        await cluster.start(name)
        assert cluster.node(name).member_id == id_
        await until(cluster.is_even)


@on_loop
async def test_a_leader_that_removes_itself_lets_another_one_lead(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, "a", "b", "c") as cluster:
        leader = await cluster.agree()
        id_ = cluster.node(leader).member_id
        await cluster.change(leader, ChangeKind.REMOVE, id_)
        assert isinstance(await cluster.members[leader].failed(), Removed)
        await cluster.stop(leader)
        await cluster.agree()
        other = next(iter(cluster.members))
        await put(cluster.node(other), b"k")
        assert len(cluster.node(other).machine.members) == 2


@on_loop
@pytest.mark.parametrize("leads", [False, True])
async def test_who_asks_a_removed_member_is_refused_at_once_and_not_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leads: bool
) -> None:
    monkeypatch.setattr(Removal, "told", lambda removal, now_ms: False)
    async with cluster_of(tmp_path, "a", "b", "c") as cluster:
        leader = await cluster.agree()
        other = next(name for name in "abc" if name != leader)
        name, asked = (leader, other) if leads else (other, leader)
        node = cluster.node(name)
        waiting = []

        def write() -> Caller:
            waiting.append(Caller())
            body = PutRequest(key=b"k", value=b"v").SerializeToString()
            node.propose(CommandKind.PUT, body, waiting[-1])
            return waiting[-1]

        removal = asyncio.create_task(cluster.change(asked, ChangeKind.REMOVE, node.member_id))
        await until(lambda: isinstance(write().error, Stopped))
        await removal
        await until(lambda: all(caller.answered for caller in waiting))
        for level in (LINEARIZABLE, SERIALIZABLE, LOCAL):
            reader = Caller()
            node.read(level, 0, None, reader)
            assert isinstance(reader.error, Stopped)
        renewal = Caller()
        node.renew([7], renewal)
        assert isinstance(renewal.error, Stopped)
        await put(cluster.node(asked), b"the others go on")
        # A leader gives way before it is removed: then the others may have applied that, and turn
        # it away, before it hears that it is committed. It never applies it, and ends by `Removal`.
        if node.removed.is_set():
            port = cluster.configs[name].network.listen_client_urls[0].port
            await until(lambda: is_refused(port))
        assert not node.failed.done(), "it may still be needed"


def is_refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


@on_loop
async def test_who_nobody_has_added_is_told_to_be_added_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chainfire.server.joining.JOIN_SECONDS_MAX", 0.5)
    async with cluster_of(tmp_path, "a") as cluster:
        cluster.urls["b"] = _url()
        cluster.configs["b"] = cluster.config("b", ["a", "b"], existing=True)
        with pytest.raises(ConfigError, match="member add"):
            await Member(cluster.configs["b"]).start()


async def _end_of(member: Member) -> None:
    await member.start()
    raise await member.failed()


@on_loop
async def test_a_wiped_member_is_not_let_back_under_its_old_id(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, "a", "b", "c") as cluster:
        leader = await cluster.agree()
        wiped = next(name for name in "abc" if name != leader)
        await cluster.stop(wiped)
        (tmp_path / wiped).rename(tmp_path / "lost")
        member = Member(cluster.configs[wiped])
        try:
            with pytest.raises(Damaged, match="must not vote under this id again"):
                await _end_of(member)
        finally:
            await member.aclose()
        await put(cluster.node(leader), b"two are enough")
        (tmp_path / wiped).rename(tmp_path / "wrong")
        (tmp_path / "lost").rename(tmp_path / wiped)
        await cluster.start(wiped)
        await until(cluster.is_even)


@on_loop
async def test_forced_to_be_alone_a_member_leads_with_what_it_has(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, "a", "b", "c") as cluster:
        await put(cluster.node("a"), b"k")
        await until(cluster.is_even)
        for name in "abc":
            await cluster.stop(name)
        base = cluster.configs["a"]
        forced = dataclasses.replace(base.cluster, force_new_cluster=True)
        cluster.configs["a"] = dataclasses.replace(base, cluster=forced)
        await cluster.start("a")
        assert await cluster.read("a", b"k") is not None
        node = cluster.node("a")
        assert node._driver.raft.raft.role is Role.LEADER
        assert list(node.machine.members) == [node.member_id]
        await put(node, b"more")
        await cluster.stop("a")
        cluster.configs["a"] = base
        await cluster.start("a")
        assert await cluster.read("a", b"more") is not None
