"""A store as the machine would run it: turns of commands, one batch each, crashes and replay."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from chainfire.errors import RequestError
from chainfire.mvcc.compact import Compaction
from chainfire.mvcc.history import Changes, Limits, change_steps
from chainfire.mvcc.read import range_steps, run
from chainfire.mvcc.rows import keyspace_prefix
from chainfire.mvcc.store import Mvcc
from chainfire.mvcc.versions import key_change_steps
from chainfire.mvcc.writer import Writer
from chainfire.proto.kv_pb2 import DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest
from chainfire.storage.backend import STATE_FAMILIES, StorageBackend
from chainfire.storage.memory import MemoryBackend
from chainfire.storage.staged import Change, Staged
from chainfire.types import DeleteResult, PutResult, RangeResult, TxnResult
from tests.mvcc.twin import LEASES

_APPLIED = struct.Struct(">QQ")  # commands, revision
Command = Callable[["World"], Any]


class World:
    def __init__(
        self,
        backend: StorageBackend | None = None,
        *,
        cache_bytes: int = 1 << 20,
        keyspace: int = 0,
    ) -> None:
        self.keyspace = keyspace
        self.cache_bytes = cache_bytes
        self.log: list[Command] = []
        self.changes: list[Change] = []  # rows of the last command
        self._open(backend or MemoryBackend(STATE_FAMILIES))

    def _open(self, backend: StorageBackend) -> None:
        self.backend = backend
        applied = backend.get("machine", b"applied")
        self.applied, revision = _APPLIED.unpack(applied) if applied else (0, 1)
        self.store = Mvcc(backend, cache_bytes=self.cache_bytes, revision=revision)
        self.staged = Staged(backend)

    # ── commands ────────────────────────────────────────────────────────────

    def do(self, command: Command, *, flush: bool = True) -> Any:
        """Log the command and apply it."""
        self.log.append(command)
        self.applied += 1
        before = (self.store.revision, repr(self.store.keyspace(self.keyspace)))
        try:
            result = command(self)
        except RequestError:
            assert self.staged.take_rows() == []
            assert before == (self.store.revision, repr(self.store.keyspace(self.keyspace)))
            raise
        self.changes = self.staged.take_rows()
        if flush:
            self.flush()
        return result

    def writer(self) -> Writer:
        return self.store.begin(self.staged, self.keyspace, lambda _, lease: lease in LEASES)

    def flush(self) -> None:
        batch = self.backend.batch()
        self.staged.drain_into(batch)
        self.store.save(batch)
        batch.put("machine", b"applied", _APPLIED.pack(self.applied, self.store.revision))
        self.backend.write(batch)
        self.store.committed(self.staged)
        self.staged.clear()

    def put(self, key: bytes, value: bytes = b"", **fields: Any) -> PutResult:
        request = PutRequest(key=key, value=value, **fields)
        return self.do(lambda world: put(world.writer(), request))

    def delete(self, key: bytes, range_end: bytes = b"", prev_kv: bool = False) -> DeleteResult:
        request = DeleteRangeRequest(key=key, range_end=range_end, prev_kv=prev_kv)
        return self.do(lambda world: delete(world.writer(), request))

    def txn(self, request: TxnRequest) -> TxnResult:
        return self.do(lambda world: world.writer().txn(request))

    def compact(self, revision: int) -> None:
        self.do(lambda world: world.writer().compact(revision))

    # ── reads, upkeep ───────────────────────────────────────────────────────

    def range(self, key: bytes, range_end: bytes = b"", **fields: Any) -> RangeResult:
        request = RangeRequest(key=key, range_end=range_end, **fields)
        return run(range_steps(self.backend, self.store, self.keyspace, request))

    def history(self, start: int, *, rows_max: int = 1000) -> Changes:
        """What a watcher of everything that stands at `start` is told next."""
        return run(
            change_steps(
                self.backend,
                self.store,
                self.keyspace,
                start,
                self.store.revision + 1,
                lambda _: True,
                Limits(want_prev=True, rows_max=rows_max, bytes_max=1 << 20, rows_per_slice=2),
            )
        )

    def history_of(self, start: int, *keys: bytes, rows_max: int = 1000) -> Changes:
        """The same for a watcher of these keys, found by their versions."""
        prefix = keyspace_prefix(self.keyspace)
        return run(
            key_change_steps(
                self.backend,
                self.store,
                self.keyspace,
                start,
                self.store.revision + 1,
                [prefix + key for key in keys],
                Limits(want_prev=True, rows_max=rows_max, bytes_max=1 << 20, rows_per_slice=2),
            )
        )

    def remove_compacted(self, *, book: bool = True) -> Compaction:
        compaction = Compaction(self.backend, self.store, self.keyspace)
        while not compaction.step(3):
            pass
        if book:
            revision, freed = compaction.revision, compaction.freed_bytes
            self.do(lambda world: world.store.finish_compaction(world.keyspace, revision, freed))
        return compaction

    # ── crashes ─────────────────────────────────────────────────────────────

    def restart(self) -> None:
        self._open(self.backend)

    def crash(self, keep: int) -> None:
        """Lose all batches written since the last sync but `keep`, and replay the log."""
        assert isinstance(self.backend, MemoryBackend)
        self._open(self.backend.crash(keep))
        for command in self.log[self.applied :]:
            self.applied += 1
            try:
                command(self)
            except RequestError:
                continue
            self.flush()


def put(writer: Writer, request: PutRequest) -> PutResult:
    r = request
    return writer.put(r.key, r.value, r.lease, r.ignore_value, r.ignore_lease, r.prev_kv)


def delete(writer: Writer, request: DeleteRangeRequest) -> DeleteResult:
    return writer.delete_range(request.key, request.range_end, request.prev_kv)
