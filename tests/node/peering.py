"""Transports on loopback, with handlers that write down what they hear."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from chainfire.errors import Corrupt
from chainfire.node.frames import Frame
from chainfire.node.handshake import Denial, Hello, Met
from chainfire.node.records import RecordCache
from chainfire.node.roster import Roster
from chainfire.node.snapshots import SnapshotPlace, Snapshots
from chainfire.node.transport import Transport
from chainfire.proto.cluster_pb2 import Member
from chainfire.raft.messages import Message
from chainfire.server.states import look
from chainfire.server.verifying import ensure_sound
from chainfire.storage.backend import STATE_FAMILIES, StorageBackend
from chainfire.storage.memory import MemoryBackend
from chainfire.types import ConfState
from tests.node.running import until
from tests.servers import free_port


class Ears:
    """A PeerHandler that remembers."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, Frame]] = []
        self.reads: list[int] = []  # frames per call of `received`
        self.hellos: list[tuple[int, Hello, bool]] = []
        self.denials: list[tuple[int, Denial]] = []
        self.unreachables: list[int] = []
        self.gones: list[int] = []
        self.snapshots: list[tuple[Message, Path]] = []
        self.damages: list[Corrupt] = []
        self.sent: list[tuple[int, bool]] = []
        self.applied_index = 0  # that any peer is known to have applied
        self.hears_leader = True

    def received(self, sender: int, frames: Sequence[Frame]) -> None:
        self.reads.append(len(frames))
        self.frames += [(sender, frame) for frame in frames]

    def connected(self, peer: int, hello: Hello, *, welcomed: bool) -> None:
        self.hellos.append((peer, hello, welcomed))

    def denied(self, peer: int, denial: Denial) -> None:
        self.denials.append((peer, denial))

    def applied(self, peer: int) -> int:
        return self.applied_index

    def unreachable(self, peer: int) -> None:
        self.unreachables.append(peer)

    def gone(self, peer: int) -> None:
        self.gones.append(peer)

    def snapshot_received(self, message: Message, path: Path) -> None:
        self.snapshots.append((message, path))

    def damaged(self, error: Corrupt) -> None:
        self.damages.append(error)

    def snapshot_sent(self, peer: int, arrived: bool) -> None:
        self.sent.append((peer, arrived))


class Registry:
    """A PeerRegistry in memory."""

    def __init__(self) -> None:
        self.known: dict[int, Met] = {}
        self.removed: set[int] = set()
        self.stored = 0

    def met(self, member_id: int) -> Met | None:
        return self.known.get(member_id)

    async def meet(self, member_id: int, met: Met) -> None:
        await asyncio.sleep(0)
        self.known[member_id] = met
        self.stored += 1

    def was_removed(self, member_id: int) -> bool:
        return member_id in self.removed

    def roster(self, cluster_id: int) -> Roster:
        return Roster(cluster_id, 1, ConfState((1,)), (Member(ID=1, peerURLs=["http://one"]),))


class NoPlace:
    """For members that neither send nor receive a snapshot."""

    receiving_path = Path("/nonexistent")

    def next_checkpoint_path(self) -> Path:
        raise AssertionError

    stage_received = next_checkpoint_path

    def free_bytes(self) -> int:
        return 1 << 40


class Station:
    """One member's transport. It may be ended and begun again, as a process is."""

    def __init__(self, id: int, port: int, **options: Any) -> None:
        self.place: SnapshotPlace = NoPlace()
        self.backend: StorageBackend = MemoryBackend(STATE_FAMILIES)
        self.bytes_per_second = 0
        self.id = id
        self.port = port
        self.scheme = "http"
        self.options = options
        self.registry = Registry()
        self.ears = Ears()
        self.hello = Hello(
            cluster_id=7,
            sender=id,
            to=0,
            incarnation=10 * id,
            start_number=0,
            life=0,
            lost_data=False,
            log_end=0,
            version="1",
        )
        self.transport: Transport

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    async def begin(self) -> None:
        number = self.hello.start_number + 1
        self.hello = replace(self.hello, start_number=number, life=1000 * number)
        self.ears = Ears()
        snapshots = Snapshots(
            self.place,
            self.backend,
            look,
            ensure_sound,
            bytes_per_second=self.bytes_per_second,
        )
        self.transport = Transport(
            self.hello,
            self.ears,
            self.registry,
            RecordCache(),
            snapshots=snapshots,
            **self.options,
        )
        await self.transport.listen([self.url])

    async def end(self) -> None:
        await self.transport.aclose()

    def sees(self, *others: Station, through: int = 0) -> None:
        self.transport.set_peers(
            {o.id: [f"{o.scheme}://127.0.0.1:{through or o.port}"] for o in others}
        )

    def is_up(self, *others: Station) -> bool:
        up = {peer.peer for peer in self.transport.statistics().peers if peer.is_up}
        return up == {other.id for other in others}


@asynccontextmanager
async def stations(count: int = 2, **options: Any) -> AsyncIterator[list[Station]]:
    """That many, begun, and not yet knowing each other."""
    made = [Station(id, free_port(), **options) for id in range(1, count + 1)]
    for station in made:
        await station.begin()
    try:
        yield made
    finally:
        for station in made:
            await station.end()


@asynccontextmanager
async def connected(count: int = 2, **options: Any) -> AsyncIterator[list[Station]]:
    async with stations(count, **options) as made:
        for station in made:
            station.sees(*(other for other in made if other is not station))
        for station in made:
            await until(lambda: station.is_up(*(o for o in made if o is not station)))  # noqa: B023
        yield made
