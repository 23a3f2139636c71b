"""One snapshot to one peer: checkpoint, offer, files at a limited pace, outcome.

Reading, hashing and the checkpoint itself run on threads; the loop only passes
chunks on. What the receiver has from an earlier try is not sent again when its
checksum agrees with ours: files of the same name may be another member's.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar

from xxhash import xxh3_64

from chainfire.node import transfer
from chainfire.node.frames import framed
from chainfire.node.link import Link, Reader
from chainfire.node.transfer import CHUNK_BYTES, Chunk, File, FileEnd, Offer, Part
from chainfire.raft.messages import Message
from chainfire.storage.backend import StorageBackend

P = ParamSpec("P")
T = TypeVar("T")

ANSWER_SECONDS_MAX = 60.0  # the receiver hashes what it has, and syncs what has come
STALL_SECONDS_MAX = 30.0  # without a byte leaving
# What makes up the database; its own LOG, LOCK and the binding's settings are left out.
_SUFFIXES = frozenset({".sst", ".log", ".blob"})
_NAMES = ("CURRENT", "MANIFEST-", "OPTIONS-")


Verify = Callable[[Path], Awaitable[None]]  # reads every row of a checkpoint; raises Corrupt


class NotTaken(Exception):
    """The receiver says that the snapshot has not arrived, and why."""


class CheckpointPlace(Protocol):
    def next_checkpoint_path(self) -> Path: ...


@dataclass(slots=True)
class Progress:
    """Of a transfer in either direction; whoever shows it reads it."""

    peer: int
    bytes_total: int = 0
    bytes_done: int = 0  # what was there already included


class Pace:
    """At most so many bytes per second; 0 = as fast as it goes."""

    def __init__(self, bytes_per_second: int) -> None:
        self._rate = bytes_per_second
        self._loop = asyncio.get_running_loop()
        self._free_at = self._loop.time()

    async def spend(self, count: int) -> None:
        """Returns when that many more may leave."""
        if not self._rate:
            return
        now = self._loop.time()
        self._free_at = max(now, self._free_at) + count / self._rate
        if self._free_at > now + count / self._rate:
            await asyncio.sleep(self._free_at - now - count / self._rate)


async def on_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """To its end, whoever cancels meanwhile: it may use a backend that is closed next."""
    done = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        await asyncio.wait([done])
        raise


def checkpoint_files(path: Path) -> list[File]:
    """The files of a checkpoint, CURRENT last: before it there is no database."""
    files = [
        File(file.name, file.stat().st_size)
        for file in sorted(path.iterdir())
        if file.suffix in _SUFFIXES or file.name.startswith(_NAMES)
    ]
    return sorted(files, key=lambda file: file.name == "CURRENT")


class Checkpoint:
    """A copy of `state/` by hard links; removed at the end of the block."""

    def __init__(self, place: CheckpointPlace, backend: StorageBackend) -> None:
        self._place = place
        self._backend = backend
        self.path = Path()
        self.files: Sequence[File] = ()

    async def __aenter__(self) -> Checkpoint:
        self.path = self._place.next_checkpoint_path()
        try:
            await on_thread(self._backend.checkpoint, self.path)
            self.files = await on_thread(checkpoint_files, self.path)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await on_thread(lambda: shutil.rmtree(self.path, ignore_errors=True))


async def send(
    link: Link,
    message: Message,
    checkpoint: Checkpoint,
    pace: Pace,
    progress: Progress,
    on_progress: Callable[[], None],
) -> None:
    """Returns when the receiver has everything, durably.

    Raises NotTaken, ConnectionError, TimeoutError, BadFrame, or OSError of our own disk.
    """
    reader = Reader(link)
    offer = Offer(message, checkpoint.files)
    progress.bytes_total = offer.total_bytes
    link.write(framed(transfer.encode_offer(offer)))
    body = await reader.next(ANSWER_SECONDS_MAX)
    if body[0] == transfer.OUTCOME:
        raise NotTaken(transfer.decode_outcome(body).text)
    parts = {part.number: part for part in transfer.decode_have(body)}
    for number, file in enumerate(offer.files):
        with closing(_content(checkpoint.path / file.name, number, parts.get(number))) as content:
            while (piece := await on_thread(next, content, None)) is not None:
                if isinstance(piece, Chunk):
                    progress.bytes_done += len(piece.data)
                    await pace.spend(len(piece.data))
                    link.write(framed(transfer.encode_chunk(piece)))
                elif isinstance(piece, FileEnd):
                    link.write(framed(transfer.encode_file_end(piece)))
                else:
                    progress.bytes_done += piece
                async with asyncio.timeout(STALL_SECONDS_MAX):
                    await link.drain()
                on_progress()
                if reader.has_news:  # it has refused something
                    raise NotTaken(transfer.decode_outcome(await reader.next(0)).text)
    outcome = transfer.decode_outcome(await reader.next(ANSWER_SECONDS_MAX))
    if not outcome.arrived:
        raise NotTaken(outcome.text)


def _content(
    path: Path, number: int, part: Part | None
) -> Generator[Chunk | FileEnd | int, None, None]:
    """What is to be sent of one file; an int: so many bytes are there already. Blocks."""
    with path.open("rb") as file:
        hash_, offset = xxh3_64(), 0
        if part is not None:
            while offset < part.size and (data := file.read(min(CHUNK_BYTES, part.size - offset))):
                hash_.update(data)
                offset += len(data)
            if offset == part.size and hash_.intdigest() == part.hash:
                yield offset
            else:
                file.seek(0)
                hash_, offset = xxh3_64(), 0
        while data := file.read(CHUNK_BYTES):
            yield Chunk(number, offset, data)
            hash_.update(data)
            offset += len(data)
        yield FileEnd(number, offset, hash_.intdigest())
