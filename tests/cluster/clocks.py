"""Clocks of members that a test bends: a library, preloaded, that a C compiler makes of clock.c.

The monotonic clock runs at a rate that is fixed for a process's life, as a bad crystal would have
it; the wall clock steps whenever the test wants.
"""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

_CONTROL = struct.Struct("=dqQQ")  # rate, wall offset in ns, readings: as in clock.c
_WALL_AT, _READINGS_AT = 8, 16
_NS = 1_000_000_000


def build(directory: Path) -> Path:
    """The library; the test is skipped where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: clocks cannot be bent")
    library = directory / "clock.so"
    source = Path(__file__).with_name("clock.c")
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


class Clock:
    """Of one process, over all its lives: `env` is what it is started with."""

    def __init__(self, library: Path, directory: Path, name: str, rate: float = 1.0) -> None:
        path = directory / f"{name}.clock"
        path.write_bytes(_CONTROL.pack(rate, 0, 0, 0))
        with path.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), _CONTROL.size)
        self.rate = rate
        self.env = {"LD_PRELOAD": str(library), "TEST_CLOCK": str(path)}

    def step_wall(self, seconds: float) -> None:
        """From now on the wall clock is so far off the true time."""
        struct.pack_into("=q", self._page, _WALL_AT, int(seconds * _NS))

    @property
    def readings(self) -> tuple[int, int]:
        """How often the process has read its monotonic and its wall clock."""
        monotonic, wall = struct.unpack_from("=QQ", self._page, _READINGS_AT)
        return monotonic, wall
