"""Faults of a process's disk (shim.c), as switches of a mapped file."""

from __future__ import annotations

import errno
import mmap
import shutil
import struct
import subprocess
import tempfile
from functools import cache
from pathlib import Path

_SLOTS = 4
_SYNC_ERRNO, _SYNC_DELAY, _WRITE_ERRNO, _DONE = range(_SLOTS)
_VALUE = struct.Struct("q")


@cache
def library() -> Path | None:
    """The shim, built once; None where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    made = Path(tempfile.mkdtemp(prefix="chainfire-shim-")) / "shim.so"
    source = Path(__file__).with_name("shim.c")
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(made), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return made


class Switches:
    """Of one member. All faults are off at first, and after `heal_disk`."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(_VALUE.size * _SLOTS))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _VALUE.size * _SLOTS)
        self.env = {"LD_PRELOAD": str(library()), "FAULT_SWITCHES": str(path)}

    def _set(self, slot: int, value: int) -> None:
        _VALUE.pack_into(self._map, slot * _VALUE.size, value)

    @property
    def done(self) -> int:
        """How often a fault of the disk has struck."""
        value: int = _VALUE.unpack_from(self._map, _DONE * _VALUE.size)[0]
        return value

    def fail_syncs(self) -> None:
        self._set(_SYNC_ERRNO, errno.EIO)

    def slow_syncs(self, seconds: float) -> None:
        self._set(_SYNC_DELAY, round(seconds * 1e6))

    def fill_disk(self) -> None:
        self._set(_WRITE_ERRNO, errno.ENOSPC)

    def heal_disk(self) -> None:
        for slot in (_SYNC_ERRNO, _SYNC_DELAY, _WRITE_ERRNO):
            self._set(slot, 0)
