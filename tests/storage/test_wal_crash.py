"""What a log holds after its power went, or after its files were damaged."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from chainfire.errors import Corrupt, DiskFull, UnknownFormat
from chainfire.storage import walfiles
from chainfire.storage.wal import Wal
from tests.storage.crashes import SECTOR_BYTES, Disk
from tests.storage.scripts import FAMILIES, Script, rows_of

FILE_BYTES = 4096
BATCHES = 60


def _open(path: Path) -> Wal:
    return Wal(path, FAMILIES, file_bytes=FILE_BYTES)


def _script(seed: int) -> Script:
    """Every third has batches that are larger than a file."""
    return Script(seed, BATCHES, value_bytes_max=3 * FILE_BYTES if seed % 3 == 2 else 400)


def _sync(wal: Wal, random: Random) -> None:
    """In one of the two ways."""
    descriptor = wal.sync_descriptor() if random.random() < 0.5 else None
    if descriptor is None:
        wal.sync()
    else:
        os.fdatasync(descriptor)
        wal.synced_outside(0, 0.0)


def _live(script: Script, wal: Wal, at: int, random: Random) -> tuple[int, int]:
    """How many batches are written in the end, and how many are synced."""
    synced = at
    for number in range(at, min(at + random.randrange(1, 30), BATCHES)):
        script.write(wal, number)
        at = number + 1
        if random.random() < 0.25:
            _sync(wal, random)
            synced = at
    return at, synced


def _found(script: Script, wal: Wal, written: int, synced: int) -> int:
    """Of how many batches the rows are there; must be one of those that a crash may leave."""
    rows = rows_of(wal)
    for count in range(written, synced - 1, -1):
        if script.rows[count] == rows:
            return count
    others = [count for count, each in enumerate(script.rows) if each == rows]
    raise AssertionError(f"{synced} were synced, {written} written; found those of {others}")


@pytest.mark.parametrize("seeds", [range(at, at + 50) for at in range(0, 200, 50)], ids=str)
def test_a_crash_leaves_a_prefix_of_the_batches_with_all_that_were_synced(
    seeds: range, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # After each crash the same batches are written once more: what was torn must not go on with
    # them. A close is a crash of the process alone: what it wrote stays with the kernel.
    disk = Disk(tmp_path, monkeypatch)
    for seed in seeds:
        random, script = Random(seed), _script(seed)
        disk.directory = tmp_path / f"{seed}-0"
        at = synced = 0
        for life in range(6):
            wal = _open(disk.directory)
            at = synced = _found(script, wal, at, synced)
            at, synced = _live(script, wal, at, random)
            wal.close()
            if random.random() < 0.3:
                continue
            disk.crash(random, tmp_path / f"{seed}-{life + 1}")
            if Wal.exists(disk.directory):
                looked_at = Wal.open_read_only(disk.directory, FAMILIES)
                _found(script, looked_at, at, synced)
                looked_at.close()


def test_a_crash_amid_full_disks_leaves_a_prefix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(tmp_path, monkeypatch)
    make, write = walfiles.make, os.pwritev
    random = Random(0)
    is_full = False

    def make_or_not(directory: Path, size: int) -> Path:
        if is_full and random.random() < 0.7:
            raise DiskFull(f"{directory}: no space left")
        return make(directory, size)

    def write_in_part(fd: int, buffers: tuple[bytes, ...], offset: int) -> int:
        if is_full and random.random() < 0.2:
            data = b"".join(buffers)
            return os.pwrite(fd, data[: random.randrange(len(data))], offset)
        return write(fd, buffers, offset)

    monkeypatch.setattr(walfiles, "make", make_or_not)
    monkeypatch.setattr(os, "pwritev", write_in_part)
    refused = 0
    for seed in range(60):
        script = _script(seed)
        disk.directory = tmp_path / f"{seed}-0"
        at = synced = 0
        for life in range(4):
            is_full = False
            wal = _open(disk.directory)
            at = synced = _found(script, wal, at, synced)
            is_full = True
            for _ in range(40):
                if at == BATCHES:
                    break
                try:
                    script.write(wal, at)
                    at += 1
                except DiskFull:
                    refused += 1
                    assert rows_of(wal) == script.rows[at]
                if random.random() < 0.25:
                    _sync(wal, random)
                    synced = at
            wal.close()
            disk.crash(random, tmp_path / f"{seed}-{life + 1}")
    assert refused > 100


def test_damage_anywhere_leaves_a_prefix_or_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = Random(1)
    told = cut = whole = 0
    for seed in range(20):
        disk = Disk(tmp_path / f"{seed}", monkeypatch)
        script = _script(seed)
        wal = _open(disk.directory)
        for number in range(BATCHES):
            script.write(wal, number)
            wal.sync()
        wal.close()
        for file in sorted(disk.directory.glob("*.wal")):
            data = file.read_bytes()
            for damaged in _damages(data, random):
                file.write_bytes(damaged)
                try:
                    wal = Wal.open_read_only(disk.directory, FAMILIES)
                except (Corrupt, UnknownFormat):
                    told += 1
                    continue
                rows = rows_of(wal)
                wal.close()
                assert rows in script.rows
                cut += rows != script.rows[-1]
                whole += rows == script.rows[-1]
            file.write_bytes(data)
    assert min(told, cut, whole) > 20, (told, cut, whole)


def _damages(data: bytes, random: Random) -> Iterator[bytes]:
    for at in (0, random.randrange(SECTOR_BYTES, len(data), SECTOR_BYTES)):
        yield data[:at] + bytes(SECTOR_BYTES) + data[at + SECTOR_BYTES :]
    for byte in (random.randrange(64), *(random.randrange(len(data)) for _ in range(5))):
        flipped = bytearray(data)
        flipped[byte] ^= 1 << random.randrange(8)
        yield bytes(flipped)
    yield data[: random.choice((0, 10, 64, 70, 1000, len(data) - 1))]


def test_damage_beneath_an_open_log_is_corrupt_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Disk(tmp_path / "log", monkeypatch)
    wal = Wal(tmp_path / "log", FAMILIES)
    wal.write_row("entries", b"k", b"value of the row")
    wal.write_row("entries", b"l", b"another")
    wal.write_row("facts", b"k", b"in memory")
    (file,) = (tmp_path / "log").glob("*.wal")
    data = file.read_bytes()
    with file.open("r+b") as damaged:
        damaged.seek(data.index(b"value of the row"))
        damaged.write(b"V")
    assert wal.get("entries", b"l") == b"another"
    with pytest.raises(Corrupt, match="checksum"):
        wal.get("entries", b"k")
    for act in (wal.sync, wal.sync_descriptor, lambda: wal.write_row("facts", b"k", b"new")):
        with pytest.raises(Corrupt):
            act()
    assert wal.get("facts", b"k") == b"in memory"
    wal.close()
