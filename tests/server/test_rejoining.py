"""A member whose disk has lost data puts it aside and takes everything from the others."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from chainfire.command import CommandKind
from chainfire.errors import (
    Corrupt,
    Damaged,
    DataDirMismatch,
    Diverged,
    OlderCopy,
    UnknownFormat,
)
from chainfire.machine.rows import read_members
from chainfire.node.identity import member_id
from chainfire.node.registry import Registry
from chainfire.proto.cluster_pb2 import Member as MemberRow
from chainfire.proto.kv_pb2 import Compare, PutRequest, RequestOp, TxnRequest
from chainfire.raft.changes import ChangeKind
from chainfire.server import rejoining
from chainfire.server.member import Member, opening_settings
from chainfire.server.opening import open_member
from chainfire.storage.backend import STATE_FAMILIES
from chainfire.storage.datadir import DataDir
from chainfire.storage.rocks import RocksBackend, RocksOptions
from chainfire.storage.witness import Witness
from tests import report
from tests.crash import damage
from tests.crash.damage import FILES, live_state
from tests.node.running import on_servers_loop
from tests.node.world import Caller
from tests.server.directories import put
from tests.server.test_clusters import Cluster, _url, cluster_of, until
from tests.server.test_opening import Crash, CrashPoint


def lose(name: str) -> Callable[[Path], None]:
    return lambda data: damage.delete(FILES[name](data))


def flip_tables(data: Path) -> None:
    for path in live_state(data).glob("*.sst"):
        damage.flip_near_end(path)


def cut_log(data: Path) -> None:
    damage.flip_record(0.5)(FILES["log"](data))


def flip_log(data: Path) -> None:
    damage.flip_header(FILES["log"](data))


# Each leaves the log or the witness, which tell whose directory it was.
LOSSES: dict[str, Callable[[Path], None]] = {
    "log": lose("log directory"),
    "log file": lose("log"),
    "log header": flip_log,
    "log record": cut_log,
    "witness": lose("witness"),
    "both slots of the witness": lambda data: damage.flip_slots(2)(data / "witness"),
    "CURRENT": lose("CURRENT"),
    "state": lose("state directory"),
    "state CURRENT": lose("state CURRENT"),
    "footers of state tables": flip_tables,
}


def test_a_loss_is_made_good_from_the_other_members(tmp_path: Path) -> None:
    asyncio.run(made_good(tmp_path, ["log record", "state"]))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_loss_that_a_witness_or_a_log_survives_is_made_good(tmp_path: Path) -> None:
    asyncio.run(made_good(tmp_path, list(LOSSES)))


async def made_good(root: Path, losses: Sequence[str]) -> None:
    async with cluster_of(root, "a", "b", "c") as cluster:
        for number, name in enumerate(losses, 1):
            await put(cluster.node("a"), b"before " + name.encode())
            await until(cluster.is_even)
            await kill(cluster, "c")
            await put(cluster.node("a"), b"without " + name.encode())
            LOSSES[name](root / "c")
            await cluster.start("c")
            aside = root / "c" / f"damaged-{number:06d}"
            assert aside.is_dir(), name
            await until(lambda: not registry_of(cluster, "c").has_lost_data)
            await until(cluster.is_even)
            assert cluster.node("c").store.get_row(0, b"without " + name.encode())
            report.count("losses made good from the other members", 1)
        # And it counts again: one of the others may go.
        await cluster.stop("a")
        await cluster.agree()
        await put(cluster.node("c"), b"two are enough")
        await cluster.stop("c")
        await cluster.start("a", "c")  # an ordinary start
        await until(cluster.is_even)


@on_servers_loop
async def test_a_member_whose_disk_is_lost_asks_who_the_others_are_by_now(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, "a", "b", "c") as cluster:
        await put(cluster.node("a"), b"k")
        await until(cluster.is_even)
        await kill(cluster, "c")
        LOSSES["state"](tmp_path / "c")
        LOSSES["log"](tmp_path / "c")  # it knows a, b and c, by its command line
        cluster.urls["d"] = _url()
        url = str(cluster.urls["d"])
        d = member_id([url], "etcd-cluster", 1_700_000_000)
        row = MemberRow(ID=d, peerURLs=[url])
        await cluster.change("a", ChangeKind.ADD_LEARNER, d, row)
        cluster.configs["d"] = cluster.config("d", ["a", "b", "d"], existing=True)
        await cluster.start("d")
        await cluster.change("a", ChangeKind.ADD_VOTER, d)
        b = cluster.node("b").member_id
        await cluster.change("a", ChangeKind.REMOVE, b)
        await cluster.members["b"].failed()
        await cluster.stop("b")
        await cluster.agree()
        await cluster.start("c")
        known = cluster.node("c").machine.members
        assert d in known and b not in known
        await until(lambda: not registry_of(cluster, "c").has_lost_data)
        await until(cluster.is_even)


async def kill(cluster: Cluster, name: str) -> None:
    """It stops, and its directory is what a kill -9 would have left: nobody hears of it after."""
    data, image = cluster.root / name, cluster.root / "image"
    await cluster.node(name).peering.aclose()
    shutil.copytree(data, image)
    await cluster.stop(name)
    shutil.rmtree(data)
    image.rename(data)


async def end_of(member: Member) -> None:
    """Live as a process does, until it must stop: raises what made it."""
    try:
        await member.start()
        error = await member.failed()
        member.begin_anew(error)
        raise error
    finally:
        await member.aclose()


def registry_of(cluster: Cluster, name: str) -> Registry:
    return cluster.node(name).peering._registry


@on_servers_loop
async def test_an_older_copy_of_a_directory_is_made_good_from_the_other_members(
    tmp_path: Path,
) -> None:
    async with cluster_of(tmp_path, "a", "b", "c") as cluster:
        await put(cluster.node("a"), b"k")
        await until(cluster.is_even)
        await cluster.stop("c")
        shutil.copytree(tmp_path / "c", tmp_path / "copy")
        for _ in range(2):
            await cluster.start("c")
            await until(cluster.is_even)
            await cluster.stop("c")
        await put(cluster.node("a"), b"later")
        shutil.rmtree(tmp_path / "c")
        (tmp_path / "copy").rename(tmp_path / "c")
        older = Member(cluster.configs["c"])
        with pytest.raises(OlderCopy):
            await end_of(older)
        assert older.starts_anew
        await cluster.start("c")
        assert (tmp_path / "c" / "damaged-000001").is_dir()
        await until(lambda: not registry_of(cluster, "c").has_lost_data)
        await until(cluster.is_even)
        await cluster.stop("a")
        await cluster.agree()
        await put(cluster.node("c"), b"its vote counts")


@on_servers_loop
async def test_a_copy_made_in_the_life_before_is_found_by_those_that_it_had_answered(
    tmp_path: Path,
) -> None:
    """Its start number is the next one, as after a crash. Who speaks first differs: the leader, who
    was promised entries (tests/raft/test_log.py), or whoever heard what it had applied."""
    async with cluster_of(tmp_path, "a", "b", "c") as cluster:
        await lead(cluster, "a")
        await put(cluster.node("a"), b"k")
        await until(cluster.is_even)
        shutil.copytree(tmp_path / "c", tmp_path / "copy")
        await put(cluster.node("a"), b"later")
        await until(cluster.is_even)
        await cluster.stop("c")
        shutil.rmtree(tmp_path / "c")
        (tmp_path / "copy").rename(tmp_path / "c")
        older = Member(cluster.configs["c"])
        with pytest.raises(OlderCopy, match=r"was acknowledged here|and had applied entry"):
            await end_of(older)
        assert older.starts_anew
        await cluster.start("c")
        await until(lambda: not registry_of(cluster, "c").has_lost_data)
        await until(cluster.is_even)


@on_servers_loop
async def test_a_copy_made_in_the_life_before_is_found_by_what_a_follower_has_heard(
    tmp_path: Path,
) -> None:
    """The leader that it had answered is gone: the other one knows, as long as it runs."""
    async with cluster_of(tmp_path, "a", "b", "c") as cluster:
        await lead(cluster, "a")
        await put(cluster.node("a"), b"k")
        await until(cluster.is_even)
        shutil.copytree(tmp_path / "c", tmp_path / "copy")
        await put(cluster.node("a"), b"later")
        await until(cluster.is_even)
        c, b = cluster.node("c"), cluster.node("b")
        applied = c.machine.applied_index
        await until(lambda: b.peering.applied(c.member_id) >= applied)
        await kill(cluster, "a")
        await kill(cluster, "c")
        shutil.rmtree(tmp_path / "c")
        (tmp_path / "copy").rename(tmp_path / "c")
        older = Member(cluster.configs["c"])
        with pytest.raises(OlderCopy, match="and had applied entry"):
            await end_of(older)
        assert older.starts_anew
        again = asyncio.create_task(cluster.start("c"))
        await cluster.start("a")
        await again
        await until(lambda: not registry_of(cluster, "c").has_lost_data)
        await until(cluster.is_even)
        await cluster.stop("c")
        await cluster.start("c")
        await until(cluster.is_even)


@on_servers_loop
async def test_who_runs_beside_a_newer_copy_of_its_directory_is_refused(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, "a", "b", "c") as cluster:
        await put(cluster.node("a"), b"k")
        await until(cluster.is_even)
        await cluster.stop("c")
        shutil.copytree(tmp_path / "c", tmp_path / "copy")
        await cluster.start("c")
        await until(cluster.is_even)
        base, network = cluster.configs["c"], cluster.configs["c"].network
        elsewhere = dataclasses.replace(
            network, listen_peer_urls=(_url(),), listen_client_urls=(_url(),)
        )
        directory = dataclasses.replace(base.member, data_dir=str(tmp_path / "copy"))
        second = Member(dataclasses.replace(base, member=directory, network=elsewhere))
        with pytest.raises(Damaged, match="two processes"):
            await end_of(second)
        assert not second.starts_anew and not (tmp_path / "copy" / "rejoin").exists()
        await put(cluster.node("c"), b"untouched")


# ── refused ─────────────────────────────────────────────────────────────────


@on_servers_loop
async def test_what_cannot_be_made_good_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, "a", "b", "c") as cluster:
        await put(cluster.node("a"), b"k")
        await until(cluster.is_even)
        await kill(cluster, "c")
        data = tmp_path / "c"
        base = cluster.configs["c"]
        cut_log(data)
        before = contents(data)
        off = dataclasses.replace(base.cluster, auto_heal=False)
        with pytest.raises(Damaged):
            open_member(opening_settings(dataclasses.replace(base, cluster=off)))
        other = dataclasses.replace(base.cluster, initial_cluster_token="another")
        with pytest.raises(DataDirMismatch):
            open_member(opening_settings(dataclasses.replace(base, cluster=other)))
        (data / "witness").rename(tmp_path / "witness")
        shutil.rmtree(data / "log")
        with pytest.raises(Damaged, match="witness"):  # whose it was, nobody knows
            open_member(opening_settings(base))
        assert not list(data.glob("damaged-*")) and not (data / "rejoin").exists()
        assert contents(data).items() <= before.items()


def contents(data: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(data)): path.read_bytes()
        for path in data.rglob("*")
        if path.is_file() and path.suffix in ("", ".sst", ".log", ".wal") and "LO" not in path.name
    }


@on_servers_loop
async def test_one_of_two_members_is_refused_because_the_other_is_no_quorum(
    tmp_path: Path,
) -> None:
    async with cluster_of(tmp_path, "a", "b") as cluster:
        await put(cluster.node("a"), b"k")
        await until(cluster.is_even)
        await kill(cluster, "b")
        cut_log(tmp_path / "b")
        with pytest.raises(Damaged, match="--force-new-cluster"):
            open_member(opening_settings(cluster.configs["b"]))


@on_servers_loop
async def test_where_a_majority_has_lost_data_its_members_say_so_and_stop(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, "a", "b", "c") as cluster:
        await put(cluster.node("a"), b"k")
        await until(cluster.is_even)
        for name in "bc":
            await kill(cluster, name)
            cut_log(tmp_path / name)
        damaged = [Member(cluster.configs[name]) for name in "bc"]
        ends = await asyncio.gather(*(member.start() for member in damaged), return_exceptions=True)
        for end in ends:
            assert isinstance(end, Damaged) and "no quorum is left" in str(end), end
        force = dataclasses.replace(cluster.configs["b"].cluster, force_new_cluster=True)
        forced = dataclasses.replace(cluster.configs["b"], cluster=force)
        with pytest.raises(Damaged, match="put aside in damaged"):
            open_member(opening_settings(forced))


# ── crashes ─────────────────────────────────────────────────────────────────

STEPS: dict[str, Callable[[CrashPoint], None]] = {
    "not begun": lambda p: p.before(DataDir, "write_rejoin"),
    "rejoin written": lambda p: p.after(DataDir, "write_rejoin"),
    "half aside": lambda p: p.before(Path, "rename", lambda path, *_: path.name == "witness"),
    "aside": lambda p: p.after(DataDir, "put_aside"),
    "state made": lambda p: p.before(DataDir, "switch"),
    "state switched to": lambda p: p.after(DataDir, "switch"),
    "log made": lambda p: p.after(rejoining, "_make_log"),
    "witness made": lambda p: p.after(Witness, "create"),
    "rejoin removed": lambda p: p.after(DataDir, "remove_rejoin"),
}


def test_a_start_that_dies_while_it_puts_the_old_aside_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = asyncio.run(_made(tmp_path))
    original = tmp_path / "c"
    cut_log(original)
    settings = opening_settings(config)
    for number, (name, step) in enumerate(STEPS.items()):
        data, image = tmp_path / f"data{number}", tmp_path / f"image{number}"
        shutil.copytree(original, data)
        with monkeypatch.context() as patch:
            step(CrashPoint(data, image, patch))
            with pytest.raises(Crash):
                open_member(dataclasses.replace(settings, data_dir=data))
        opened = open_member(dataclasses.replace(settings, data_dir=image))
        registry = Registry(opened.log_backend, opened.machine)
        assert registry.has_lost_data and not registry.was_admitted, name
        assert opened.machine.applied_index == 0 and opened.start_number > 1
        opened.close()
        aside = image / "damaged-000001"
        assert {"CURRENT", "log", "state-000001", "witness"} <= set(names(aside)), name
        assert not (image / "rejoin").exists() and "damaged-000002" not in names(image)
        options = RocksOptions.state(1 << 20)
        path = aside / "state-000001"
        with closing(RocksBackend.open_read_only(path, STATE_FAMILIES, options)) as state:
            assert len(read_members(state)) == 3
        report.count("crashes while starting", 1)


def names(path: Path) -> list[str]:
    return [child.name for child in path.iterdir()]


async def _made(root: Path) -> object:
    async with cluster_of(root, "a", "b", "c") as cluster:
        await put(cluster.node("a"), b"k")
        await until(cluster.is_even)
        await kill(cluster, "c")
        return cluster.configs["c"]


def test_the_file_rejoin_is_refused_if_it_cannot_be_read() -> None:
    with pytest.raises(Corrupt, match="rejoin"):
        rejoining.decode(b"{}")
    with pytest.raises(UnknownFormat, match="format 2"):
        rejoining.decode(b'{"format": 2}')


# ── divergence ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize("leads", [False, True])
def test_a_state_that_is_not_the_majoritys_is_replaced(tmp_path: Path, leads: bool) -> None:
    async def scene() -> None:
        async with cluster_of(tmp_path, "a", "b", "c") as cluster:
            await put(cluster.node("a"), b"k", b"right")
            await until(cluster.is_even)
            await cluster.stop("c")
            damage.falsify(tmp_path / "c", b"k", b"right", b"wrong")
            await cluster.start("c")
            await cluster.agree()
            if leads:
                await lead(cluster, "c")
            member, node = cluster.members["c"], cluster.node("c")
            compare_and_put(cluster.node("a"), b"k", b"right")
            error = await asyncio.wait_for(member.failed(), 20)
            assert isinstance(error, Diverged)
            member.begin_anew(error)
            assert member.starts_anew
            await cluster.stop("c")
            await cluster.start("c")
            assert cluster.node("c") is not node
            await until(cluster.is_even)
            await until(lambda: not cluster.node("a").machine.alarms)
            await until(lambda: not registry_of(cluster, "c").has_lost_data)
            await put(cluster.node("c"), b"later")
            await until(cluster.is_even)

    asyncio.run(scene())


async def lead(cluster: Cluster, name: str) -> None:
    leader = await cluster.agree()
    if leader != name:
        moved = Caller()
        cluster.node(leader).move_leader(cluster.node(name).member_id, moved)
        await until(lambda: moved.answered and cluster.leader == name)


def compare_and_put(node: object, key: bytes, value: bytes) -> None:
    """Its answer depends on what is stored."""
    request = TxnRequest(
        compare=[Compare(key=key, target=Compare.VALUE, value=value)],
        success=[RequestOp(request_put=PutRequest(key=b"equal", value=b"yes"))],
    )
    node.propose(CommandKind.TXN, request.SerializeToString(), Caller())  # type: ignore[attr-defined]
