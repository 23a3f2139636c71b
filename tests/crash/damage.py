"""What can be done to a file, and which file is meant."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from chainfire.storage.backend import STATE_FAMILIES
from chainfire.storage.rocks import RocksBackend, RocksOptions
from tests.crash import logfiles, wal
from tests.crash.wal import Record

Damage = Callable[[Path], None]


def delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def unreadable(path: Path) -> None:
    """A name that cannot be opened, for root either: a link to itself."""
    path.unlink()
    path.symlink_to(path.name)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def halve(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(bytes(data))


def flip_middle(path: Path) -> None:
    flip(path, path.stat().st_size // 2)


def flip_first(path: Path) -> None:
    flip(path, 0)


def flip_header(path: Path) -> None:
    """Of a file of the log: a bit of its number."""
    flip(path, logfiles.NUMBER_AT)


def flip_near_end(path: Path) -> None:
    """In an SST: the magic number of the footer."""
    flip(path, path.stat().st_size - 4)


def records(path: Path) -> list[Record]:
    """Of a file of the log, or of the state's WAL."""
    return (logfiles if path.suffix == ".wal" else wal).records(path)


def zero_page(path: Path) -> None:
    data = bytearray(path.read_bytes())
    middle = records(path)[len(records(path)) // 2].offset
    data[middle : middle + 4096] = bytes(len(data[middle : middle + 4096]))
    path.write_bytes(bytes(data))


def flip_record(which: float) -> Damage:
    """A bit of a record: 0 the first one, 1 the last."""

    def damage(path: Path) -> None:
        found = records(path)
        record = found[round(which * (len(found) - 1))]
        flip(path, record.payload + record.length // 2)

    return damage


def cut_record(which: float) -> Damage:
    """The file ends within this record, as a torn write leaves it."""

    def damage(path: Path) -> None:
        found = records(path)
        record = found[round(which * (len(found) - 1))]
        path.write_bytes(path.read_bytes()[: record.payload + record.length // 2])

    return damage


def flip_record_holding(needle: bytes) -> Damage:
    def damage(path: Path) -> None:
        data = path.read_bytes()
        holding = [r for r in records(path) if needle in data[r.payload : r.end]]
        assert holding, f"{needle!r} is not in {path.name}"
        flip(path, holding[-1].payload + 3)

    return damage


def flip_slots(count: int) -> Damage:
    """The witness: the newer slot (1) or both (2)."""

    def damage(path: Path) -> None:
        data = path.read_bytes()
        sequences = [int.from_bytes(data[at + 8 : at + 16], "big") for at in (0, 4096)]
        newer = 4096 if sequences[1] > sequences[0] else 0
        for at in ([newer], [0, 4096])[count - 1]:
            flip(path, at + 40)

    return damage


def falsify(data: Path, key: bytes, value: bytes, other: bytes) -> None:
    """A key's stored value is another one, and no checksum tells; `data` is a data directory."""
    options = RocksOptions.state(8 << 20)
    with closing(RocksBackend(live_state(data), STATE_FAMILIES, options)) as state:
        batch = state.batch()
        rows = [(at, row) for at, row in state.iterate("key_value") if at.endswith(key)]
        assert rows, "the key is not applied yet"
        for row_key, row in rows:
            assert value in row
            batch.put("key_value", row_key, row.replace(value, other))
        state.write(batch)
        state.sync()


def fill_with(path: Path) -> None:
    """Another one's file takes all the room that is left."""
    with path.open("wb", buffering=0) as file:
        for size in (2**20, 4096):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


# ── Which file ──────────────────────────────────────────────────────────────


def live_state(data: Path) -> Path:
    return data / (data / "CURRENT").read_text().split()[-1]


def newest(directory: Path, pattern: str) -> Path:
    """The file with the highest number that holds something."""
    files = sorted(p for p in directory.glob(pattern) if p.stat().st_size)
    assert files, f"no {pattern} in {directory}"
    return files[-1]


def largest(directory: Path, pattern: str) -> Path:
    return max(directory.glob(pattern), key=lambda path: path.stat().st_size)


FILES: dict[str, Callable[[Path], Path]] = {
    "log": lambda data: logfiles.newest(data / "log"),
    "older log": lambda data: logfiles.older(data / "log"),
    "spare log": lambda data: logfiles.spare(data / "log"),
    "log directory": lambda data: data / "log",
    "state WAL": lambda data: newest(live_state(data), "*.log"),
    "state SST": lambda data: largest(live_state(data), "*.sst"),
    "state MANIFEST": lambda data: newest(live_state(data), "MANIFEST-*"),
    "state CURRENT": lambda data: live_state(data) / "CURRENT",
    "state directory": live_state,
    "CURRENT": lambda data: data / "CURRENT",
    "witness": lambda data: data / "witness",
    "LOCK": lambda data: data / "LOCK",
    "ballast": lambda data: data / "ballast",
}
