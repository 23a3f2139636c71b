"""The witness: what this member has promised, outside of RocksDB (docs/formats.md).

Two slots, written alternately, so that a torn write leaves the other one; the
higher sequence with a right CRC counts. `note` costs a few µs and is called
after every log sync, before the acknowledgement: it survives the process, not
yet the machine. `fsync` (each second) makes it survive the machine.

    note      after a log sync
    begin     when the start number is counted up       durable on return
    lower     before anything shortens the log          durable on return
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from chainfire.errors import Corrupt, SyncFailed, UnknownFormat

MAGIC = b"CFW1"
SLOT_BYTES = 4096
# magic, CRC-32 of the rest │ sequence, cluster, member, incarnation, start number │
# last index, last term, current term, vote
_SLOT = struct.Struct(">4sI9Q")
_CRC = struct.Struct(">I")
_U64 = struct.Struct(">Q")
_PROGRESS = struct.Struct(">4Q")
_CRC_AT, _SEQUENCE_AT, _START_NUMBER_AT, _PROGRESS_AT = 4, 8, 40, 48


@dataclass(slots=True, frozen=True, kw_only=True)
class Promise:
    """What must be found on the next start. The log may hold more, never less."""

    cluster_id: int
    member_id: int
    incarnation: int  # random, per data directory
    start_number: int
    last_index: int
    last_term: int
    term: int
    vote: int  # 0 = nobody


class Witness:
    """The open file. A failed write or fsync raises SyncFailed, and the member must stop."""

    def __init__(self, path: Path, fd: int, sequence: int, promise: Promise) -> None:
        self._path = path
        self._fd = fd
        self._sequence = sequence
        self._slot = bytearray(
            _SLOT.pack(
                MAGIC,
                0,
                sequence,
                promise.cluster_id,
                promise.member_id,
                promise.incarnation,
                promise.start_number,
                promise.last_index,
                promise.last_term,
                promise.term,
                promise.vote,
            )
        )
        self._checked = memoryview(self._slot)[_SEQUENCE_AT:]

    @classmethod
    def create(cls, path: Path, promise: Promise) -> Witness:
        """A new file, whole and durable when it appears under its name."""
        made = path.with_suffix(".tmp")
        fd = os.open(made, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.posix_fallocate(fd, 0, 2 * SLOT_BYTES)  # a later note needs no room
        witness = cls(path, fd, 0, promise)
        witness._write()
        witness._write()
        witness.fsync()
        made.rename(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        return witness

    @classmethod
    def open(cls, path: Path) -> Witness:
        """Raises FileNotFoundError, UnknownFormat, or Corrupt when neither slot is whole."""
        fd = os.open(path, os.O_RDWR)
        try:
            slots = [_read(path, os.pread(fd, _SLOT.size, at)) for at in (0, SLOT_BYTES)]
            found = [slot for slot in slots if slot is not None]
            if not found:
                raise Corrupt(f"{path}: neither slot is whole, what was promised is not known")
        except BaseException:
            os.close(fd)
            raise
        sequence, promise = max(found, key=lambda slot: slot[0])
        return cls(path, fd, sequence, promise)

    @property
    def promise(self) -> Promise:
        return _unpack(self._slot)

    def note(self, last_index: int, last_term: int, term: int, vote: int) -> None:
        """Promise what the log now holds durably."""
        _PROGRESS.pack_into(self._slot, _PROGRESS_AT, last_index, last_term, term, vote)
        self._write()

    def begin(self, start_number: int) -> None:
        """Promise that every start number up to this one is used."""
        assert start_number > self.promise.start_number, (start_number, self.promise)
        _U64.pack_into(self._slot, _START_NUMBER_AT, start_number)
        self._write()
        self.fsync()

    def lower(self, last_index: int, last_term: int) -> None:
        """Promise no more than what will remain of the log. Never promises more than before."""
        promise = self.promise
        if promise.last_index <= last_index:
            return
        self.note(last_index, last_term, promise.term, promise.vote)
        self.fsync()

    def fsync(self) -> None:
        try:
            os.fdatasync(self._fd)
        except OSError as exc:
            raise SyncFailed(f"{self._path}: {exc.strerror}") from exc

    def close(self) -> None:
        """Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(self) -> None:
        self._sequence += 1
        _U64.pack_into(self._slot, _SEQUENCE_AT, self._sequence)
        _CRC.pack_into(self._slot, _CRC_AT, zlib.crc32(self._checked))
        try:
            os.pwrite(self._fd, self._slot, SLOT_BYTES if self._sequence & 1 else 0)
        except OSError as exc:
            raise SyncFailed(f"{self._path}: {exc.strerror}") from exc


def _read(path: Path, slot: bytes) -> tuple[int, Promise] | None:
    """Sequence and promise; None for a slot that is torn or was never written."""
    if slot[:3] == MAGIC[:3] and slot[:4] != MAGIC:
        raise UnknownFormat(f"{path} has format {slot[:4]!r}, this version knows {MAGIC!r}")
    if len(slot) != _SLOT.size or slot[:4] != MAGIC:
        return None
    if _CRC.unpack_from(slot, _CRC_AT)[0] != zlib.crc32(slot[_SEQUENCE_AT:]):
        return None
    return _U64.unpack_from(slot, _SEQUENCE_AT)[0], _unpack(slot)


def _unpack(slot: bytes | bytearray) -> Promise:
    _, _, _, cluster_id, member_id, incarnation, start_number, *progress = _SLOT.unpack(slot)
    last_index, last_term, term, vote = progress
    return Promise(
        cluster_id=cluster_id,
        member_id=member_id,
        incarnation=incarnation,
        start_number=start_number,
        last_index=last_index,
        last_term=last_term,
        term=term,
        vote=vote,
    )
