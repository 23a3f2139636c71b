"""A disk whose power goes: of every file, each sector is as of its last sync, or as it is now, and
so is its length."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

SECTOR_BYTES = 512


class Disk:
    """What the files of a directory hold durably. No real sync happens."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.removed: dict[str, bytes] = {}  # a removal that nothing has made durable
        self._durable: dict[int, bytes] = {}  # by inode: a file is synced before it has its name
        self.sync_count = 0
        unlink = Path.unlink

        def note_removal(path: Path, missing_ok: bool = False) -> None:
            if path.parent == self.directory and path.exists():
                self.removed[path.name] = self._durable_of(path)
            unlink(path, missing_ok)

        patch.setattr(os, "fdatasync", self.sync)
        patch.setattr(os, "fsync", self.sync)
        patch.setattr(Path, "unlink", note_removal)

    def sync(self, fd: int) -> None:
        self.sync_count += 1
        path = Path(f"/proc/self/fd/{fd}").readlink()
        if path.is_file():
            self._durable[path.stat().st_ino] = path.read_bytes()

    def crash(self, random: Random, into: Path) -> None:
        """Go on in another directory with what a crash leaves, which is all durable."""
        into.mkdir()
        left = {
            path.name: _mixed(random, self._durable_of(path), path.read_bytes())
            for path in sorted(self.directory.glob("*.wal"))
        }
        for name, data in self.removed.items():
            if name not in left and random.random() < 0.5:
                left[name] = data
        self.directory, self.removed, self._durable = into, {}, {}
        for name, data in left.items():
            path = into / name
            path.write_bytes(data)
            self._durable[path.stat().st_ino] = data

    def _durable_of(self, path: Path) -> bytes:
        return self._durable.get(path.stat().st_ino, b"")


def _mixed(random: Random, durable: bytes, now: bytes) -> bytes:
    """With all chances between hardly any new sector and nearly all of them; of either length."""
    chance, size = random.random(), random.choice((len(durable), len(now)))
    durable, now = durable.ljust(size, b"\0"), now.ljust(size, b"\0")
    return b"".join(
        (now if random.random() < chance else durable)[at : at + SECTOR_BYTES]
        for at in range(0, size, SECTOR_BYTES)
    )[:size]
