"""Which file the disk begins to write before a sync waits for it: always the newest WAL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from chainfire.storage import rocks_wal
from chainfire.storage.rocks import RocksBackend, RocksOptions
from chainfire.storage.rocks_wal import LOOK_BYTES, NewestWal
from tests.storage.backends import FAMILIES, put

pytestmark = pytest.mark.interpreted


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose writing was started."""
    names: list[str] = []

    def start(fd: int) -> None:
        names.append(Path(f"/proc/self/fd/{fd}").readlink().name)

    monkeypatch.setattr(rocks_wal, "start_writing", start)
    return names


@pytest.fixture
def wal(tmp_path: Path) -> Iterator[NewestWal]:
    wal = NewestWal(tmp_path)
    yield wal
    wal.close()


def test_it_is_the_one_with_the_highest_number(
    wal: NewestWal, tmp_path: Path, started: list[str]
) -> None:
    for name in ("000009.log", "1000000.log", "999999.log", "LOG", "2000000.sst"):
        (tmp_path / name).touch()
    wal.start_writing(0)
    assert started == ["1000000.log"]


def test_a_newer_one_is_found_when_enough_was_written(
    wal: NewestWal, tmp_path: Path, started: list[str]
) -> None:
    (tmp_path / "000001.log").touch()
    wal.start_writing(0)
    (tmp_path / "000001.log").rename(tmp_path / "000002.log")
    (tmp_path / "000003.log").touch()
    wal.start_writing(LOOK_BYTES - 1)
    wal.start_writing(LOOK_BYTES)
    assert started == ["000001.log", "000002.log", "000003.log"]  # the first twice
    assert len(_open_in(tmp_path)) == 1
    wal.close()
    wal.close()
    assert not _open_in(tmp_path)


def test_without_a_file_or_a_directory_nothing_is_started(
    wal: NewestWal, tmp_path: Path, started: list[str]
) -> None:
    wal.start_writing(0)
    NewestWal(tmp_path / "gone").start_writing(0)
    assert not started


def test_the_engine_writes_to_the_file_that_is_found(tmp_path: Path, started: list[str]) -> None:
    path = tmp_path / "db"
    backend = RocksBackend(path, FAMILIES, RocksOptions.log())
    value = os.urandom(LOOK_BYTES)
    for number in range(3 * RocksOptions.log().wal_bytes_max // LOOK_BYTES):
        put(backend, (b"%d" % number, value))
        backend.begin_sync()
        assert started[-1] == max(file.name for file in path.glob("*.log"))
    assert len(set(started)) > 1
    backend.close()
    assert not _open_in(path)


def _open_in(directory: Path) -> list[str]:
    return [
        file.name
        for file in Path("/proc/self/fd").iterdir()
        if os.path.lexists(file) and str(file.readlink()).startswith(f"{directory}/")
    ]
