"""The files of a log: of one length and written before they are used, so that a sync finds nothing
of the file system's own to write; used again when what they hold is needed no more. One grows
for a larger record, or while the next one is still being made.

A file's name says nothing: which part of the log it holds, its header says (`walformat.py`), and
one whose part is not of the log, or that has no header, is free.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from chainfire.errors import DiskFull, SyncFailed
from chainfire.storage.walformat import (
    HEADER_BYTES,
    Header,
    decode_header,
    encode_header,
    encode_record,
)

SUFFIX: Final = ".wal"
_BLOCK: Final = bytes(1 << 18)
_NOT_OPEN: Final = -1


class WalFile:
    """Open for reading and writing. What it holds from `end` on does not count."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Raises OSError."""
        flags = os.O_RDONLY if read_only else os.O_RDWR
        self.path = path
        self.fd = os.open(path, flags | os.O_CLOEXEC)
        # A failed write is told to each descriptor once: who only starts one has its own.
        self._starts_fd = _NOT_OPEN
        self.size = os.fstat(self.fd).st_size
        self.header: Header | None = None  # None: it is free
        self.end = HEADER_BYTES
        self.crc = 0  # of the last record, or of the header
        self.live = 0  # rows that are still to be read here
        self.freed_at = 0  # the write that is durable before it may be used again

    def read_header(self) -> None:
        """Raises OSError; Corrupt; UnknownFormat."""
        self._take(decode_header(os.pread(self.fd, HEADER_BYTES, 0)))

    def begin(self, header: Header, first: bytes) -> None:
        """It is the next part of the log, and this its first payload; durable with the next sync.

        Raises OSError: it is free as before. So the header comes last.
        """
        data = encode_header(header)
        seed = decode_header(data)
        assert seed is not None
        start, crc = encode_record(seed.crc, first, b"")
        for parts, offset in (((start, first), HEADER_BYTES), ((data,), 0)):
            written = os.pwritev(self.fd, parts, offset)
            self.size = max(self.size, offset + written)
            if written != sum(map(len, parts)):
                raise OSError(errno.ENOSPC, "it was written in part")
        self._take(seed)
        self.end, self.crc = HEADER_BYTES + len(start) + len(first), crc

    def clear(self) -> None:
        """It is free, durably. Raises OSError."""
        os.pwrite(self.fd, bytes(HEADER_BYTES), 0)
        os.fdatasync(self.fd)
        self._take(None)

    def cut(self, size: int) -> None:
        """To this length, what it has grown beyond it. Raises OSError."""
        if self.size > size:
            os.ftruncate(self.fd, size)
            self.size = size

    def rewind(self) -> None:
        """To before its first record."""
        self.end = HEADER_BYTES
        self.crc = 0 if self.header is None else self.header.crc
        self.live = 0

    def _take(self, header: Header | None) -> None:
        self.header = header
        self.rewind()

    @property
    def number(self) -> int:
        """0: it is free."""
        return 0 if self.header is None else self.header.number

    @property
    def starts_fd(self) -> int:
        if self._starts_fd == _NOT_OPEN:
            self._starts_fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        return self._starts_fd

    def close(self) -> None:
        """Idempotent."""
        for fd in (self.fd, self._starts_fd):
            if fd != _NOT_OPEN:
                os.close(fd)
        self.fd = self._starts_fd = _NOT_OPEN


def paths(directory: Path) -> list[Path]:
    return sorted(directory.glob("*" + SUFFIX))


def make(directory: Path, size: int) -> Path:
    """A free file of this length, written and durable. Raises DiskFull, SyncFailed."""
    taken = {path.stem for path in paths(directory)}
    number = 1
    while f"{number:06d}" in taken:
        number += 1
    path = directory / f"{number:06d}{SUFFIX}"
    made = directory / f"{path.name}.tmp"  # of no use before it is whole
    try:
        fd = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            left = size
            while left:
                left -= os.write(fd, _BLOCK[:left])
                os.fsync(fd)  # bit by bit: the log's own syncs wait behind each of these
        finally:
            os.close(fd)
        made.rename(path)
        sync_directory(directory)
    except OSError as exc:
        with suppress(OSError):
            made.unlink(missing_ok=True)
        raise error_of(path, exc) from exc
    return path


def sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def error_of(path: Path, exc: OSError) -> DiskFull | SyncFailed:
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"{path}: {exc.strerror}")
    return SyncFailed(f"{path}: {exc.strerror}")
