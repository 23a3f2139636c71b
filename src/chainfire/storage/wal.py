"""The log's own store: batches of rows, one behind the other, in files that are used again.

What a log needs of a database is little: rows that come at the end and go at the front, a few
facts beside them, and a sync that costs no more than the disk takes for it. So a batch is one
write of one record (`walformat.py`) into a file that has been written before (`walfiles.py`).

Memory holds where the entries stand, and all other rows themselves, which are small
(`waltable.py`). Each file begins with all of these, so that the files before it are needed for
their entries only. Once a file's last one is gone, the next header that is written does not lead
to it any more; and once that is durable, the file is used again (`walspares.py`).

A start reads as far as records go on (`walreplay.py`). Whether something that was promised is
missing then, the witness tells (`node/recovery.py`).
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from chainfire.errors import Corrupt, DiskFull, StorageError, SyncFailed
from chainfire.storage import walfiles, walreplay
from chainfire.storage.backend import StorageStatistics, WriteBatch
from chainfire.storage.walbatch import WalBatch
from chainfire.storage.walfiles import WalFile, error_of
from chainfire.storage.walformat import PUT, RECORD_BYTES, Header, encode_record, encode_row
from chainfire.storage.walspares import Spares
from chainfire.storage.waltable import Place, Record, Table
from chainfire.wheel import FAULT

if FAULT is None:
    from chainfire_native import start_writing
else:

    def start_writing(fd: int) -> None:
        pass


FILE_BYTES: Final = 4 << 20
_NEVER: Final = 1 << 62


class Wal:
    """A `LogBackend`. What `iterate` begins is to be read before a later write is synced."""

    def __init__(
        self,
        path: Path,
        families: Sequence[str],
        *,
        file_bytes: int = FILE_BYTES,
        read_only: bool = False,
    ) -> None:
        """Rows name their families by their places in `families`: new ones come at its end.

        Raises Corrupt, DiskFull, SyncFailed; UnknownFormat for a newer version's.
        """
        self._path = path
        self._families = {name: number for number, name in enumerate(families)}
        self._read_only = read_only
        self._table = Table(len(families), self._fail)
        self._live: deque[WalFile] = deque()  # the log's parts; the last one is written to
        self._spares = Spares(path, file_bytes)
        self._last_number = 0
        self._failure: StorageError | None = None
        self._lock = threading.Lock()  # the next five are looked at by a sync on another thread
        self._current: WalFile | None = None
        self._unsynced: list[WalFile] = []  # that were written to before it
        self._written = 0  # batches
        self._durable = 0  # of these
        self._outside = 0  # of these, once a sync ends well that is done elsewhere
        self._makes_at = 0  # so far written to, the current file wants a next one
        self._sync_count = 0
        self._sync_seconds = 0.0
        self._write_bytes = 0
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    @classmethod
    def open_read_only(cls, path: Path, families: Sequence[str]) -> Wal:
        """What a real open would find; no file is touched."""
        if not walreplay.exists(path):
            raise Corrupt(f"{path}: no log here")
        return cls(path, families, read_only=True)

    @staticmethod
    def exists(path: Path) -> bool:
        """Whether a log is there. Raises Corrupt when there are only remains of one, and
        UnknownFormat."""
        return walreplay.exists(path)

    def _open(self) -> None:
        path = self._path
        if not self._read_only:
            if not path.exists():
                path.mkdir(mode=0o700, parents=True)
                walfiles.sync_directory(path.parent)
            for left in path.glob("*.tmp"):
                left.unlink()
        files: list[WalFile] = []
        try:
            files += walreplay.open_files(path, read_only=self._read_only)
            self._live.extend(self._replay(files))
            last = self._live[-1].number if self._live else 0
            if not self._read_only:
                for file in sorted(files, key=lambda file: file.number, reverse=True):
                    if file.number > last:
                        file.clear()
            self._last_number = last
        except OSError as exc:
            raise error_of(path, exc) from exc
        finally:
            live = set(self._live)
            self._spares.add([file for file in files if file not in live])
        if not self._read_only:
            self._go_on()

    def _replay(self, files: Sequence[WalFile]) -> list[WalFile]:
        """Those that are the log; their rows are here."""
        number_max = walreplay.ANY
        while True:
            self._table = Table(len(self._families), self._fail)
            chain = walreplay.chain_of(files, number_max)
            cut = walreplay.replay(chain, self._table.replayed)
            if cut is None:
                return chain
            number_max = cut.number

    def _go_on(self) -> None:
        """Begin to write, behind what was found.

        That need not be durable: a process that was killed leaves its last writes to the kernel.
        """
        if not self._live:
            self._begin_file()
            self.sync()  # from here on, no header that is found leads to nothing
            return
        file = self._live[-1]
        self._unsynced = list(self._live)[:-1]
        self._current = file
        self._makes_at = file.size // 2
        self.sync()
        # Maybe the file's own have not come to the disk.
        facts = self._table.encoded_facts()
        if file.end + RECORD_BYTES + len(facts) > file.size:
            self._begin_file()
        else:
            self._write(file, facts, b"")

    # ── reads ───────────────────────────────────────────────────────────────

    def get(self, family: str, key: bytes) -> bytes | None:
        return self._table.get(self._families[family], key)

    def iterate(
        self, family: str, lower: bytes = b"", upper: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        return self._table.iterate(self._families[family], lower, upper, reverse=reverse)

    def keys(self, family: str, lower: bytes = b"", upper: bytes | None = None) -> Iterator[bytes]:
        return self._table.keys(self._families[family], lower, upper)

    def scrub(self, family: str, lower: bytes, bytes_max: int) -> bytes | None:
        return self._table.scrub(self._families[family], lower, bytes_max)

    # ── writes ──────────────────────────────────────────────────────────────

    def batch(self) -> WalBatch:
        return WalBatch(self._families)

    def write(self, batch: WriteBatch) -> None:
        assert isinstance(batch, WalBatch)
        if not batch.rows:
            return
        parts: list[bytes] = []
        for kind, family, key, value in batch.rows:
            parts.append(encode_row(kind, family, key, value))
            parts.append(value)
        payload = b"".join(parts)
        record = self._append(payload, b"")
        end = 0
        for place, (kind, family, key, value) in enumerate(batch.rows):
            start = end + len(parts[2 * place])
            end = start + len(value)
            self._table.change(kind, family, key, value, Place(record, start, end))

    def write_row(self, family: str, key: bytes, value: bytes) -> None:
        number = self._families[family]
        head = encode_row(PUT, number, key, value)
        record = self._append(head, value)
        self._table.change(PUT, number, key, value, Place(record, len(head), record.length))

    def _append(self, head: bytes, value: bytes) -> Record:
        """A record of these two. Raises what `write` does."""
        self._ensure_sound()
        length = len(head) + len(value)
        file = self._current
        assert file is not None and not self._read_only
        if file.end + RECORD_BYTES + length > file.size:
            file = self._begin_file()
        elif file.end > self._makes_at:
            self._makes_at = _NEVER
            self._spares.want(self._durable)
        return self._write(file, head, value)

    def _write(self, file: WalFile, head: bytes, value: bytes) -> Record:
        before, offset, length = file.crc, file.end, len(head) + len(value)
        start, crc = encode_record(before, head, value)
        try:
            written = os.pwritev(file.fd, (start, head, value), offset)
        except OSError as exc:
            error = error_of(file.path, exc)
            if not isinstance(error, DiskFull):
                self._failure = error
            raise error from exc
        file.size = max(file.size, offset + written)
        if written != RECORD_BYTES + length:
            self._unwrite(file, offset)
            raise DiskFull(f"{file.path}: {written} of {RECORD_BYTES + length} bytes were written")
        file.end, file.crc = offset + written, crc
        self._written += 1
        self._write_bytes += length
        return Record(file, offset, before, length)

    def _unwrite(self, file: WalFile, offset: int) -> None:
        """What of a record was not written may be as it has to be: zeros, or an earlier try."""
        try:
            os.pwrite(file.fd, bytes(RECORD_BYTES), offset)
        except OSError as exc:
            self._failure = SyncFailed(f"{file.path}: {exc.strerror}")
            raise self._failure from exc

    # ── files ───────────────────────────────────────────────────────────────

    def _begin_file(self) -> WalFile:
        """Go on in another file, or, until there is one, beyond the end of this one.

        Raises DiskFull with nothing changed; SyncFailed, for good.
        """
        try:
            file = self._spares.take(self._durable, patiently=not self._written)
        except SyncFailed as exc:
            self._failure = exc
            raise
        if file is None:
            assert self._current is not None
            return self._current
        old, number = self._current, self._last_number + 1
        needed = [each.number for each in self._live if each.live or each is old]
        header = Header(
            number,
            previous=0 if old is None else old.number,
            previous_end=0 if old is None else old.end,
            oldest=needed[0] if needed else number,
            salt=int.from_bytes(os.urandom(8)),
        )
        try:
            file.begin(header, self._table.encoded_facts())
        except OSError as exc:
            self._spares.give_back(file)
            error = error_of(file.path, exc)
            if not isinstance(error, DiskFull):
                self._failure = error
            raise error from exc
        self._last_number = number
        with self._lock:
            if old is not None:
                self._unsynced.append(old)
            self._current = file
            self._written += 1
        self._live.append(file)
        while self._live[0].number < header.oldest:
            freed = self._live.popleft()
            freed.freed_at = self._written
            self._spares.add([freed])
        self._makes_at = file.size // 2
        return file

    # ── syncs ───────────────────────────────────────────────────────────────

    def begin_sync(self) -> None:
        assert self._current is not None
        with suppress(OSError):  # there is no descriptor left
            start_writing(self._current.starts_fd)

    def sync(self) -> None:
        self._ensure_sound()
        with self._lock:
            files, written = list(self._unsynced), self._written
            assert self._current is not None
            files.append(self._current)
        started = time.perf_counter()
        try:
            for file in files:
                os.fdatasync(file.fd)
        except OSError as exc:
            self._failure = SyncFailed(f"{self._path}: fdatasync: {exc.strerror}")
            raise self._failure from exc
        with self._lock:
            del self._unsynced[: len(files) - 1]
            self._durable = written
        self._count_sync(time.perf_counter() - started)

    def sync_descriptor(self) -> int | None:
        self._ensure_sound()
        if self._unsynced:
            return None
        assert self._current is not None
        self._outside = self._written
        return self._current.fd

    def synced_outside(self, error_number: int, seconds: float) -> None:
        self._ensure_sound()
        if error_number:
            self._failure = SyncFailed(f"{self._path}: fdatasync: {os.strerror(error_number)}")
            raise self._failure
        self._durable = self._outside
        self._count_sync(seconds)

    def _count_sync(self, seconds: float) -> None:
        self._sync_count += 1
        self._sync_seconds += seconds

    # ── the rest ────────────────────────────────────────────────────────────

    def statistics(self) -> StorageStatistics:
        return StorageStatistics(
            disk_bytes=sum(file.size for file in [*self._live, *self._spares.files()]),
            live_bytes=sum(file.end for file in list(self._live)),
            memtable_bytes=0,
            block_cache_bytes=0,
            sync_count=self._sync_count,
            sync_seconds=self._sync_seconds,
            write_bytes=self._write_bytes,
        )

    def close(self) -> None:
        """Idempotent. What was not synced was promised to nobody."""
        self._spares.close()
        for file in self._live:
            file.close()
        if self._failure is None:
            self._failure = SyncFailed(f"{self._path} is closed")

    def _fail(self, error: StorageError) -> None:
        self._failure = error

    def _ensure_sound(self) -> None:
        if self._failure is not None:
            raise type(self._failure)(self._failure.detail)
