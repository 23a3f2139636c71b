"""The backends behind one face: how to open them, and how to open a checkpoint of them."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chainfire.storage.backend import Backend, LogBackend, StorageBackend
from chainfire.storage.memory import MemoryBackend
from chainfire.storage.rocks import RocksBackend, RocksOptions
from chainfire.storage.rocks_options import MIB
from chainfire.storage.wal import Wal

FAMILIES = ("a", "b")


WAL_FILE_BYTES = 8 << 10  # so that a test comes to the second one soon


@dataclass(frozen=True)
class Kind:
    open: Callable[[Path], StorageBackend]
    open_checkpoint: Callable[[Path], StorageBackend]


def _open_rocks(path: Path) -> RocksBackend:
    return RocksBackend(path, FAMILIES, RocksOptions.state(cache_bytes=MIB))


def _open_memory(path: Path) -> MemoryBackend:
    return MemoryBackend(FAMILIES)


def open_wal(path: Path) -> Wal:
    """The rows of "a" stay in its files."""
    return Wal(path, FAMILIES, file_bytes=WAL_FILE_BYTES)


def _open_wal_of_facts(path: Path) -> Wal:
    """The rows of "a" are in memory."""
    return Wal(path, FAMILIES[::-1], file_bytes=WAL_FILE_BYTES)


KINDS = {
    "memory": Kind(
        open=_open_memory,
        open_checkpoint=lambda path: MemoryBackend.open(path, FAMILIES),
    ),
    "rocks": Kind(open=_open_rocks, open_checkpoint=_open_rocks),
}
LOGS: dict[str, Callable[[Path], LogBackend]] = {
    "memory": _open_memory,
    "wal": open_wal,
    "wal of facts": _open_wal_of_facts,
}
BACKENDS: dict[str, Callable[[Path], Backend]] = {**LOGS, "rocks": _open_rocks}


def put(backend: Backend, *rows: tuple[bytes, bytes], family: str = "a") -> None:
    batch = backend.batch()
    for key, value in rows:
        batch.put(family, key, value)
    backend.write(batch)


def run_python(code: str, *args: str, **environment: str) -> str:
    """What a process of its own prints; it must end with status 0."""
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *args],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
