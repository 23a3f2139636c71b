"""The newest WAL file of a database, which the disk may begin to write before a sync waits for it.

A sync is a write of the file's dirty pages and, behind it, a flush of the disk's cache. The write
can be begun as soon as the engine has handed its record to the kernel, and what the thread does
until it syncs costs no time then. Needs the native wheel; without it nothing is begun.

The engine does not say which file that is: the one with the highest number, looked up again after
every LOOK_BYTES. An old one, for so long, has nothing to be written, and begins nothing.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from chainfire.wheel import FAULT

if FAULT is None:
    from chainfire_native import start_writing
else:

    def start_writing(fd: int) -> None:
        pass


LOOK_BYTES: Final = 64 << 10
_NOT_OPEN: Final = -1


def newest_wal(directory: Path) -> Path | None:
    """The one with the highest number; None: there is none. Raises OSError."""
    return max(directory.glob("*.log"), key=_number, default=None)


def _number(file: Path) -> int:
    return int(file.stem) if file.stem.isdecimal() else -1


class NewestWal:
    """Opens it by itself: a failed write is told to each descriptor once, and the engine's is the
    one that must hear."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._name = ""
        self._fd = _NOT_OPEN
        self._looks_at_bytes = 0

    def start_writing(self, write_bytes: int) -> None:
        """`write_bytes`: how much has been written by now."""
        if write_bytes >= self._looks_at_bytes:
            self._looks_at_bytes = write_bytes + LOOK_BYTES
            with suppress(OSError):  # it was just renamed, or there is no descriptor left
                self._look()
        if self._fd != _NOT_OPEN:
            start_writing(self._fd)

    def _look(self) -> None:
        newest = newest_wal(self._directory)
        if newest is not None and newest.name != self._name:
            self.close()
            self._fd = os.open(newest, os.O_RDONLY)
            self._name = newest.name

    def close(self) -> None:
        """Idempotent."""
        if self._fd != _NOT_OPEN:
            os.close(self._fd)
            self._fd, self._name = _NOT_OPEN, ""
