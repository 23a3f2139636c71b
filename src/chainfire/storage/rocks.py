"""The storage contract on RocksDB, through rocksdict. The only file that touches the binding.

Rules, each the answer to something measured (rocksdict 0.3.29, tests/storage/test_rocks.py):

- `write` never syncs: the binding would hold the GIL for the whole sync. `sync` is
  `flush_wal(True)`, which releases it. Flush and compaction release it, a checkpoint does not.
- Iterators only through `iter()` with `status()` after the loop: `keys()` and `items()` end
  silently at a corrupt block.
- The engine reads the upper bound in place, in the memory of the bytes object it was given, and
  nothing holds that object: whoever holds the cursor does.
- `set_iterate_lower_bound` of the binding sets the upper bound: walking backwards, the
  lower bound is checked here.
- Iterators of the binding's snapshots show the newest rows; only their `[key]` is frozen. So a
  snapshot here keeps one cursor per family, pinned when it was made.
- A database is created only where none was. With `create_if_missing` RocksDB would start afresh
  over the files of a database that has lost its CURRENT, and delete them.
- `no_slowdown`: a stall is an error to act on, never a sleep under the GIL.
- Point-in-time recovery keeps the records before the first bad one and says nothing. What must be
  there is checked by the caller, before anything is written: `open_read_only`.
- After a full disk RocksDB resumes by itself when the failed write was a flush; when it was the
  WAL's, its writer is dead for this process, and the next sync says so.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import rocksdict

from chainfire.errors import (
    Corrupt,
    DataDirLocked,
    DiskFull,
    Stalled,
    StorageError,
    SyncFailed,
    UnknownFormat,
)
from chainfire.storage.backend import StorageStatistics, WriteBatch

KIB, MIB = 1 << 10, 1 << 20
SIZED_ROWS_MAX = 4096  # `approximate_size` walks that many rows before it guesses


@dataclass(slots=True, frozen=True, kw_only=True)
class RocksOptions:
    """What the two directories of a member need differently; the rest is in `_database_options`."""

    write_buffer_bytes: int  # one memtable of one family
    write_buffers_max: int  # memtables per family; then writes are Stalled
    memtable_bytes_max: int  # of all families together; then the largest is flushed
    wal_bytes_max: int  # bounds what is replayed after a crash
    wal_recycle_files: int  # WAL files kept for re-use: a sync that does not grow a file is cheaper
    block_cache_bytes: int  # data, index and filter blocks together
    bloom_bits: int  # per key; 0 = no filter
    compressed: bool

    @classmethod
    def log(cls) -> RocksOptions:
        """Appended, synced all the time, read rarely, cut at the front.

        Small memtables, so that WAL files come back for re-use early; many of
        them, so that a slow flush does not stall appends.
        """
        return cls(
            write_buffer_bytes=4 * MIB,
            write_buffers_max=8,
            memtable_bytes_max=64 * MIB,
            wal_bytes_max=16 * MIB,
            wal_recycle_files=4,
            block_cache_bytes=8 * MIB,
            bloom_bits=0,
            compressed=False,
        )

    @classmethod
    def state(cls, cache_bytes: int) -> RocksOptions:
        """Read all the time, never synced for its own sake, grows without bound.

        A start after a crash replays the WAL twice (read-only first), at 2 and
        3 µs per row: 16 MiB keep that well below a second.
        """
        return cls(
            write_buffer_bytes=16 * MIB,
            write_buffers_max=4,
            memtable_bytes_max=96 * MIB,
            wal_bytes_max=16 * MIB,
            wal_recycle_files=0,
            block_cache_bytes=cache_bytes,
            bloom_bits=10,
            compressed=True,
        )


class RocksBackend:
    """A StorageBackend on one RocksDB directory, created if there is none."""

    def __init__(
        self,
        path: Path,
        families: Sequence[str],
        options: RocksOptions,
        *,
        read_only: bool = False,
    ) -> None:
        """Raises Corrupt, DiskFull, DataDirLocked, or UnknownFormat for families unknown to us."""
        exists = self.exists(path)
        self._path = path
        self._cache = rocksdict.Cache(options.block_cache_bytes)
        self._read_only = read_only
        self._failure: StorageError | None = None
        self._compact_cancelled = False
        self._sync_count = 0
        self._sync_seconds = 0.0
        self._write_bytes = 0
        self._write_options = rocksdict.WriteOptions()
        self._write_options.no_slowdown = True
        try:
            stored = set(families)
            if read_only:
                stored &= set(rocksdict.Rdict.list_cf(str(path), rocksdict.Options(raw_mode=True)))
            self._db = rocksdict.Rdict(
                str(path),
                _database_options(options, self._cache, create=not exists),
                column_families={
                    name: _family_options(options, self._cache) for name in sorted(stored)
                },
                access_type=(
                    rocksdict.AccessType.read_only(False)
                    if read_only
                    else rocksdict.AccessType.read_write()
                ),
            )
            # The default family is never written: it stands for those not yet there.
            self._families = {
                name: self._db.get_column_family(name if name in stored else "default")
                for name in families
            }
            self._handles = {name: self._db.get_column_family_handle(name) for name in stored}
        except Exception as exc:
            raise _open_error(path, exc) from exc
        self._gets = {name: family.get for name, family in self._families.items()}

    @classmethod
    def open_read_only(
        cls, path: Path, families: Sequence[str], options: RocksOptions
    ) -> RocksBackend:
        """What a real open would find, WAL included; no data, log or manifest file is touched.

        The binding rewrites its own `rocksdict-config.json`, which nothing
        depends on. Families that are not there yet read as empty. The WAL is
        replayed into memory, whatever the memtable limits say.
        """
        if not cls.exists(path):
            raise Corrupt(f"{path}: no database here")
        return cls(path, families, options, read_only=True)

    @staticmethod
    def exists(path: Path) -> bool:
        """Whether a database is there. Raises Corrupt when there are only remains of one.

        A start that died while creating one leaves no CURRENT and no data: False.
        """
        if (path / "CURRENT").exists():
            return True
        if path.exists() and any(file.suffix in (".sst", ".log") for file in path.iterdir()):
            raise Corrupt(f"{path}: the file CURRENT is missing among the files of a database")
        return False

    # ── reads ───────────────────────────────────────────────────────────────

    def get(self, family: str, key: bytes) -> bytes | None:
        read = self._gets[family]
        try:
            value: bytes | None = read(key)
        except Exception as exc:
            raise self.fail_for_good(exc) from exc
        return value

    def iterate(
        self, family: str, lower: bytes = b"", upper: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        cursor = _cursor(self._families[family], upper)
        if reverse:
            cursor.seek_to_last()
            return self._rows_backward(cursor, lower, upper)
        cursor.seek(lower)
        return self._rows_forward(cursor, upper)

    def keys(self, family: str, lower: bytes = b"", upper: bytes | None = None) -> Iterator[bytes]:
        cursor = _cursor(self._families[family], upper)
        cursor.seek(lower)
        return self._keys_forward(cursor, upper)

    def snapshot(self) -> RocksSnapshot:
        """Call it on the writing thread: one view per family is taken, one after the other."""
        return RocksSnapshot(self, self._families)

    # In each of the three `_held` is the upper bound, kept alive as long as the cursor.

    def _rows_forward(
        self, cursor: rocksdict.RdictIter, _held: bytes | None
    ) -> Iterator[tuple[bytes, bytes]]:
        valid, key, value, step = cursor.valid, cursor.key, cursor.value, cursor.next
        while valid():
            yield key(), value()
            step()
        self.check(cursor)

    def _rows_backward(
        self, cursor: rocksdict.RdictIter, lower: bytes, _held: bytes | None
    ) -> Iterator[tuple[bytes, bytes]]:
        while cursor.valid():
            key = cursor.key()
            if key < lower:
                return
            yield key, cursor.value()
            cursor.prev()
        self.check(cursor)

    def _keys_forward(self, cursor: rocksdict.RdictIter, _held: bytes | None) -> Iterator[bytes]:
        valid, key, step = cursor.valid, cursor.key, cursor.next
        while valid():
            yield key()
            step()
        self.check(cursor)

    def check(self, cursor: rocksdict.RdictIter) -> None:
        """Owed at the end of every loop: an iterator stops at a corrupt block like at the end."""
        try:
            cursor.status()
        except Exception as exc:
            raise self.fail_for_good(exc) from exc

    # ── writes ──────────────────────────────────────────────────────────────

    def batch(self) -> RocksBatch:
        return RocksBatch(self._handles)

    def write(self, batch: WriteBatch) -> None:
        assert isinstance(batch, RocksBatch) and not self._read_only
        self._ensure_sound()
        rows = batch.rows
        size = rows.size_in_bytes()
        try:
            self._db.write(rows, self._write_options)
        except Exception as exc:
            text = str(exc)
            if "Write stall" in text:
                raise Stalled(f"{self._path}: {text}") from exc
            if "No space left" in text:
                raise DiskFull(f"{self._path}: {text}") from exc
            if "Corruption" in text:
                raise self.fail_for_good(exc) from exc
            raise self._sync_failed(exc) from exc
        self._write_bytes += size

    def sync(self) -> None:
        self._ensure_sound()
        started = time.perf_counter()
        try:
            self._db.flush_wal(True)
        except Exception as exc:
            raise self._sync_failed(exc) from exc
        self._sync_count += 1
        self._sync_seconds += time.perf_counter() - started

    # ── copies and care ─────────────────────────────────────────────────────

    def checkpoint(self, path: Path) -> None:
        """Flushes first, without the GIL: what the checkpoint itself has to flush, it flushes
        holding it (75 ms for 25 MB)."""
        self.sync()
        try:
            for family in self._families.values():
                family.flush()
            rocksdict.Checkpoint(self._db).create_checkpoint(str(path))
        except Exception as exc:
            raise self._care_error(exc) from exc

    def compact(self) -> None:
        try:
            for family in list(self._families.values()):
                if not self._compact_cancelled:
                    family.compact_range(None, None)
        except Exception as exc:
            if not self._compact_cancelled:
                raise self._care_error(exc) from exc

    def cancel_compact(self) -> None:
        """Ends all background work of the engine: what is in its memory stays in the WAL."""
        self._compact_cancelled = True
        self._db.cancel_all_background(False)

    def approximate_size(self, family: str, lower: bytes, upper: bytes | None) -> int:
        """Exact for up to 4096 rows; for more it is the whole family's: nothing finer is bound."""
        size = 0
        for count, (key, value) in enumerate(self.iterate(family, lower, upper)):
            if count == SIZED_ROWS_MAX:
                return self._property(family, "estimate-live-data-size") + self._property(
                    family, "cur-size-all-mem-tables"
                )
            size += len(key) + len(value)
        return size

    def statistics(self) -> StorageStatistics:
        disk_bytes = 0
        for file in os.scandir(self._path):
            with suppress(FileNotFoundError):  # compaction deletes files while we look
                disk_bytes += file.stat().st_size
        return StorageStatistics(
            disk_bytes=disk_bytes,
            live_bytes=sum(self._property(name, "estimate-live-data-size") for name in self._gets),
            memtable_bytes=sum(
                self._property(name, "cur-size-all-mem-tables") for name in self._gets
            ),
            block_cache_bytes=self._cache.get_usage(),
            sync_count=self._sync_count,
            sync_seconds=self._sync_seconds,
            write_bytes=self._write_bytes,
        )

    def _property(self, family: str, name: str) -> int:
        return self._families[family].property_int_value(f"rocksdb.{name}") or 0

    def close(self) -> None:
        """The binding flushes the memtables, so that the next open has nothing to replay."""
        self._gets.clear()
        self._families.clear()
        self._handles.clear()
        with suppress(Exception):  # of its last flush: what was not synced was promised to nobody
            self._db.close()

    # ── failures ────────────────────────────────────────────────────────────

    def _ensure_sound(self) -> None:
        if self._failure is not None:
            raise type(self._failure)(self._failure.detail)

    def fail_for_good(self, exc: Exception) -> Exception:
        """Of a read, or of what the engine itself calls corrupt. Programmers' errors pass."""
        if type(exc) is not Exception:  # the binding raises plain Exception for the engine's errors
            return exc
        self._failure = Corrupt(f"{self._path}: {exc}")
        return self._failure

    def _sync_failed(self, exc: Exception) -> Exception:
        if type(exc) is not Exception:
            return exc
        self._failure = SyncFailed(f"{self._path}: {exc}")
        return self._failure

    def _care_error(self, exc: Exception) -> Exception:
        if "No space left" in str(exc):
            return DiskFull(f"{self._path}: {exc}")
        if "Corruption" in str(exc):
            return self.fail_for_good(exc)
        return self._sync_failed(exc)


class RocksBatch:
    """A WriteBatch of the binding with families by name. Written once."""

    __slots__ = ("_delete", "_handles", "_put", "rows")

    def __init__(self, handles: dict[str, rocksdict.ColumnFamily]) -> None:
        self.rows = rocksdict.WriteBatch(raw_mode=True)
        self._handles = handles
        self._put = self.rows.put
        self._delete = self.rows.delete

    def put(self, family: str, key: bytes, value: bytes) -> None:
        self._put(key, value, self._handles[family])

    def delete(self, family: str, key: bytes) -> None:
        self._delete(key, self._handles[family])

    def delete_range(self, family: str, lower: bytes, upper: bytes) -> None:
        assert lower <= upper, (lower, upper)
        self.rows.delete_range(lower, upper, self._handles[family])

    def __len__(self) -> int:
        return len(self.rows)


class RocksSnapshot:
    """One frozen view per family: a snapshot for `get`, a pinned cursor for the rest.

    All iterations over a family share its cursor: whoever finds that another
    one has moved it, moves it back to where it was.
    """

    def __init__(self, backend: RocksBackend, families: dict[str, rocksdict.Rdict]) -> None:
        self._backend = backend
        self._views = {name: family.snapshot() for name, family in families.items()}
        self._cursors = {name: family.iter() for name, family in families.items()}
        self._users: dict[str, object] = {}  # family: the iteration that moved its cursor last

    def get(self, family: str, key: bytes) -> bytes | None:
        view = self._views[family]
        try:
            value: bytes = view[key]
        except Exception as exc:
            if str(exc) == "key not found":
                return None
            raise self._backend.fail_for_good(exc) from exc
        return value

    def iterate(
        self, family: str, lower: bytes = b"", upper: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        cursor = self._cursors[family]
        if reverse:
            return self._rows_backward(family, cursor, lower, upper)
        return self._rows_forward(family, cursor, lower, upper)

    def keys(self, family: str, lower: bytes = b"", upper: bytes | None = None) -> Iterator[bytes]:
        return (key for key, _ in self.iterate(family, lower, upper))

    def close(self) -> None:
        self._views.clear()
        self._cursors.clear()

    def _rows_forward(
        self, family: str, cursor: rocksdict.RdictIter, lower: bytes, upper: bytes | None
    ) -> Iterator[tuple[bytes, bytes]]:
        user = self._users[family] = object()
        cursor.seek(lower)
        while cursor.valid():
            key = cursor.key()
            if upper is not None and key >= upper:
                return
            yield key, cursor.value()
            if self._users[family] is not user:
                self._users[family] = user
                cursor.seek(key)
            cursor.next()
        self._backend.check(cursor)

    def _rows_backward(
        self, family: str, cursor: rocksdict.RdictIter, lower: bytes, upper: bytes | None
    ) -> Iterator[tuple[bytes, bytes]]:
        user = self._users[family] = object()
        if upper is None:
            cursor.seek_to_last()
        else:
            cursor.seek_for_prev(upper)
            if cursor.valid() and cursor.key() == upper:
                cursor.prev()
        while cursor.valid():
            key = cursor.key()
            if key < lower:
                return
            yield key, cursor.value()
            if self._users[family] is not user:
                self._users[family] = user
                cursor.seek(key)
            cursor.prev()
        self._backend.check(cursor)


# ── settings ────────────────────────────────────────────────────────────────


def _cursor(family: rocksdict.Rdict, upper: bytes | None) -> rocksdict.RdictIter:
    """The caller keeps `upper` alive as long as the cursor."""
    if upper is None:
        return family.iter()
    bounds = rocksdict.ReadOptions()
    bounds.set_iterate_upper_bound(upper)
    return family.iter(bounds)


def _database_options(
    options: RocksOptions, cache: rocksdict.Cache, *, create: bool
) -> rocksdict.Options:
    database = _family_options(options, cache)
    database.create_if_missing(create)
    database.create_missing_column_families(True)  # of a newer version than the directory's
    database.set_paranoid_checks(True)
    database.set_wal_recovery_mode(rocksdict.DBRecoveryMode.point_in_time())
    database.set_recycle_log_file_num(options.wal_recycle_files)
    database.set_max_total_wal_size(options.wal_bytes_max)
    database.set_db_write_buffer_size(options.memtable_bytes_max)
    database.set_max_background_jobs(2)
    database.set_bytes_per_sync(
        MIB
    )  # of SST files: spreads write-back, so that WAL syncs stay short
    database.set_max_open_files(512)
    database.set_max_manifest_file_size(16 * MIB)
    database.set_manifest_preallocation_size(64 * KIB)
    database.set_keep_log_file_num(2)
    database.set_max_log_file_size(MIB)
    database.set_stats_dump_period_sec(0)
    database.set_stats_persist_period_sec(0)
    return database


def _family_options(options: RocksOptions, cache: rocksdict.Cache) -> rocksdict.Options:
    table = rocksdict.BlockBasedOptions()
    table.set_format_version(5)
    table.set_block_size(16 * KIB)
    table.set_block_cache(cache)
    # Index and filters in pieces and in the cache: memory does not grow with the number of keys.
    table.set_cache_index_and_filter_blocks(True)
    table.set_pin_top_level_index_and_filter(True)
    table.set_pin_l0_filter_and_index_blocks_in_cache(True)
    table.set_index_type(rocksdict.BlockBasedIndexType.two_level_index_search())
    if options.bloom_bits:
        table.set_bloom_filter(options.bloom_bits, False)
        table.set_partition_filters(True)
        table.set_metadata_block_size(4 * KIB)
    family = rocksdict.Options(raw_mode=True)
    family.set_block_based_table_factory(table)
    family.set_write_buffer_size(options.write_buffer_bytes)
    family.set_max_write_buffer_number(options.write_buffers_max)
    if options.bloom_bits:
        # Of the memtable's own: a get that is not answered there skips its skip list (−2 µs).
        family.set_memtable_prefix_bloom_ratio(0.05)
        family.set_memtable_whole_key_filtering(True)
    family.set_level_compaction_dynamic_level_bytes(True)
    family.set_level_zero_file_num_compaction_trigger(8)  # small WAL, small files: merge more
    compression = rocksdict.DBCompressionType
    family.set_compression_type(compression.lz4() if options.compressed else compression.none())
    return family


def _open_error(path: Path, exc: Exception) -> Exception:
    text = str(exc)
    if type(exc) is not Exception:
        return exc
    if "/LOCK:" in text:
        return DataDirLocked(f"{path} is in use: {text}")
    if "No space left" in text:
        return DiskFull(f"{path} could not be opened, opening needs some free space: {text}")
    if "Column families not opened" in text:
        return UnknownFormat(
            f"{path} was written by a newer version, which knows more column families: {text}"
        )
    return Corrupt(f"{path} could not be opened: {text}")
