"""The storage contract in memory, for tests and the simulator. It also models what a disk does.

A family is a list of sorted chunks. A snapshot is two references: whoever
writes next copies the list, and only the chunks that it touches.

The disk: `crash(keep)` is the backend that the next start would find: all
that was synced, and the first `keep` of the batches written since.
`fail_next_sync`, `full` and `stalled` are the failures of a real one, and a
sync may be late (`sync_first`): it then covers less than was written.
"""

from __future__ import annotations

import struct
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from chainfire.errors import Corrupt, DiskFull, Stalled, SyncFailed
from chainfire.storage.backend import StorageStatistics, WriteBatch

CHUNK_ROWS_MAX = 256
# Then what is synced becomes the durable image: at once where that is all, later where it is not.
JOURNAL_BATCHES_MAX = 250
REPLAYED_BATCHES_MAX = 4000
_LENGTHS = struct.Struct(">III")  # of family name, key and value in a checkpoint's file
_CHECKPOINT_FILE = "rows"

_PUT, _DELETE, _DELETE_RANGE = range(3)
_Op = tuple[int, str, bytes, bytes]  # kind, family, key or lower, value or upper


class MemoryBackend:
    """A StorageBackend on sorted chunks."""

    def __init__(
        self,
        families: Sequence[str],
        image: Mapping[str, _View] | None = None,
        batches: Iterable[list[_Op]] = (),
    ) -> None:
        """Empty families; or what is on a disk: an image, and batches written after it."""
        self.full = False  # writes raise DiskFull and change nothing
        self.stalled = False  # writes raise Stalled and change nothing
        self._families = {name: _Family([], []) for name in families}
        if image is not None:
            self._families = {name: view.thaw() for name, view in image.items()}
        for ops in batches:
            _apply(self._families, ops)
        self._durable = self._freeze()
        # Batches written since `_durable` was taken, the first `_synced` of them durable, too: an
        # image after each sync would make the next write copy every chunk that it touches.
        self._journal: list[list[_Op]] = []
        self._synced = 0
        self._next_sync_fails = False
        self._failure: SyncFailed | None = None
        self._closed = False
        self._lock = threading.Lock()  # sync and checkpoint may run beside a write
        self._sync_count = 0
        self._write_bytes = 0  # of what is no longer in the journal

    # ── the disk ────────────────────────────────────────────────────────────

    @property
    def unsynced_batches(self) -> int:
        return len(self._journal) - self._synced

    @property
    def failed(self) -> bool:
        """A sync has failed: what it covered may be on the disk, or not."""
        return self._failure is not None

    def fail_next_sync(self) -> None:
        """The next sync raises SyncFailed; a `crash` then decides what had reached the disk."""
        self._next_sync_fails = True

    def crash(self, keep: int) -> Self:
        """A new backend: what was synced, and the first `keep` batches written after that."""
        assert 0 <= keep <= self.unsynced_batches, (keep, self.unsynced_batches)
        if keep == self.unsynced_batches:
            return type(self)((), self._freeze())
        return type(self)((), self._durable, self._journal[: self._synced + keep])

    def become(self, other: MemoryBackend) -> None:
        """Hold, durably, what the other one holds, under the eyes of whoever uses this one."""
        full, stalled = self.full, self.stalled
        MemoryBackend.__init__(self, (), other._freeze())
        self.full, self.stalled = full, stalled

    # ── reads ───────────────────────────────────────────────────────────────

    def get(self, family: str, key: bytes) -> bytes | None:
        return self._families[family].get(key)

    def iterate(
        self, family: str, lower: bytes = b"", upper: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        return self._families[family].freeze().iterate(lower, upper, reverse)

    def keys(self, family: str, lower: bytes = b"", upper: bytes | None = None) -> Iterator[bytes]:
        return self._families[family].freeze().keys(lower, upper)

    def snapshot(self) -> MemorySnapshot:
        assert not self._closed
        return MemorySnapshot(self._freeze())

    # ── writes ──────────────────────────────────────────────────────────────

    def batch(self) -> MemoryBatch:
        return MemoryBatch()

    def write(self, batch: WriteBatch) -> None:
        assert isinstance(batch, MemoryBatch) and not self._closed
        if self._failure is not None:
            raise SyncFailed(self._failure.detail)
        if self.full:
            raise DiskFull("no space left on the simulated disk")
        if self.stalled:
            raise Stalled("the simulated disk asks to wait")
        ops = batch.take()
        with self._lock:
            _apply(self._families, ops)
            self._journal.append(ops)

    def write_row(self, family: str, key: bytes, value: bytes) -> None:
        batch = self.batch()
        batch.put(family, key, value)
        self.write(batch)

    def begin_sync(self) -> None:
        pass

    def sync(self) -> None:
        self.sync_first(self.unsynced_batches)

    def sync_first(self, count: int) -> None:
        """As `sync`, of the first `count` batches that are not durable yet."""
        assert not self._closed
        assert count <= self.unsynced_batches, (count, self.unsynced_batches)
        if self._next_sync_fails and self._failure is None:
            self._failure = SyncFailed("the simulated disk failed a sync")
        if self._failure is not None:
            raise SyncFailed(self._failure.detail)
        with self._lock:
            self._synced += count
            if self._synced > JOURNAL_BATCHES_MAX and (
                self._synced == len(self._journal) or self._synced > REPLAYED_BATCHES_MAX
            ):
                self._fold()
        self._sync_count += 1

    def sync_descriptor(self) -> None:
        return None

    def synced_outside(self, error_number: int, seconds: float) -> None:
        raise AssertionError("nobody was given a descriptor")

    def _fold(self) -> None:
        """Make what is synced part of the image."""
        synced = self._journal[: self._synced]
        self._write_bytes += _weight(synced)
        if self._synced == len(self._journal):
            self._durable = self._freeze()
        else:
            families = {name: view.thaw() for name, view in self._durable.items()}
            for ops in synced:
                _apply(families, ops)
            self._durable = {name: family.freeze() for name, family in families.items()}
        del self._journal[: self._synced]
        self._synced = 0

    # ── copies and care ─────────────────────────────────────────────────────

    def checkpoint(self, path: Path) -> None:
        """A directory with one file of rows; `MemoryBackend.open` reads it."""
        with self._lock:
            views = self._freeze()
        path.mkdir()
        with (path / _CHECKPOINT_FILE).open("wb") as file:
            for name, view in views.items():
                for key, value in view.iterate(b"", None, reverse=False):
                    family = name.encode()
                    file.write(_LENGTHS.pack(len(family), len(key), len(value)))
                    file.write(family + key + value)

    @classmethod
    def open(cls, path: Path, families: Sequence[str]) -> MemoryBackend:
        backend = cls(families)
        backend.reopen(path)
        return backend

    def reopen(self, path: Path) -> None:
        """Go on with a checkpoint in the place of what is here; durable as it is."""
        families = {name: _Family([], []) for name in self._families}
        for name, key, value in _checkpoint_rows(path):
            families[name].put(key, value)
        with self._lock:
            self._families = families
            self._durable = self._freeze()
            self._write_bytes += _weight(self._journal)
            self._journal, self._synced = [], 0

    def compact(self) -> None:
        """Nothing to do: a deleted row is gone."""

    def cancel_compact(self) -> None:
        """Nothing to cancel."""

    def scrub(self, family: str, lower: bytes, bytes_max: int) -> bytes | None:
        for key, value in self.iterate(family, lower):
            bytes_max -= len(key) + len(value)
            if bytes_max <= 0:
                return key + b"\0"
        return None

    def approximate_size(self, family: str, lower: bytes, upper: bytes | None) -> int:
        return sum(len(key) + len(value) for key, value in self.iterate(family, lower, upper))

    def statistics(self) -> StorageStatistics:
        row_bytes = sum(self.approximate_size(name, b"", None) for name in self._families)
        return StorageStatistics(
            disk_bytes=row_bytes,
            live_bytes=row_bytes,
            memtable_bytes=row_bytes,
            block_cache_bytes=0,
            sync_count=self._sync_count,
            sync_seconds=0.0,
            write_bytes=self._write_bytes + _weight(self._journal),
        )

    def close(self) -> None:
        self._closed = True

    def _freeze(self) -> dict[str, _View]:
        return {name: family.freeze() for name, family in self._families.items()}


def _weight(batches: Iterable[list[_Op]]) -> int:
    return sum(len(op[2]) + len(op[3]) for ops in batches for op in ops)


def _apply(families: Mapping[str, _Family], ops: Iterable[_Op]) -> None:
    for kind, name, key, value in ops:
        family = families[name]
        if kind == _PUT:
            family.put(key, value)
        elif kind == _DELETE:
            family.delete(key)
        else:
            for row_key in family.freeze().keys(key, value):
                family.delete(row_key)


def _checkpoint_rows(path: Path) -> Iterator[tuple[str, bytes, bytes]]:
    """Family, key and value of each row. Raises Corrupt."""
    data = (path / _CHECKPOINT_FILE).read_bytes()
    at = 0
    while at < len(data):
        try:
            family_bytes, key_bytes, value_bytes = _LENGTHS.unpack_from(data, at)
        except struct.error as exc:
            raise Corrupt(f"{path}: a row is cut short at byte {at}") from exc
        key_at = at + _LENGTHS.size + family_bytes
        value_at = key_at + key_bytes
        family = data[at + _LENGTHS.size : key_at].decode()
        at = value_at + value_bytes
        if at > len(data):
            raise Corrupt(f"{path}: a row is cut short at byte {len(data)}")
        yield family, data[key_at:value_at], data[value_at:at]


class MemoryBatch:
    """A WriteBatch: the list of what is to be done. Written once."""

    def __init__(self) -> None:
        self._ops: list[_Op] | None = []

    def put(self, family: str, key: bytes, value: bytes) -> None:
        assert self._ops is not None, "the batch was written"
        self._ops.append((_PUT, family, key, value))

    def delete(self, family: str, key: bytes) -> None:
        assert self._ops is not None, "the batch was written"
        self._ops.append((_DELETE, family, key, b""))

    def change(self, family: str, rows: Mapping[bytes, bytes | None]) -> None:
        ops = self._ops
        assert ops is not None, "the batch was written"
        for key, value in rows.items():
            ops.append((_DELETE, family, key, b"") if value is None else (_PUT, family, key, value))

    def delete_range(self, family: str, lower: bytes, upper: bytes) -> None:
        assert self._ops is not None, "the batch was written"
        assert lower <= upper, (lower, upper)
        self._ops.append((_DELETE_RANGE, family, lower, upper))

    def __len__(self) -> int:
        return len(self._ops or ())

    def take(self) -> list[_Op]:
        assert self._ops is not None, "the batch was written"
        ops, self._ops = self._ops, None
        return ops


class MemorySnapshot:
    """A frozen view of all families."""

    def __init__(self, views: dict[str, _View]) -> None:
        self._views = views

    def get(self, family: str, key: bytes) -> bytes | None:
        return self._views[family].get(key)

    def iterate(
        self, family: str, lower: bytes = b"", upper: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        return self._views[family].iterate(lower, upper, reverse)

    def keys(self, family: str, lower: bytes = b"", upper: bytes | None = None) -> Iterator[bytes]:
        return self._views[family].keys(lower, upper)

    def close(self) -> None:
        self._views = {}


# ── sorted chunks ───────────────────────────────────────────────────────────


class _Chunk:
    __slots__ = ("keys", "owner", "values")

    def __init__(self, keys: list[bytes], values: list[bytes], owner: object) -> None:
        self.keys = keys
        self.values = values
        self.owner = owner  # who may change it in place; anybody else copies it first


class _View:
    """Chunks in key order. Never changes."""

    __slots__ = ("chunks", "firsts")

    def __init__(self, chunks: list[_Chunk], firsts: list[bytes]) -> None:
        self.chunks = chunks
        self.firsts = firsts  # invariant: firsts[i] == chunks[i].keys[0]; no chunk is empty

    def thaw(self) -> _Family:
        return _Family(self.chunks.copy(), self.firsts.copy())

    def get(self, key: bytes) -> bytes | None:
        at = bisect_right(self.firsts, key) - 1
        if at < 0:
            return None
        chunk = self.chunks[at]
        row = bisect_left(chunk.keys, key)
        if row < len(chunk.keys) and chunk.keys[row] == key:
            return chunk.values[row]
        return None

    def iterate(
        self, lower: bytes, upper: bytes | None, reverse: bool
    ) -> Iterator[tuple[bytes, bytes]]:
        if not reverse:
            for chunk, start, stop in self._spans(lower, upper):
                yield from zip(chunk.keys[start:stop], chunk.values[start:stop], strict=True)
            return
        for chunk, start, stop in reversed(list(self._spans(lower, upper))):
            for row in range(stop - 1, start - 1, -1):
                yield chunk.keys[row], chunk.values[row]

    def keys(self, lower: bytes, upper: bytes | None) -> Iterator[bytes]:
        for chunk, start, stop in self._spans(lower, upper):
            yield from chunk.keys[start:stop]

    def _spans(self, lower: bytes, upper: bytes | None) -> Iterator[tuple[_Chunk, int, int]]:
        for at in range(max(bisect_right(self.firsts, lower) - 1, 0), len(self.chunks)):
            chunk = self.chunks[at]
            if upper is not None and chunk.keys[0] >= upper:
                return
            start = bisect_left(chunk.keys, lower)
            stop = len(chunk.keys) if upper is None else bisect_left(chunk.keys, upper)
            if start < stop:
                yield chunk, start, stop


class _Family(_View):
    """Chunks that change, copied on write where a view shares them."""

    __slots__ = ("_owner",)

    def __init__(self, chunks: list[_Chunk], firsts: list[bytes]) -> None:
        super().__init__(chunks, firsts)
        self._owner: object | None = object()  # None: a view shares the two lists

    def freeze(self) -> _View:
        self._owner = None
        return _View(self.chunks, self.firsts)

    def put(self, key: bytes, value: bytes) -> None:
        if self._owner is None:
            self._own()
        chunks, firsts = self.chunks, self.firsts
        if not chunks:
            chunks.append(_Chunk([key], [value], self._owner))
            firsts.append(key)
            return
        at = len(firsts) - 1
        if key < firsts[at]:
            at = max(0, bisect_right(firsts, key) - 1)
        chunk = chunks[at]
        if chunk.owner is not self._owner:
            chunk = self._own_chunk(at)
        keys = chunk.keys
        row = len(keys) if keys[-1] < key else bisect_left(keys, key)  # most rows come in order
        if row < len(keys) and keys[row] == key:
            chunk.values[row] = value
            return
        keys.insert(row, key)
        chunk.values.insert(row, value)
        if not row:
            firsts[at] = key
        if len(keys) > CHUNK_ROWS_MAX:
            self._split(at)

    def delete(self, key: bytes) -> None:
        if self._owner is None:
            self._own()
        at = bisect_right(self.firsts, key) - 1
        if at < 0:
            return
        chunk = self.chunks[at]
        row = bisect_left(chunk.keys, key)
        if row == len(chunk.keys) or chunk.keys[row] != key:
            return
        if chunk.owner is not self._owner:
            chunk = self._own_chunk(at)
        del chunk.keys[row], chunk.values[row]
        if not chunk.keys:
            del self.chunks[at], self.firsts[at]
        elif not row:
            self.firsts[at] = chunk.keys[0]

    def _split(self, at: int) -> None:
        chunk = self.chunks[at]
        half = len(chunk.keys) // 2
        tail = _Chunk(chunk.keys[half:], chunk.values[half:], self._owner)
        del chunk.keys[half:], chunk.values[half:]
        self.chunks.insert(at + 1, tail)
        self.firsts.insert(at + 1, tail.keys[0])

    def _own(self) -> None:
        self.chunks = self.chunks.copy()
        self.firsts = self.firsts.copy()
        self._owner = object()

    def _own_chunk(self, at: int) -> _Chunk:
        shared = self.chunks[at]
        chunk = _Chunk(shared.keys.copy(), shared.values.copy(), self._owner)
        self.chunks[at] = chunk
        return chunk
