"""What RocksDB and its binding do when files are damaged, and what this backend makes of it.

Each test pins one trap: when a new version of the binding
behaves differently, the test that fails says which rule of rocks.py may go.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import rocksdict

from chainfire.errors import Corrupt, DataDirLocked, UnknownFormat
from chainfire.storage.rocks import RocksBackend, RocksOptions
from chainfire.storage.rocks_options import MIB
from tests.storage.backends import FAMILIES, put, run_python

OPTIONS = RocksOptions.state(cache_bytes=MIB)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "db"


def _open(path: Path, options: RocksOptions = OPTIONS) -> RocksBackend:
    return RocksBackend(path, FAMILIES, options)


def _crashed(path: Path, rows: int) -> None:
    """A database as kill -9 leaves it: `rows` synced batches in the WAL, nothing flushed."""
    run_python(
        """
        import os, sys
        from pathlib import Path
        from chainfire.storage.rocks import RocksBackend, RocksOptions
        from tests.storage.backends import FAMILIES, put

        backend = RocksBackend(Path(sys.argv[1]), FAMILIES, RocksOptions.state(1 << 20))
        for number in range(int(sys.argv[2])):
            put(backend, (b"%06d" % number, b"v" * 100))
            backend.sync()
        os._exit(0)
        """,
        str(path),
        str(rows),
    )


def _wal(path: Path) -> Path:
    return max(path.glob("*.log"), key=lambda file: file.stat().st_size)


def _flip(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 0x40
    file.write_bytes(data)


@pytest.fixture
def damaged(path: Path) -> Iterator[RocksBackend]:
    """5,000 rows in one SST file with a flipped bit in the middle of the data."""
    backend = _open(path)
    put(backend, *((b"%06d" % number, os.urandom(100)) for number in range(5000)))
    backend.compact()
    backend.close()
    sst = max(path.glob("*.sst"), key=lambda file: file.stat().st_size)
    _flip(sst, sst.stat().st_size // 2)
    backend = _open(path)
    yield backend
    backend.close()


# ── a corrupt block ─────────────────────────────────────────────────────────


@pytest.mark.parametrize("reverse", [False, True])
def test_an_iterator_that_stops_at_a_corrupt_block_raises(
    damaged: RocksBackend, reverse: bool
) -> None:
    seen: list[tuple[bytes, bytes]] = []
    with pytest.raises(Corrupt, match="checksum"):
        seen.extend(damaged.iterate("a", reverse=reverse))
    assert 0 < len(seen) < 5000


def test_scrubbing_meets_a_corrupt_block(damaged: RocksBackend) -> None:
    with pytest.raises(Corrupt):
        damaged.scrub("a", b"", 1 << 30)


def test_keys_that_stop_at_a_corrupt_block_raise(damaged: RocksBackend) -> None:
    with pytest.raises(Corrupt):
        list(damaged.keys("a"))


@pytest.mark.parametrize("reverse", [False, True])
def test_a_snapshots_iterator_that_stops_at_a_corrupt_block_raises(
    damaged: RocksBackend, reverse: bool
) -> None:
    snapshot = damaged.snapshot()
    with pytest.raises(Corrupt):
        list(snapshot.iterate("a", reverse=reverse))
    snapshot.close()


def test_get_from_a_corrupt_block_raises_and_its_neighbours_do_not(damaged: RocksBackend) -> None:
    readable = 0
    for number in range(5000):
        try:
            readable += damaged.get("a", b"%06d" % number) is not None
        except Corrupt:
            continue
    assert 4000 < readable < 5000


def test_after_corrupt_every_write_and_sync_is_refused(damaged: RocksBackend) -> None:
    with pytest.raises(Corrupt):
        list(damaged.iterate("a"))
    with pytest.raises(Corrupt):
        put(damaged, (b"k", b"v"))
    with pytest.raises(Corrupt):
        damaged.sync()


def test_the_bindings_own_iterators_end_silently_at_a_corrupt_block(damaged: RocksBackend) -> None:
    family = damaged._families["a"]
    assert 0 < len(list(family.items())) < 5000
    assert 0 < len(list(family.keys())) < 5000


# ── other traps of the binding ──────────────────────────────────────────────


def test_the_bindings_lower_bound_is_an_upper_bound(path: Path) -> None:
    backend = _open(path)
    put(backend, (b"a", b""), (b"b", b""), (b"c", b""))
    bounds = rocksdict.ReadOptions()
    bounds.set_iterate_lower_bound(b"b")
    cursor = backend._families["a"].iter(bounds)
    cursor.seek_to_last()
    assert cursor.key() == b"a"
    del cursor
    backend.close()


def test_the_iterators_of_the_bindings_snapshots_show_later_rows(path: Path) -> None:
    backend = _open(path)
    view = backend._families["a"].snapshot()
    put(backend, (b"later", b""))
    assert list(view.keys()) == [b"later"]
    del view
    backend.close()


def test_flushing_the_database_flushes_no_family(path: Path) -> None:
    backend = _open(path)
    put(backend, (b"k", b"v" * 10_000))
    before = backend.statistics().memtable_bytes
    backend._db.flush()
    assert backend.statistics().memtable_bytes == before > 10_000
    backend.close()


def test_the_binding_flushes_a_family_when_its_last_object_goes(path: Path) -> None:
    backend = _open(path)
    put(backend, (b"k", b"v"))
    for family in (backend._families, backend._gets):
        del family["a"]
    assert len(list(path.glob("*.sst"))) == 1
    backend.close()


def test_close_leaves_what_is_in_memory_to_the_wal(path: Path) -> None:
    backend = _open(path)
    put(backend, *((b"%06d" % number, b"v" * 100) for number in range(5000)))
    put(backend, (b"k", b"v"), family="b")
    backend.close()
    assert not list(path.glob("*.sst"))
    backend = _open(path)  # in the same process: it was closed for good
    assert len(list(backend.keys("a"))) == 5000 and backend.get("b", b"k") == b"v"
    backend.close()


# ── what recovery makes of a damaged WAL ────────────────────────────────────


def test_a_crash_keeps_every_synced_batch(path: Path) -> None:
    _crashed(path, 200)
    backend = _open(path)
    assert len(list(backend.keys("a"))) == 200
    backend.close()


def test_a_flipped_bit_in_the_wal_silently_drops_every_later_record(path: Path) -> None:
    _crashed(path, 200)
    _flip(_wal(path), 200 * 140 // 2)
    backend = _open(path)
    keys = list(backend.keys("a"))
    backend.close()
    assert 0 < len(keys) < 150
    assert keys == [b"%06d" % number for number in range(len(keys))]


def test_a_torn_tail_of_the_wal_drops_only_the_tail(path: Path) -> None:
    _crashed(path, 200)
    wal = _wal(path)
    data = wal.read_bytes().rstrip(b"\0")
    wal.write_bytes(data[:-10])
    backend = _open(path)
    assert len(list(backend.keys("a"))) == 199
    backend.close()


def test_a_deleted_wal_opens_as_an_empty_database(path: Path) -> None:
    _crashed(path, 200)
    _wal(path).unlink()
    backend = _open(path)
    assert list(backend.keys("a")) == []
    backend.close()


def test_a_read_only_open_shows_what_is_in_the_wal_and_changes_no_data_file(path: Path) -> None:
    _crashed(path, 200)

    def files() -> dict[str, bytes]:
        return {
            file.name: file.read_bytes()
            for file in path.iterdir()
            if file.name != "rocksdict-config.json"
        }

    before = files()
    backend = RocksBackend.open_read_only(path, FAMILIES, OPTIONS)
    assert len(list(backend.keys("a"))) == 200
    assert backend.get("a", b"000199") is not None
    backend.close()
    assert files() == before


def test_a_read_only_open_of_a_half_made_database_reads_absent_families_as_empty(
    path: Path,
) -> None:
    RocksBackend(path, ("a",), OPTIONS).close()
    backend = RocksBackend.open_read_only(path, FAMILIES, OPTIONS)
    assert (backend.get("b", b"k"), list(backend.iterate("b"))) == (None, [])
    backend.close()


# ── what cannot be opened ───────────────────────────────────────────────────


def test_a_read_only_open_of_nothing_makes_nothing(path: Path) -> None:
    with pytest.raises(Corrupt, match="no database here"):
        RocksBackend.open_read_only(path, FAMILIES, OPTIONS)
    assert not path.exists()


def test_a_database_that_lost_its_current_is_refused_and_keeps_its_files(path: Path) -> None:
    backend = _open(path)
    put(backend, (b"k", b"v"))
    backend.compact()
    backend.close()
    (path / "CURRENT").unlink()
    before = sorted(file.name for file in path.iterdir())
    with pytest.raises(Corrupt, match="CURRENT is missing"):
        _open(path)
    assert sorted(file.name for file in path.iterdir()) == before


def test_a_directory_where_creation_died_is_created_again(path: Path) -> None:
    path.mkdir()
    (path / "LOCK").touch()
    (path / "IDENTITY").write_text("half")
    backend = _open(path)
    put(backend, (b"k", b"v"))
    backend.close()


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda path: (path / "CURRENT").write_bytes(b"garbage\n"), id="CURRENT"),
        pytest.param(
            lambda path: next(path.glob("MANIFEST-*")).write_bytes(b"garbage"), id="MANIFEST"
        ),
        pytest.param(lambda path: next(path.glob("MANIFEST-*")).unlink(), id="no MANIFEST"),
        pytest.param(lambda path: next(path.glob("*.sst")).unlink(), id="no SST"),
        pytest.param(lambda path: os.truncate(next(path.glob("*.sst")), 100), id="short SST"),
    ],
)
@pytest.mark.parametrize("read_only", [False, True])
def test_a_damaged_database_is_corrupt_when_opened(path: Path, damage, read_only: bool) -> None:
    backend = _open(path)
    put(backend, *((b"%06d" % number, os.urandom(100)) for number in range(100)))
    backend.compact()
    backend.close()
    damage(path)
    with pytest.raises(Corrupt, match=f"{path} could not be opened"):
        RocksBackend(path, FAMILIES, OPTIONS, read_only=read_only)


def test_families_of_a_newer_version_are_an_unknown_format(path: Path) -> None:
    RocksBackend(path, (*FAMILIES, "of the future"), OPTIONS).close()
    with pytest.raises(UnknownFormat, match=r"newer version.*of the future"):
        _open(path, OPTIONS)


def test_a_family_added_by_this_version_is_made(path: Path) -> None:
    RocksBackend(path, ("a",), OPTIONS).close()
    backend = _open(path, OPTIONS)
    put(backend, (b"k", b"v"), family="b")
    backend.close()


def test_an_open_database_is_locked(path: Path) -> None:
    backend = _open(path)
    with pytest.raises(DataDirLocked):
        _open(path)
    backend.close()


def test_a_cancelled_compaction_leaves_what_was_synced_for_the_next_open(tmp_path: Path) -> None:
    backend = RocksBackend(tmp_path / "db", ["f"], RocksOptions.state(8 << 20))
    batch = backend.batch()
    batch.put("f", b"k", b"v")
    backend.write(batch)
    backend.sync()
    backend.cancel_compact()
    backend.compact()
    backend.close()
    again = RocksBackend(tmp_path / "db", ["f"], RocksOptions.state(8 << 20))
    assert again.get("f", b"k") == b"v"
    again.close()
