"""The log's store: its files, what a start makes of them, and what a disk may refuse."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from chainfire.errors import ConfigError, Corrupt, DiskFull, SyncFailed, UnknownFormat
from chainfire.storage import walfiles, walspares
from chainfire.storage.wal import Wal
from chainfire.storage.walformat import HEADER_BYTES, Header, encode_header
from chainfire.storage.walspares import SPARES_MAX
from tests.storage.backends import run_python
from tests.storage.scripts import FAMILIES, Rows, rows_of

FILE_BYTES = 4096
VALUE = bytes(range(250)) * 2


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def wal(path: Path) -> Iterator[Wal]:
    wal = _open(path)
    yield wal
    wal.close()


def _open(path: Path) -> Wal:
    return Wal(path, FAMILIES, file_bytes=FILE_BYTES)


def _key(index: int) -> bytes:
    return index.to_bytes(8)


def _fill(wal: Wal, indexes: range, value: bytes = VALUE) -> None:
    for index in indexes:
        wal.write_row("entries", _key(index), value)


def _fill_until(refusal: type[Exception], wal: Wal) -> int:
    """The first index that was refused."""
    for index in range(20):
        try:
            _fill(wal, range(index, index + 1))
        except refusal:
            return index
    raise AssertionError("nothing was refused")


def _cut(wal: Wal, index: int) -> None:
    """The entries before it go."""
    batch = wal.batch()
    batch.delete_range("entries", b"", _key(index))
    wal.write(batch)


def _files(path: Path) -> list[str]:
    return sorted(file.name for file in path.iterdir())


def _reopened(wal: Wal, path: Path) -> Rows:
    """What a start finds."""
    wal.close()
    again = _open(path)
    rows = rows_of(again)
    again.close()
    return rows


# ── files ───────────────────────────────────────────────────────────────────


def test_rows_of_many_files_survive_a_reopen(wal: Wal, path: Path) -> None:
    _fill(wal, range(50))
    wal.write_row("facts", b"vote", b"1")
    expected = {
        "entries": {_key(index): VALUE for index in range(50)},
        "facts": {b"vote": b"1"},
        "more": {},
    }
    assert rows_of(wal) == expected
    assert len(_files(path)) > 5
    assert _reopened(wal, path) == expected


def test_files_are_used_again_and_stay_few_and_bring_no_old_row_back(wal: Wal, path: Path) -> None:
    for index in range(500):
        _fill(wal, range(index, index + 1), b"%d " % index + VALUE)
        _cut(wal, index - 5 if index > 5 else 0)
        wal.sync()
    assert len(_files(path)) <= 6
    assert _reopened(wal, path)["entries"] == {
        _key(index): b"%d " % index + VALUE for index in range(494, 500)
    }


def test_spare_files_beyond_some_are_given_back(wal: Wal, path: Path) -> None:
    _fill(wal, range(100))
    many = len(_files(path))
    _cut(wal, 100)
    for index in range(100, 130):
        wal.sync()
        _cut(wal, index)
        _fill(wal, range(index, index + 1))
    assert len(_files(path)) <= SPARES_MAX + 4 < many


def test_no_file_is_used_again_before_a_durable_header_needs_it_no_more(
    wal: Wal, path: Path
) -> None:
    _fill(wal, range(20))
    wal.sync()
    first = next(path.glob("000001.wal")).read_bytes()
    _cut(wal, 20)
    _fill(wal, range(20, 60))  # never synced
    assert next(path.glob("000001.wal")).read_bytes() == first


def test_a_record_larger_than_a_file_has_one_of_its_own_which_goes_with_it(
    wal: Wal, path: Path
) -> None:
    large = os.urandom(5 * FILE_BYTES)
    _fill(wal, range(3))
    wal.write_row("entries", _key(3), large)
    wal.write_row("facts", b"large", large)
    _fill(wal, range(4, 9))
    assert wal.get("entries", _key(3)) == wal.get("facts", b"large") == large
    batch = wal.batch()
    batch.delete("facts", b"large")
    wal.write(batch)
    for index in range(9, 60):
        _cut(wal, index)
        _fill(wal, range(index, index + 1))
        wal.sync()
    assert {file.stat().st_size for file in path.iterdir()} == {FILE_BYTES}
    assert _reopened(wal, path)["entries"] == {_key(59): VALUE}


@pytest.mark.interpreted
def test_files_that_grew_for_large_records_are_cut_and_used_again(
    wal: Wal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = os.urandom(3 * FILE_BYTES)
    make, made = walfiles.make, []

    def noted(directory: Path, size: int) -> Path:
        made.append(size)
        return make(directory, size)

    monkeypatch.setattr(walfiles, "make", noted)
    for index in range(40):
        _fill(wal, range(index, index + 1), large)
        _cut(wal, index)
        wal.sync()
    assert set(made) == {FILE_BYTES} and len(made) < 10
    assert sum(file.stat().st_size for file in path.iterdir()) < 10 * len(large)
    assert _reopened(wal, path)["entries"] == {_key(39): large}


def test_facts_outlive_the_file_that_they_were_written_to(wal: Wal, path: Path) -> None:
    for number in range(20):
        wal.write_row("facts", b"%d" % number, b"of facts")
        wal.write_row("more", b"%d" % number, b"of more")
    batch = wal.batch()
    batch.delete("facts", b"0")
    wal.write(batch)
    for index in range(100):
        _fill(wal, range(index, index + 1))
        _cut(wal, index)
        wal.sync()
    facts = {b"%d" % number: b"of facts" for number in range(1, 20)}
    more = {b"%d" % number: b"of more" for number in range(20)}
    rows = _reopened(wal, path)
    assert (rows["facts"], rows["more"]) == (facts, more)


def test_facts_that_a_crash_took_from_a_files_begin_are_written_to_it_again(
    wal: Wal, path: Path
) -> None:
    wal.write_row("facts", b"vote", b"1")
    _fill(wal, range(8))
    wal.close()
    second = path / "000002.wal"
    assert len(_files(path)) == 2
    second.write_bytes(second.read_bytes()[:HEADER_BYTES].ljust(FILE_BYTES, b"\0"))
    again = _open(path)
    for index in range(8, 40):
        _fill(again, range(index, index + 1))
        _cut(again, index)
        again.sync()
    assert _reopened(again, path)["facts"] == {b"vote": b"1"}


@pytest.mark.interpreted
def test_the_next_file_is_made_on_a_thread_before_it_is_needed(
    wal: Wal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_on: list[threading.Thread] = []
    make = walfiles.make

    def noted(directory: Path, size: int) -> Path:
        made_on.append(threading.current_thread())
        return make(directory, size)

    monkeypatch.setattr(walfiles, "make", noted)
    _fill(wal, range(6))
    maker = wal._spares._maker
    assert maker is not None
    maker.join()
    assert len(_files(path)) == 2
    assert made_on[0] is not threading.current_thread()
    assert len(wal._live) == 1


@pytest.mark.interpreted
def test_no_file_is_waited_for_while_the_disk_makes_each_in_time(
    wal: Wal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walspares, "MAKE_SECONDS_MAX", 0.0)
    for index in range(60):
        _fill(wal, range(index, index + 1))
        if wal._spares._maker is not None:
            wal._spares._maker.join()
    assert len(wal._live) > 5
    assert {file.size for file in wal._live} == {FILE_BYTES}


# ── a disk that refuses ─────────────────────────────────────────────────────


@pytest.mark.interpreted
def test_without_room_for_a_file_all_is_readable_and_later_it_goes_on(
    wal: Wal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        def full(directory: Path, size: int) -> Path:
            raise DiskFull(f"{directory}: no space left")

        patch.setattr(walfiles, "make", full)
        written = _fill_until(DiskFull, wal)
        before = rows_of(wal)
        assert list(before["entries"]) == [_key(index) for index in range(written)]
        wal.sync()
    _fill(wal, range(written, 20))
    assert _reopened(wal, path)["entries"] == {_key(index): VALUE for index in range(20)}


def test_a_file_that_cannot_be_made_leaves_nothing_behind(tmp_path: Path) -> None:
    out = run_python(
        """
        import resource, signal, sys
        from pathlib import Path
        from chainfire.errors import StorageError
        from chainfire.storage import walfiles

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        try:
            walfiles.make(Path(sys.argv[1]), 2 << 20)
        except StorageError as exc:
            print(type(exc).__name__, len(list(Path(sys.argv[1]).iterdir())))
        """,
        str(tmp_path),
    )
    assert out == "SyncFailed 0\n"


@pytest.mark.interpreted
def test_while_a_file_is_slow_to_make_the_one_in_use_grows(
    wal: Wal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, goes_on = walfiles.make, threading.Event()

    def slow(directory: Path, size: int) -> Path:
        assert goes_on.wait(30)
        return make(directory, size)

    monkeypatch.setattr(walfiles, "make", slow)
    monkeypatch.setattr(walspares, "MAKE_SECONDS_MAX", 0.001)
    _fill(wal, range(30))
    assert len(wal._live) == 1 and wal._live[0].size > 3 * FILE_BYTES
    goes_on.set()
    maker = wal._spares._maker
    assert maker is not None
    maker.join()
    _fill(wal, range(30, 32))
    assert len(wal._live) == 2
    assert len(_reopened(wal, path)["entries"]) == 32


def test_a_write_that_fails_is_for_good(wal: Wal, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(fd: int, buffers: object, offset: int) -> int:
        raise OSError(5, "Input/output error")

    _fill(wal, range(1))
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", fails)
        with pytest.raises(SyncFailed):
            _fill(wal, range(1, 2))
    with pytest.raises(SyncFailed):
        _fill(wal, range(1, 2))
    assert list(wal.keys("entries")) == [_key(0)]


# ── syncs ───────────────────────────────────────────────────────────────────


def test_no_descriptor_makes_all_durable_while_an_older_file_is_not(wal: Wal) -> None:
    _fill(wal, range(1))
    descriptor = wal.sync_descriptor()
    assert descriptor is not None
    os.fdatasync(descriptor)
    wal.synced_outside(0, 0.1)
    _fill(wal, range(1, 10))
    assert wal.sync_descriptor() is None
    wal.sync()
    assert wal.sync_descriptor() is not None


def test_a_sync_covers_every_file_that_was_written_to(
    wal: Wal, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    wal.sync()
    monkeypatch.setattr(os, "fdatasync", synced.append)
    _fill(wal, range(20))
    wal.sync()
    assert synced == [file.fd for file in wal._live]


def test_syncs_on_another_thread_go_beside_writes_that_change_files(wal: Wal, path: Path) -> None:
    ends = threading.Event()
    failures: list[Exception] = []

    def sync() -> None:
        try:
            while not ends.is_set():
                wal.sync()
        except Exception as exc:
            failures.append(exc)

    syncing = threading.Thread(target=sync)
    syncing.start()
    for index in range(300):
        _fill(wal, range(index, index + 1))
        _cut(wal, index - 20 if index > 20 else 0)
    ends.set()
    syncing.join()
    assert failures == []
    wal.sync()
    assert list(_reopened(wal, path)["entries"]) == [_key(index) for index in range(279, 300)]


def test_a_failed_sync_is_for_good_wherever_it_was_done(path: Path) -> None:
    wal = _open(path)
    _fill(wal, range(1))
    assert wal.sync_descriptor() is not None
    with pytest.raises(SyncFailed, match="Input/output error"):
        wal.synced_outside(5, 0.1)
    for act in (wal.sync, wal.sync_descriptor, lambda: _fill(wal, range(1, 2))):
        with pytest.raises(SyncFailed, match="Input/output error"):
            act()
    wal.close()


def test_a_start_makes_durable_what_it_finds(
    wal: Wal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fill(wal, range(20))
    wal.close()
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    again = _open(path)
    assert set(synced) >= {file.fd for file in again._live}
    again.close()


# ── what a start finds ──────────────────────────────────────────────────────


def test_a_read_only_open_shows_the_rows_and_touches_nothing(wal: Wal, path: Path) -> None:
    _fill(wal, range(20))
    (path / "000009.wal.tmp").write_bytes(b"half made")
    wal.close()

    def state() -> dict[str, tuple[bytes, int]]:
        return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in path.iterdir()}

    before = state()
    looked_at = Wal.open_read_only(path, FAMILIES)
    assert len(rows_of(looked_at)["entries"]) == 20
    looked_at.close()
    assert state() == before
    _open(path).close()
    assert "000009.wal.tmp" not in _files(path)


def test_there_is_no_log_before_a_header_is_written(path: Path) -> None:
    assert not Wal.exists(path)
    with pytest.raises(Corrupt, match="no log here"):
        Wal.open_read_only(path, FAMILIES)
    assert not path.exists()
    path.mkdir()
    assert not Wal.exists(path)
    (path / "000001.wal").write_bytes(bytes(FILE_BYTES))
    assert not Wal.exists(path)
    wal = _open(path)
    assert Wal.exists(path) and _files(path) == ["000001.wal"]
    wal.close()


def test_remains_of_a_log_are_corrupt(wal: Wal, path: Path) -> None:
    wal.close()
    (file,) = path.iterdir()
    file.write_bytes(b"x" + file.read_bytes()[1:])
    for act in (lambda: Wal.exists(path), lambda: _open(path)):
        with pytest.raises(Corrupt, match="header cannot be read"):
            act()


def test_a_log_without_a_file_in_its_midst_is_corrupt_or_ends_before_it(
    wal: Wal, path: Path
) -> None:
    _fill(wal, range(40))
    files = [file.path for file in wal._live]
    wal.close()
    files[3].unlink()
    looked_at = Wal.open_read_only(path, FAMILIES)
    keys = list(looked_at.keys("entries"))
    assert 0 < len(keys) < 40 and keys == [_key(index) for index in range(len(keys))]
    looked_at.close()
    files[0].unlink()
    with pytest.raises(Corrupt, match="missing"):
        _open(path)


@pytest.mark.interpreted
def test_a_newer_versions_log_is_an_unknown_format(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.mkdir()
    monkeypatch.setattr("chainfire.storage.walformat.FORMAT", 2)
    header = encode_header(Header(1, 0, 0, 1, 0))
    monkeypatch.undo()
    (path / "000001.wal").write_bytes(header.ljust(FILE_BYTES, b"\0"))
    with pytest.raises(UnknownFormat, match="format 2"):
        _open(path)


def test_a_family_that_this_version_does_not_know_is_an_unknown_format(
    wal: Wal, path: Path
) -> None:
    wal.write_row("more", b"k", b"v")
    wal.close()
    with pytest.raises(UnknownFormat, match="family 2"):
        Wal(path, FAMILIES[:2])


def test_an_older_versions_database_is_an_unknown_format(path: Path) -> None:
    path.mkdir()
    (path / "CURRENT").write_text("MANIFEST-000001\n")
    with pytest.raises(UnknownFormat, match="begin with a new directory"):
        _open(path)
    assert _files(path) == ["CURRENT"]


def test_a_directory_in_the_place_of_a_file_is_named(path: Path) -> None:
    Wal(path, FAMILIES).close()
    (path / "000777.wal").mkdir()
    with pytest.raises(Corrupt, match=r"000777\.wal cannot be"):
        Wal.open_read_only(path, FAMILIES)


def test_a_file_that_this_process_may_not_open_is_not_taken_for_a_lost_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of three would put its directory aside and begin anew."""
    Wal(path, FAMILIES).close()

    def refuse(*args: object, **options: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ConfigError, match="Too many open files"):
        Wal.open_read_only(path, FAMILIES)
