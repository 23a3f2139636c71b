"""DATA_DIR: its lock, CURRENT and what is wrong with it, the ballast."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chainfire.errors import (
    ConfigError,
    Corrupt,
    DataDirLocked,
    DataDirMismatch,
    UnknownFormat,
)
from chainfire.storage.datadir import DataDir

BALLAST = 1 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "data"


@pytest.fixture
def data_dir(path: Path) -> Iterator[DataDir]:
    data_dir = DataDir(path, ballast_bytes=BALLAST)
    yield data_dir
    data_dir.close()


def _new_state(data_dir: DataDir) -> Path:
    state = data_dir.next_state_path()
    state.mkdir()
    (state / "file").write_bytes(b"x")
    return state


# ── the lock ────────────────────────────────────────────────────────────────


def test_a_missing_directory_is_made_for_its_owner_only(data_dir: DataDir) -> None:
    assert data_dir.path.stat().st_mode & 0o777 == 0o700
    assert data_dir.current() is None


def test_a_second_process_is_told_the_first_ones_pid(data_dir: DataDir) -> None:
    code = (
        "import sys; from pathlib import Path; from chainfire.storage.datadir import DataDir\n"
        "DataDir(Path(sys.argv[1]))"
    )
    second = subprocess.run(
        [sys.executable, "-c", code, str(data_dir.path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert second.returncode != 0
    assert f"DataDirLocked: {data_dir.path} is in use by process {os.getpid()}, " in second.stderr


def test_the_lock_goes_with_close_and_not_with_the_file(data_dir: DataDir, path: Path) -> None:
    with pytest.raises(DataDirLocked):
        DataDir(path)
    data_dir.close()
    data_dir.close()
    DataDir(path).close()


@pytest.mark.parametrize("where", ["file", "file/below", "/proc/none"])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=f"data-dir: cannot write to .*{where}"):
        DataDir(tmp_path / where)


def test_a_directory_of_etcd_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "member" / "snap").mkdir(parents=True)
    with pytest.raises(DataDirMismatch, match="a data directory of etcd"):
        DataDir(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["member"]


# ── CURRENT ─────────────────────────────────────────────────────────────────


def test_current_has_the_bytes_of_the_formats_page(data_dir: DataDir) -> None:
    data_dir.switch(_new_state(data_dir))
    assert (data_dir.path / "CURRENT").read_bytes() == b"chainfire-state 1\nstate-000001\n"


def test_a_switch_leaves_the_older_state_to_be_removed(data_dir: DataDir) -> None:
    first = _new_state(data_dir)
    data_dir.switch(first)
    second = _new_state(data_dir)
    assert (second.name, data_dir.current()) == ("state-000002", first)
    data_dir.switch(second)
    assert data_dir.current() == second
    assert data_dir.remove_leftovers() == [first]
    assert [path.name for path in data_dir.path.glob("state-*")] == ["state-000002"]


def test_checkpoints_that_are_made_at_the_same_time_have_names_of_their_own(
    data_dir: DataDir,
) -> None:
    first, second = data_dir.next_checkpoint_path(), data_dir.next_checkpoint_path()
    assert first != second
    second.mkdir()
    assert data_dir.next_checkpoint_path() not in (first, second)


def test_a_first_start_that_died_before_the_switch_begins_anew(data_dir: DataDir) -> None:
    state = _new_state(data_dir)
    (data_dir.path / "CURRENT.tmp").write_bytes(b"chainfire-")
    assert data_dir.current() is None
    assert data_dir.remove_leftovers() == [state]
    assert sorted(path.name for path in data_dir.path.iterdir()) == ["LOCK"]


@pytest.mark.parametrize("kept", ["log", "witness"])
def test_a_lost_current_is_corrupt_and_no_state_is_removed(data_dir: DataDir, kept: str) -> None:
    state = _new_state(data_dir)
    data_dir.switch(state)
    (data_dir.path / kept).mkdir()
    (data_dir.path / "CURRENT").unlink()
    with pytest.raises(Corrupt, match=f"CURRENT is missing, but {kept} exist"):
        data_dir.current()
    with pytest.raises(Corrupt):
        data_dir.remove_leftovers()
    assert state.exists()


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"", Corrupt, "is damaged: it reads ''"),
        (b"\xff\x00garbage", Corrupt, "is damaged"),
        (b"chainfire-state 1\n", Corrupt, "is damaged"),
        (b"chainfire-state 1\nstate-000001", Corrupt, "is damaged"),
        (b"chainfire-state 1\n../elsewhere\n", Corrupt, "is damaged"),
        (b"chainfire-state 1\nstate-000001\nmore\n", Corrupt, "is damaged"),
        (b"chainfire-state 1\nstate-000009\n", Corrupt, "names state-000009, which does not exist"),
        (b"chainfire-state 2\nanything", UnknownFormat, "has format 2, this version knows"),
    ],
)
def test_a_current_that_cannot_be_followed_is_refused(
    data_dir: DataDir, content: bytes, error: type[Exception], message: str
) -> None:
    data_dir.switch(_new_state(data_dir))
    (data_dir.path / "CURRENT").write_bytes(content)
    with pytest.raises(error, match=message):
        data_dir.current()


def test_an_unreadable_current_is_corrupt(data_dir: DataDir) -> None:
    (data_dir.path / "CURRENT").mkdir()
    with pytest.raises(Corrupt, match="CURRENT cannot be read: Is a directory"):
        data_dir.current()


# ── room ────────────────────────────────────────────────────────────────────


def test_the_ballast_takes_room_until_it_is_released(data_dir: DataDir) -> None:
    ballast = data_dir.path / "ballast"
    assert data_dir.ensure_ballast() and data_dir.ensure_ballast()
    assert ballast.stat().st_blocks * 512 >= BALLAST
    assert ballast.read_bytes() == bytes(BALLAST)
    assert data_dir.release_ballast()
    assert not ballast.exists()
    assert not data_dir.release_ballast()


def test_a_changed_size_makes_the_ballast_anew(path: Path) -> None:
    for size in (BALLAST, 2 * BALLAST, 0):
        data_dir = DataDir(path, ballast_bytes=size)
        assert data_dir.ensure_ballast()
        data_dir.close()
        assert (path / "ballast").exists() == bool(size)
        assert not size or (path / "ballast").stat().st_size == size


def test_no_ballast_is_made_that_would_fill_the_disk(path: Path) -> None:
    data_dir = DataDir(path, ballast_bytes=1 << 60)
    assert not data_dir.ensure_ballast()
    assert sorted(file.name for file in path.iterdir()) == ["LOCK"]
    assert data_dir.free_bytes() > 0
    data_dir.close()


def test_what_was_put_aside_is_counted_until_it_is_removed(data_dir: DataDir) -> None:
    assert data_dir.damaged_bytes() == 0
    data_dir.witness_path.write_bytes(b"w" * 100)
    (data_dir.path / "log").mkdir()
    (data_dir.path / "log" / "1.log").write_bytes(b"l" * 1000)
    data_dir.put_aside("damaged-000001")
    (data_dir.path / "log").mkdir()
    (data_dir.path / "log" / "2.log").write_bytes(b"l" * 10)
    data_dir.put_log_aside()
    assert data_dir.damaged_bytes() == 1110
    shutil.rmtree(data_dir.path / "damaged-000001")
    assert data_dir.damaged_bytes() == 10
