"""The storage contract on RocksDB, through rocksdict. Only the `rocks*` files touch
the binding.

Rules, each the answer to something measured (rocksdict 0.3.29, tests/storage/test_rocks.py):

- `write` never syncs: the binding would hold the GIL for the whole sync. `sync` is
  `flush_wal(True)`, which releases it. Flush and compaction release it, a checkpoint, which flushes
  too, does not: that is why we make our own.
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
- The binding flushes a family when its last object goes, closed or not, with some four syncs: at a
  stop everybody waited behind them who shares the disk. An engine that was told to end its
  background work refuses, so that one that is closed or replaced is told so first.
- After a full disk RocksDB resumes by itself when the failed write was a flush; when it was the
  WAL's, its writer is dead for this process, and the next sync says so.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
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
from chainfire.storage.rocks_batch import RocksBatch
from chainfire.storage.rocks_copy import copy_database
from chainfire.storage.rocks_options import RocksOptions, database_options, family_options
from chainfire.storage.rocks_snapshot import RocksSnapshot

__all__ = ["RocksBackend", "RocksOptions"]

SIZED_ROWS_MAX = 4096  # `approximate_size` walks that many rows before it guesses


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
        self._options = options
        self._family_names = tuple(families)
        self._cache = rocksdict.Cache(options.block_cache_bytes)
        self._read_only = read_only
        self._failure: StorageError | None = None
        self._compact_cancelled = False
        self._sync_count = 0
        self._sync_seconds = 0.0
        self._write_bytes = 0
        self._write_options = rocksdict.WriteOptions()
        self._write_options.no_slowdown = True
        self._open(path)

    def _open(self, path: Path) -> None:
        options, families, read_only = self._options, self._family_names, self._read_only
        exists = self.exists(path)
        try:
            stored = set(families)
            if read_only:
                stored &= set(rocksdict.Rdict.list_cf(str(path), rocksdict.Options(raw_mode=True)))
            db = rocksdict.Rdict(
                str(path),
                database_options(options, self._cache, create=not exists),
                column_families={
                    name: family_options(options, self._cache) for name in sorted(stored)
                },
                access_type=(
                    rocksdict.AccessType.read_only(False)
                    if read_only
                    else rocksdict.AccessType.read_write()
                ),
            )
            # The default family is never written: it stands for those not yet there.
            self._families = {
                name: db.get_column_family(name if name in stored else "default")
                for name in families
            }
            self._handles = {name: db.get_column_family_handle(name) for name in stored}
        except Exception as exc:
            raise _open_error(path, exc) from exc
        self._path, self._db = path, db
        self._gets = {name: family.get for name, family in self._families.items()}

    def reopen(self, path: Path) -> None:
        """Go on with another database of the same families in the place of this one.

        Views of the old one that are open, and a sync or compaction of it that is
        under way on a thread, end by themselves: the binding closes a database
        with its last user.
        """
        self._db.cancel_all_background(False)
        self._open(path)

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
        return RocksSnapshot(self._families, self.check, self.fail_for_good)

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
            raise self._write_error(exc) from exc
        self._write_bytes += size

    def _write_error(self, exc: Exception) -> Exception:
        text = str(exc)
        if "Write stall" in text:
            return Stalled(f"{self._path}: {text}")
        if "No space left" in text:
            return DiskFull(f"{self._path}: {text}")
        if "Corruption" in text:
            return self.fail_for_good(exc)
        return self._sync_failed(exc)

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
        """By ourselves, without stopping anybody (`rocks_copy`), where the files allow it."""
        self.sync()
        try:
            if copy_database(self._path, path, self._versions):
                return
        except OSError as exc:
            if exc.errno == errno.ENOSPC:
                raise DiskFull(f"{path}: {exc.strerror}") from exc
            # Otherwise a file system without hard links, most likely: the engine copies there.
        try:
            for family in self._families.values():  # first, without the GIL
                family.flush()
            rocksdict.Checkpoint(self._db).create_checkpoint(str(path))
        except Exception as exc:
            raise self._care_error(exc) from exc

    def _versions(self) -> list[int]:
        return [self._property(name, "current-super-version-number") for name in self._gets]

    def compact(self) -> None:
        db = self._db
        beside_others = rocksdict.CompactOptions()
        beside_others.set_exclusive_manual_compaction(False)
        try:
            for family in list(self._families.values()):
                if not self._compact_cancelled and db is self._db:
                    family.compact_range(None, None, beside_others)
        except Exception as exc:
            if not self._compact_cancelled and db is self._db:
                raise self._care_error(exc) from exc

    def cancel_compact(self) -> None:
        """Ends all background work of the engine: what is in its memory stays in the WAL."""
        self._compact_cancelled = True
        self._db.cancel_all_background(False)

    def scrub(self, family: str, lower: bytes, bytes_max: int) -> bytes | None:
        options = rocksdict.ReadOptions()
        options.fill_cache(False)  # type: ignore[call-arg]  # the stub forgets its argument
        cursor = self._families[family].iter(options)
        cursor.seek(lower)
        for key, value in self._rows_forward(cursor, None):
            bytes_max -= len(key) + len(value)
            if bytes_max <= 0:
                return key + b"\0"
        return None

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
        """Sync the WAL, and no more: the next open replays it, as after a crash."""
        with suppress(Exception):  # it is closed already
            self._db.cancel_all_background(False)
        self._gets.clear()
        self._families.clear()
        self._handles.clear()
        with suppress(Exception):  # what was not synced was promised to nobody
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


def _cursor(family: rocksdict.Rdict, upper: bytes | None) -> rocksdict.RdictIter:
    """The caller keeps `upper` alive as long as the cursor."""
    options = rocksdict.ReadOptions()
    if upper is not None:
        options.set_iterate_upper_bound(upper)
    # Else who closes the last walk over files that were merged away unlinks them: 30 ms for 64 MiB.
    options.set_background_purge_on_iterator_cleanup(True)
    return family.iter(options)


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
