"""One snapshot from a peer, into `receiving/`, until it is a staged state directory.

The steps, each of which may be the last of this process:

    files written, one after the other        resumed: what is there is offered as Have
    all files and the directory synced
    opened read-only: where does it stand?    a directory that cannot be opened is removed
    renamed to a state directory              removed at start, as CURRENT does not name it
    handed over                               the shell switches, truncates, acknowledges

The live state directory is not touched by any of them.
"""

from __future__ import annotations

import asyncio
import errno
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Protocol

from xxhash import xxh3_64

from chainfire.errors import FatalError
from chainfire.machine.rows import Position
from chainfire.node import transfer
from chainfire.node.frames import BadFrame, framed
from chainfire.node.link import Link, Reader
from chainfire.node.sending import Progress, on_thread
from chainfire.node.transfer import CHUNK_BYTES, Chunk, File, FileEnd, Offer, Outcome, Part
from chainfire.raft.messages import Message, Snapshot
from chainfire.types import ConfState

IDLE_SECONDS_MAX = 60.0  # the sender may wait for its pace, its disk, its own link
FAREWELL_SECONDS = 5.0
# Left free beside the files: the live state flushes and the log grows meanwhile.
RESERVE_BYTES = 128 << 20


class Refused(Exception):
    """The transfer ends here; the text goes to the sender."""


class ReceivingPlace(Protocol):
    receiving_path: Path

    def free_bytes(self) -> int: ...

    def stage_received(self) -> Path: ...


# Where a state directory stands, read without changing it; raises a FatalError.
Look = Callable[[Path], tuple[Position, ConfState]]


async def receive(
    link: Link,
    reader: Reader,
    place: ReceivingPlace,
    look: Look,
    progress: Progress,
    on_progress: Callable[[], None],
) -> tuple[Message, Path]:
    """The SNAPSHOT as the files have it, and the staged directory; the sender still waits.

    Raises Refused, ConnectionError, TimeoutError, BadFrame. What has come stays for the next try.
    """
    offer = transfer.decode_offer(await reader.next(IDLE_SECONDS_MAX))
    files = _Files(place, offer)
    try:
        parts = await on_thread(files.look)
        progress.bytes_total = offer.total_bytes
        progress.bytes_done = sum(part.size for part in parts)
        link.write(framed(transfer.encode_have(parts)))
        while not files.complete:
            content = transfer.decode_content(await reader.next(IDLE_SECONDS_MAX))
            await on_thread(files.take, content)
            if isinstance(content, Chunk):
                progress.bytes_done += len(content.data)
            on_progress()
        return await on_thread(_stage, place, look, offer)
    except OSError as exc:
        if exc.errno == errno.ENOSPC:
            shutil.rmtree(place.receiving_path, ignore_errors=True)
        if isinstance(exc, (ConnectionError, TimeoutError)):
            raise
        raise Refused(f"cannot write the files: {exc.strerror or exc}") from exc
    finally:
        files.close()


def answer(link: Link, outcome: Outcome) -> None:
    """Say how it ended. The sender closes: if we did, with bytes unread, it might not hear it."""
    link.consume = _too_late
    link.resume()
    link.write(framed(transfer.encode_outcome(outcome)))
    asyncio.get_running_loop().call_later(FAREWELL_SECONDS, link.close)


def _too_late(_: list[bytes]) -> None:
    """What was on its way when it ended."""


def _stage(place: ReceivingPlace, look: Look, offer: Offer) -> tuple[Message, Path]:
    try:
        position, conf_state = look(place.receiving_path)
    except FatalError as exc:
        shutil.rmtree(place.receiving_path, ignore_errors=True)
        raise Refused(f"what has arrived cannot be opened: {exc}") from exc
    offered = offer.message.snapshot
    assert offered is not None
    if position.index < offered.index:
        raise Refused(f"it stands at index {position.index}, offered was {offered.index}")
    snapshot = Snapshot(position.index, position.term, conf_state, offered.data)
    return replace(offer.message, snapshot=snapshot), place.stage_received()


class _Files:
    """The files of one offer on our disk. Blocks; used by one thread at a time."""

    def __init__(self, place: ReceivingPlace, offer: Offer) -> None:
        self._place = place
        self._files = offer.files
        self._path = place.receiving_path
        self._number = 0  # of the file that is due
        self._offset = 0
        self._hash = xxh3_64()
        self._open: BinaryIO | None = None
        self._parts: dict[int, xxh3_64] = {}

    @property
    def complete(self) -> bool:
        return self._number == len(self._files)

    def look(self) -> list[Part]:
        """What is there of the offered files; everything else goes. Raises Refused for no room."""
        self._path.mkdir(mode=0o700, exist_ok=True)
        numbers = {file.name: number for number, file in enumerate(self._files)}
        parts = []
        for path in sorted(self._path.iterdir()):
            number = numbers.get(path.name)
            size = path.stat().st_size
            if number is None or size == 0 or size > self._files[number].size:
                path.unlink()
                continue
            self._parts[number] = hash_ = _hash_of(path)
            parts.append(Part(number, size, hash_.intdigest()))
        wanted = sum(file.size for file in self._files) - sum(part.size for part in parts)
        if self._place.free_bytes() < wanted + RESERVE_BYTES:
            shutil.rmtree(self._path, ignore_errors=True)
            raise Refused(f"no room: {wanted} bytes wanted and {RESERVE_BYTES} to spare")
        return parts

    def take(self, content: Chunk | FileEnd) -> None:
        """Raises BadFrame for what does not follow on."""
        if content.number != self._number:
            raise BadFrame(f"a piece of file {content.number}, due is file {self._number}")
        file = self._files[self._number]
        if self._open is None:
            self._begin(file, content)
        assert self._open is not None
        if isinstance(content, Chunk):
            if content.offset != self._offset:
                raise BadFrame(f"{file.name}: offset {content.offset}, due is {self._offset}")
            self._open.write(content.data)
            self._hash.update(content.data)
            self._offset += len(content.data)
            return
        self._end(file, content)

    def _begin(self, file: File, content: Chunk | FileEnd) -> None:
        offset = content.offset if isinstance(content, Chunk) else content.size
        known = self._parts.pop(self._number, None) if offset else None
        path = self._path / file.name
        self._open = path.open("r+b" if known is not None else "wb")
        size = self._open.seek(0, 2)
        self._hash, self._offset = known or xxh3_64(), size

    def _end(self, file: File, end: FileEnd) -> None:
        self.close()
        right = (file.size, file.size, self._hash.intdigest())
        if (end.size, self._offset, end.hash) != right:
            (self._path / file.name).unlink()
            raise Refused(f"{file.name} has arrived with a wrong size or checksum")
        self._number += 1

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


def _hash_of(path: Path) -> xxh3_64:
    hash_ = xxh3_64()
    with path.open("rb") as file:
        while data := file.read(4 * CHUNK_BYTES):
            hash_.update(data)
    return hash_
