"""A snapshot from one member to another: real state directories, and every step as the last one."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from chainfire.machine import rows
from chainfire.machine.rows import Position
from chainfire.node import dialer, receiving, sending
from chainfire.raft.messages import Message, MessageType, Snapshot
from chainfire.server import verifying
from chainfire.server.states import look
from chainfire.storage.backend import STATE_FAMILIES
from chainfire.storage.datadir import DataDir
from chainfire.storage.rocks import RocksBackend, RocksOptions
from chainfire.types import ConfState
from tests.crash import damage
from tests.node.peering import Station, stations
from tests.node.running import on_servers_loop, until
from tests.proxy import Proxy

CONF = ConfState((1, 2))
OPTIONS = RocksOptions.state(8 << 20)


class Disk(DataDir):
    """A data directory with room, whatever the machine has, and a live state in it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, ballast_bytes=0)
        self.room = 1 << 40
        state = self.current()
        if state is None:
            state = self.next_state_path()
            with closing(RocksBackend(state, STATE_FAMILIES, OPTIONS)) as backend:
                write(backend, 1, {})
            self.switch(state)
        self.remove_leftovers()
        self.state = RocksBackend(state, STATE_FAMILIES, OPTIONS)

    def free_bytes(self) -> int:
        return self.room

    def close(self) -> None:
        self.state.close()
        super().close()


def write(backend: RocksBackend, index: int, pairs: dict[bytes, bytes]) -> None:
    """One atom: rows, and the index that they stand for."""
    batch = backend.batch()
    for key, value in pairs.items():
        batch.put("key_value", key, value)
    batch.put("machine", rows.APPLIED, rows.encode_position(Position(index, 3, index, 0, 0)))
    batch.put("machine", rows.CONF_STATE, rows.encode_conf_state(CONF))
    backend.write(batch)


def read(path: Path) -> dict[bytes, bytes]:
    with closing(RocksBackend.open_read_only(path, STATE_FAMILIES, OPTIONS)) as backend:
        return dict(backend.iterate("key_value"))


def fill(backend: RocksBackend, count: int = 2000) -> dict[bytes, bytes]:
    """Files of several kinds: flushed, and only in the WAL."""
    pairs = {b"key%06d" % i: bytes([i % 251]) * 500 for i in range(count)}
    write(backend, 50, pairs)
    backend.compact()
    pairs[b"late"] = b"only in the WAL so far"
    write(backend, 60, {b"late": pairs[b"late"]})
    return pairs


def snapshot_message(index: int = 40) -> Message:
    return Message(MessageType.SNAPSHOT, to=2, sender=1, term=5, snapshot=Snapshot(index, 3, CONF))


@asynccontextmanager
async def pair(tmp_path: Path, rate: int = 0) -> AsyncIterator[tuple[Station, Station]]:
    """Two members with real disks; the first leads and has the data."""
    async with stations() as made:
        for station in made:
            await station.end()
            station.place = disk = Disk(tmp_path / str(station.id))
            station.backend = disk.state
            station.bytes_per_second = rate
            await station.begin()
        one, two = made
        one.sees(two)
        two.sees(one)
        await until(lambda: one.is_up(two) and two.is_up(one))
        try:
            yield one, two
        finally:
            for station in made:
                await station.end()
                assert isinstance(station.place, Disk)
                station.place.close()


def disk_of(station: Station) -> Disk:
    assert isinstance(station.place, Disk)
    return station.place


@on_servers_loop
async def test_a_snapshot_arrives_whole_with_the_position_of_its_files(tmp_path: Path) -> None:
    async with pair(tmp_path) as (one, two):
        pairs = fill(disk_of(one).state)
        one.transport.send_snapshot(2, snapshot_message(index=40))
        await until(lambda: one.ears.sent == [(2, True)])
        ((message, path),) = two.ears.snapshots
        assert message.snapshot == Snapshot(60, 3, CONF)  # not 40: it is newer than the offer
        assert message.term == 5
        assert path.name == "state-000002"
        assert read(path) == pairs
        assert disk_of(two).current() == disk_of(two).path / "state-000001"
        assert not disk_of(two).receiving_path.exists()
        assert not list(disk_of(one).path.glob("checkpoint-*"))
        statistics = one.transport.statistics().snapshots
        (sent,) = statistics.sent
        assert (sent.peer, sent.failures, sum(sent.arrived.counts)) == (2, 0, 1)
        assert statistics.sending == ()


@on_servers_loop
async def test_a_checkpoint_splits_no_atom_while_writes_go_on(tmp_path: Path) -> None:
    async with pair(tmp_path) as (one, two):
        state = disk_of(one).state
        fill(state, 200)
        one.transport.send_snapshot(2, snapshot_message())
        index = 60
        while not one.ears.sent:
            index += 1
            write(state, index, {b"a": b"%d" % index, b"z": b"%d" % index})
            await asyncio.sleep(0)
        ((message, path),) = two.ears.snapshots
        assert message.snapshot is not None
        found = read(path)
        assert found.get(b"a") == found.get(b"z")
        if message.snapshot.index > 60:
            assert found[b"a"] == b"%d" % message.snapshot.index


@on_servers_loop
async def test_what_has_arrived_is_not_sent_again(tmp_path: Path) -> None:
    async with pair(tmp_path, rate=2 << 20) as (one, two):
        pairs = fill(disk_of(one).state, 20_000)
        one.transport.send_snapshot(2, snapshot_message())

        def half_is_there() -> bool:
            there = two.transport.statistics().snapshots.receiving
            return there is not None and 0 < there.bytes_total < 3 * there.bytes_done

        await until(half_is_there)
        await two.end()
        await until(lambda: one.ears.sent == [(2, False)])
        left = sum(path.stat().st_size for path in disk_of(two).receiving_path.iterdir())
        assert left
        await two.begin()
        two.sees(one)
        await until(lambda: one.is_up(two))
        one.transport.send_snapshot(2, snapshot_message())
        await until(lambda: bool(one.transport.statistics().snapshots.sending))
        (progress,) = one.transport.statistics().snapshots.sending
        await until(lambda: one.transport.statistics().snapshots.sending[0].bytes_done >= left)
        await until(lambda: len(one.ears.sent) == 2)
        assert one.ears.sent[1] == (2, True)
        assert read(two.ears.snapshots[0][1]) == pairs
        assert progress.peer == 2


@on_servers_loop
async def test_another_members_files_of_the_same_name_are_replaced(tmp_path: Path) -> None:
    async with pair(tmp_path) as (one, two):
        pairs = fill(disk_of(one).state)
        there = disk_of(two).receiving_path
        there.mkdir()
        for file in disk_of(one).path.glob("state-000001/*.sst"):
            (there / file.name).write_bytes(b"from somebody else")
        (there / "000001.sst").write_bytes(b"nobody offers this")
        one.transport.send_snapshot(2, snapshot_message())
        await until(lambda: one.ears.sent == [(2, True)])
        assert read(two.ears.snapshots[0][1]) == pairs
        assert not (two.ears.snapshots[0][1] / "000001.sst").exists()


@on_servers_loop
async def test_a_file_that_changes_on_its_way_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pair(tmp_path) as (one, two):
        fill(disk_of(one).state)
        taken = receiving._Files.take

        def flip(self: receiving._Files, content: object) -> None:
            if isinstance(content, receiving.Chunk) and len(content.data) > 1000:
                content = receiving.Chunk(
                    content.number, content.offset, b"\xff" + content.data[1:]
                )
            taken(self, content)  # type: ignore[arg-type]

        monkeypatch.setattr(receiving._Files, "take", flip)
        one.transport.send_snapshot(2, snapshot_message())
        await until(lambda: one.ears.sent == [(2, False)])
        assert two.ears.snapshots == []
        monkeypatch.undo()
        one.transport.send_snapshot(2, snapshot_message())
        await until(lambda: one.ears.sent[1:] == [(2, True)])


@on_servers_loop
async def test_no_room_is_said_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async with pair(tmp_path) as (one, two):
        fill(disk_of(one).state)
        disk_of(two).room = receiving.RESERVE_BYTES
        one.transport.send_snapshot(2, snapshot_message())
        await until(lambda: one.ears.sent == [(2, False)])
        assert not disk_of(two).receiving_path.exists()


@on_servers_loop
async def test_a_snapshot_older_than_offered_is_not_taken(tmp_path: Path) -> None:
    async with pair(tmp_path) as (one, two):
        one.transport.send_snapshot(2, snapshot_message(index=4000))
        await until(lambda: one.ears.sent == [(2, False)])
        assert two.ears.snapshots == []


@on_servers_loop
async def test_each_send_has_one_outcome(tmp_path: Path) -> None:
    async with pair(tmp_path) as (one, two):
        fill(disk_of(one).state)
        one.transport.send_snapshot(2, snapshot_message())
        one.transport.send_snapshot(2, snapshot_message())  # while the first is under way
        one.transport.send_snapshot(9, snapshot_message())  # to nobody
        await until(lambda: len(one.ears.sent) == 3)
        assert sorted(one.ears.sent) == [(2, False), (2, True), (9, False)]
        await two.end()
        one.transport.send_snapshot(2, snapshot_message())
        await until(lambda: len(one.ears.sent) == 4)
        assert one.ears.sent[3] == (2, False)


@on_servers_loop
async def test_heartbeats_go_on_while_a_snapshot_is_sent(tmp_path: Path) -> None:
    async with pair(tmp_path, rate=1 << 20) as (one, two):
        fill(disk_of(one).state, 4000)
        one.transport.send_snapshot(2, snapshot_message())
        await until(lambda: bool(one.transport.statistics().snapshots.sending))
        for number in range(20):
            heartbeat = Message(MessageType.HEARTBEAT, 2, 1, term=1, commit=number)
            one.transport.send(2, [heartbeat])
            await until(lambda: len(two.ears.frames) > number)  # noqa: B023
        assert one.transport.statistics().snapshots.sending
        await until(lambda: one.ears.sent == [(2, True)])


@on_servers_loop
async def test_what_is_damaged_here_is_not_sent_and_stops_this_member(tmp_path: Path) -> None:
    async with pair(tmp_path) as (one, two):
        fill(disk_of(one).state)
        damage.flip_middle(damage.largest(disk_of(one).path / "state-000001", "*.sst"))
        one.transport.send_snapshot(2, snapshot_message())
        await until(lambda: one.ears.sent == [(2, False)])
        (error,) = one.ears.damages
        assert "checksum mismatch" in error.detail
        assert two.ears.snapshots == [] and not disk_of(two).receiving_path.exists()
        assert not list(disk_of(one).path.glob("checkpoint-*"))


@on_servers_loop
async def test_where_no_process_can_verify_it_the_snapshot_is_sent_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with pair(tmp_path) as (one, two):
        pairs = fill(disk_of(one).state)
        for number, broken in enumerate(("/nonexistent", "/bin/false"), 1):
            monkeypatch.setattr(sys, "executable", broken)
            one.transport.send_snapshot(2, snapshot_message())
            await until(lambda: len(one.ears.sent) == number)  # noqa: B023
        assert one.ears.sent == [(2, True), (2, True)]
        assert read(two.ears.snapshots[0][1]) == pairs
        assert caplog.text.count("cannot verify a checkpoint") == 2


@on_servers_loop
async def test_a_member_that_stops_does_not_wait_for_what_verifies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pair(tmp_path) as (one, _):
        fill(disk_of(one).state)
        monkeypatch.setattr(verifying, "_CODE", "import time; time.sleep(1000)")
        one.transport.send_snapshot(2, snapshot_message())
        await until(lambda: bool(list(disk_of(one).path.glob("checkpoint-*"))))
    assert not list(disk_of(one).path.glob("checkpoint-*"))


@on_servers_loop
async def test_a_send_that_hangs_ends_and_the_next_one_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialer, "HANDSHAKE_SECONDS_MAX", 0.3)
    async with pair(tmp_path) as (one, two):
        fill(disk_of(one).state, 4000)
        proxy = await Proxy(two.port).start()
        one.sees(two, through=proxy.port)
        await proxy.stall()
        one.transport.send_snapshot(2, snapshot_message())
        await until(lambda: one.ears.sent == [(2, False)])  # the handshake hangs
        await proxy.heal()
        await until(lambda: one.is_up(two))
        one.transport.send_snapshot(2, snapshot_message())
        await until(lambda: one.ears.sent[1:] == [(2, True)])
        await proxy.aclose()


# ── each step as the last one ───────────────────────────────────────────────


class Crash(BaseException):
    """The process ends here."""


STEPS = ["first chunk", "last file", "opened", "renamed"]


@pytest.mark.parametrize("step", STEPS)
def test_a_crash_at_any_step_leaves_a_member_that_starts(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Done to the receiving half itself, which is the half that writes."""
    sender = Disk(tmp_path / "sender")
    pairs = fill(sender.state)
    checkpoint = sender.next_checkpoint_path()
    sender.state.checkpoint(checkpoint)
    receiver = Disk(tmp_path / "receiver")
    write(receiver.state, 7, {b"old": b"still served"})
    receiver.state.sync()

    with pytest.raises(Crash):
        carry(checkpoint, receiver, step)

    receiver.close()
    again = Disk(tmp_path / "receiver")
    assert again.current() == again.path / "state-000001"
    assert again.state.get("key_value", b"old") == b"still served"
    assert [path.name for path in again.path.glob("state-*")] == ["state-000001"]

    message, path = carry(checkpoint, again, "")
    again.state.close()
    again.switch(path)
    assert message.snapshot == Snapshot(60, 3, CONF)
    assert read(path) == pairs
    again.remove_leftovers()
    assert [path.name for path in again.path.glob("state-*")] == [path.name]
    super(Disk, again).close()
    sender.close()


def carry(checkpoint: Path, receiver: Disk, crash_at: str) -> tuple[Message, Path]:
    """All files from a checkpoint into a receiver, without a connection; ends at `crash_at`."""
    offer = receiving.Offer(snapshot_message(), sending.checkpoint_files(checkpoint))
    files = receiving._Files(receiver, offer)
    parts = {part.number: part for part in files.look()}
    for number, file in enumerate(offer.files):
        for piece in sending._content(checkpoint / file.name, number, parts.get(number)):
            if isinstance(piece, int):
                continue
            files.take(piece)
            if crash_at == "first chunk":
                files.close()
                raise Crash
    if crash_at == "last file":
        raise Crash

    def looking(path: Path) -> tuple[Position, ConfState]:
        found = look(path)
        if crash_at == "opened":
            raise Crash
        return found

    staged = receiving._stage(receiver, looking, offer)
    if crash_at == "renamed":
        raise Crash
    return staged


def test_left_over_checkpoints_are_removed_at_start(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "disk")
    disk.state.checkpoint(disk.next_checkpoint_path())
    assert disk.next_checkpoint_path().name == "checkpoint-000002"
    disk.close()
    again = Disk(tmp_path / "disk")
    assert not list(again.path.glob("checkpoint-*"))
    again.close()
    shutil.rmtree(tmp_path / "disk")
