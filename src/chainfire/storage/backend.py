"""The storage contract: ordered column families, atomic batches, consistent snapshots.

What a crash may keep: a prefix of whole batches, in the order of `write`, at
least up to the last one before the last `sync` that returned. Reads see a
batch as soon as `write` returned, durable or not: nothing may be
acknowledged, voted or shown to others before `sync` has returned.

One thread writes; `sync`, `checkpoint` and `compact` may run on another one
beside it. Errors are those of `chainfire.errors`: Corrupt, DiskFull, Stalled,
SyncFailed. After Corrupt, or SyncFailed, the backend refuses every later
write with the same error.

Two kinds, one contract suite (tests/storage/): `LogBackend` is what `log/` needs (`wal.py`), and
`StorageBackend` what `state/` needs (RocksDB). Memory is both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

LOG_FAMILIES = ("raft_logs", "raft_meta")
STATE_FAMILIES = (
    "key_value",
    "key_history",
    "revisions",
    "leases",
    "auth",
    "keyspaces",
    "members",
    "alarms",
    "machine",
)


class Reader(Protocol):
    """Point and range reads. Keys are ordered bytewise; `upper` is exclusive, None = no bound."""

    def get(self, family: str, key: bytes) -> bytes | None: ...

    def iterate(
        self, family: str, lower: bytes = b"", upper: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Rows with lower <= key < upper, as of the call; later writes are not seen.

        Raises Corrupt at the end of the loop if the engine stopped early.
        """
        ...

    def keys(self, family: str, lower: bytes = b"", upper: bytes | None = None) -> Iterator[bytes]:
        """`iterate` without the values, ascending: for counting."""
        ...


def keys_of(rows: Iterator[tuple[bytes, bytes]]) -> Iterator[bytes]:
    """The first of each pair."""
    for key, _ in rows:
        yield key


class Snapshot(Reader, Protocol):
    """A frozen view of all families. Close it soon: it keeps old data on disk."""

    def close(self) -> None: ...


class Freezable(Reader, Protocol):
    """A Reader that can be had as it is now."""

    def snapshot(self) -> Snapshot: ...


class Writer(Protocol):
    """Where effects are collected."""

    def put(self, family: str, key: bytes, value: bytes) -> None: ...

    def delete(self, family: str, key: bytes) -> None: ...


class WriteBatch(Writer, Protocol):
    """Effects that become visible and survive a crash together or not at all."""

    def change(self, family: str, rows: Mapping[bytes, bytes | None]) -> None:
        """Put every row, and delete those whose value is None."""
        ...

    def delete_range(self, family: str, lower: bytes, upper: bytes) -> None: ...

    def __len__(self) -> int: ...


@dataclass(slots=True, frozen=True)
class StorageStatistics:
    disk_bytes: int  # files on disk
    live_bytes: int  # the engine's estimate of what is not garbage
    memtable_bytes: int
    block_cache_bytes: int
    sync_count: int
    sync_seconds: float  # sum over all syncs
    write_bytes: int  # handed to `write` since open


class Backend(Reader, Protocol):
    """One store of rows. Opened by the implementation's own constructor."""

    def batch(self) -> WriteBatch: ...

    def write(self, batch: WriteBatch) -> None:
        """Make the batch readable, atomically; not durable yet.

        Raises DiskFull or Stalled with nothing written, SyncFailed or Corrupt for good.
        """
        ...

    def sync(self) -> None:
        """Return when every earlier `write` is durable. Raises SyncFailed, once and for all."""
        ...

    def scrub(self, family: str, lower: bytes, bytes_max: int) -> bytes | None:
        """Read rows from `lower` on, about `bytes_max` of them, only to meet damage before anybody
        needs them; nothing of it is kept in memory. Where to go on; None behind the last row.

        Raises Corrupt.
        """
        ...

    def statistics(self) -> StorageStatistics: ...

    def close(self) -> None:
        """Idempotent. Iterators and snapshots must be gone."""
        ...


class LogBackend(Backend, Protocol):
    """Of `log/`: written and synced all the time, read seldom."""

    def write_row(self, family: str, key: bytes, value: bytes) -> None:
        """As `write` of a batch with this row alone, cheaper."""
        ...

    def begin_sync(self) -> None:
        """A `sync` follows: start what it would wait for. May do nothing, and raises nothing."""
        ...

    def sync_descriptor(self) -> int | None:
        """A file whose fdatasync, begun now, makes every earlier `write` durable; None: use `sync`.

        For the thread that writes; `synced_outside` is owed. Raises as `write` after a failure.
        """
        ...

    def synced_outside(self, error_number: int, seconds: float) -> None:
        """How such an fdatasync has ended; 0: well. Raises SyncFailed, as `sync`."""
        ...


class StorageBackend(Backend, Protocol):
    """Of `state/`: read all the time, copied, and gone on with elsewhere."""

    def snapshot(self) -> Snapshot: ...

    def checkpoint(self, path: Path) -> None:
        """A copy, openable as a database of its own, of at least what was synced."""
        ...

    def reopen(self, path: Path) -> None:
        """Go on with the database at `path`, a checkpoint, in the place of this one.

        Views of the old one stay readable until they are closed.
        """
        ...

    def compact(self) -> None:
        """Give space back. Long; call it on a thread."""
        ...

    def cancel_compact(self) -> None:
        """Let a `compact` that runs on another thread return soon. Only before `close`."""
        ...

    def approximate_size(self, family: str, lower: bytes, upper: bytes | None) -> int: ...
