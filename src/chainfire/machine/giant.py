"""Deletes of very many keys: applied in slices, so that the loop comes round.

Each slice is a batch of its own. Besides its rows it writes the progress row,
so that a crash goes on from there; the last one removes that row and moves
revision, counters, hash chain and applied index, as any batch does. Meanwhile
readers keep the store as it was (mvcc.view), the row cache forgets what goes,
and later entries wait. After a crash the old state is gone: no reads until
the delete is done (`bars_reads`).

What is giant depends on the rows alone, so that all members decide alike; the
digest is folded key by key, so that where the slices are cut does not show.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final

from chainfire.errors import Corrupt, Damaged, UnknownFormat
from chainfire.machine import rows as machine_rows
from chainfire.machine.chain import HashChain, fold
from chainfire.machine.leases import LeaseHandlers
from chainfire.mvcc import rows
from chainfire.mvcc.count import Counts
from chainfire.mvcc.ranges import KEYS, Bounds
from chainfire.mvcc.spans import Spans
from chainfire.mvcc.state import KeyspaceState, StoreState
from chainfire.mvcc.store import Mvcc
from chainfire.mvcc.writer import Writer
from chainfire.proto.command_pb2 import Command
from chainfire.storage.backend import Reader
from chainfire.storage.staged import Staged
from chainfire.types import DeleteResult, Entry

GIANT_ROWS_MIN: Final = 1000
GIANT_BYTES_MIN: Final = 4 << 20  # of key_value rows
SLICE_ROWS: Final = 100  # 2 to 5 ms
SLICE_BYTES: Final = 1 << 20

KEY: Final = b"giant"
_FORMAT: Final = 1
_PROGRESS: Final = struct.Struct(">BQQIqqQ")


@dataclass(slots=True)
class Progress:
    """How far a giant delete is: the row `giant` of the family `machine`."""

    index: int  # the entry's
    term: int
    sub: int = 0  # the next one; as many keys are gone
    live_bytes: int = 0  # what all slices so far change the keyspace's counters by
    history_bytes: int = 0
    digest: int = 0
    cursor: bytes = b""  # the next row key that may be left; b"": from the start

    def encode(self) -> bytes:
        head = _PROGRESS.pack(
            _FORMAT,
            self.index,
            self.term,
            self.sub,
            self.live_bytes,
            self.history_bytes,
            self.digest,
        )
        return head + self.cursor

    @classmethod
    def decode(cls, row: bytes) -> Progress:
        """Raises UnknownFormat, Corrupt."""
        if row[:1] != bytes([_FORMAT]):
            raise UnknownFormat(f"progress row of format {row[:1].hex() or 'none'}")
        if len(row) < _PROGRESS.size:
            raise Corrupt(f"progress row of {len(row)} bytes")
        _, index, term, sub, live_bytes, history_bytes, digest = _PROGRESS.unpack_from(row)
        cursor = row[_PROGRESS.size :]
        return cls(index, term, sub, live_bytes, history_bytes, digest, cursor)


class _Deltas(StoreState):
    """Counts for a Writer what a delete changes, apart from the store until all of it is done."""

    __slots__ = ()

    def __init__(self, store: Mvcc, keyspace: int, progress: Progress) -> None:
        self.revision = store.revision + (1 if progress.sub else 0)
        self.keyspaces = {
            keyspace: KeyspaceState(
                keys=-progress.sub,
                live_bytes=progress.live_bytes,
                history_bytes=progress.history_bytes,
            )
        }
        self.changed_keyspaces = set()
        self.cache = store.cache
        self.counts = Counts()
        self.spans = Spans(0)


@dataclass(slots=True)
class GiantDelete:
    """One under way. `stage`, and have it written, until it `is_done`."""

    entry: Entry
    command: Command
    progress: Progress
    writer: Writer
    lower: bytes
    upper: bytes
    prevs: list[bytes] = field(default_factory=list)
    is_staged: bool = False  # a slice that is not written yet
    is_done: bool = False

    @property
    def result(self) -> DeleteResult:
        return DeleteResult(self.writer.store.revision, self.progress.sub, self.prevs)


class GiantDeletes:
    """Knows which deletes are giant, and carries one of them on."""

    def __init__(
        self,
        backend: Reader,
        store: Mvcc,
        staged: Staged,
        leases: LeaseHandlers,
        chain: HashChain,
    ) -> None:
        """Raises UnknownFormat, Corrupt."""
        self._store = store
        self._staged = staged
        self._leases = leases
        self._chain = chain
        self.under_way: GiantDelete | None = None
        self.begun = 0
        row = backend.get(machine_rows.FAMILY, KEY)
        self._interrupted = None if row is None else Progress.decode(row)
        self.bars_reads = row is not None

    def ensure_next(self, entry: Entry) -> None:
        """What a crash has interrupted must come next. Raises Damaged."""
        found = self._interrupted
        if found is not None and (found.index, found.term) != (entry.index, entry.term):
            raise Damaged(
                f"state/ holds half of a delete, entry {found.index} of term {found.term}, which "
                f"the log has lost: it goes on with entry {entry.index} of term {entry.term}"
            )

    def is_giant(self, command: Command) -> bool:
        """Whether this command, to be applied next, must be applied in slices."""
        if self._interrupted is not None:
            return True
        if command.WhichOneof("body") != "delete_range" or not command.delete_range.range_end:
            return False
        bounds = _bounds(command)
        if bounds is None:
            return False
        size = 0
        found = self._staged.iterate(KEYS, bounds.lower, bounds.upper)
        for count, (row_key, row) in enumerate(found, 1):
            size += len(row_key) + len(row)
            if count >= GIANT_ROWS_MIN or size >= GIANT_BYTES_MIN:
                return True
        return False

    def begin(self, entry: Entry, command: Command) -> None:
        """Its first slice may be staged; nothing else is."""
        progress, self._interrupted = self._interrupted, None
        if progress is None:
            progress = Progress(entry.index, entry.term)
            self._store.view.hold()
        bounds = _bounds(command)
        assert bounds is not None
        keyspace = command.keyspace
        deltas = _Deltas(self._store, keyspace, progress)
        writer = Writer(deltas, self._staged, keyspace, _no_lease, next_sub=progress.sub)
        lower = progress.cursor or bounds.lower
        self.begun += 1
        self.under_way = GiantDelete(entry, command, progress, writer, lower, bounds.upper)

    def stage(self, giant: GiantDelete) -> None:
        """Stage the next slice; the last one with all that the delete changes as a whole."""
        staged, writer, progress = self._staged, giant.writer, giant.progress
        want_prev = giant.command.delete_range.prev_kv
        size = count = 0
        for row_key, row in staged.iterate(KEYS, giant.lower, giant.upper):
            if count == SLICE_ROWS or size >= SLICE_BYTES:
                giant.lower = row_key
                break
            writer.delete_row(row_key, row)
            if writer.lease_moves is not None:
                self._leases.keys_moved(writer)
                writer.lease_moves = None
            progress.digest = fold(progress.digest, staged.take_rows())
            if want_prev:
                giant.prevs.append(row[rows.ROW_HEAD_BYTES :])
            count += 1
            size += len(row)
        else:
            giant.is_done = True
        progress.sub += count
        deltas = writer.store.keyspace(writer.keyspace)
        progress.live_bytes, progress.history_bytes = deltas.live_bytes, deltas.history_bytes
        progress.cursor = giant.lower
        if giant.is_done:
            self._finish(giant)
        else:
            staged.put(machine_rows.FAMILY, KEY, progress.encode())
        staged.take_rows()  # the progress row's: not digested
        giant.is_staged = True

    def _finish(self, giant: GiantDelete) -> None:
        store, entry, progress = self._store, giant.entry, giant.progress
        keyspace = giant.writer.keyspace
        state = store.keyspace(keyspace)
        state.keys -= progress.sub
        state.live_bytes += progress.live_bytes
        state.history_bytes += progress.history_bytes
        store.changed_keyspaces.add(keyspace)
        store.forget_live()
        store.revision = giant.writer.store.revision
        self._staged.delete(machine_rows.FAMILY, KEY)
        self._chain.link_folded(entry.index, entry.term, store.revision, progress.digest)
        self.under_way = None

    def written(self) -> None:
        """All that was staged is on the backend."""
        if self.under_way is not None:
            self.under_way.is_staged = False
        else:
            self._store.view.release()
            self.bars_reads = self._interrupted is not None


def _bounds(command: Command) -> Bounds | None:
    request = command.delete_range
    return Bounds.of(rows.keyspace_prefix(command.keyspace), request.key, request.range_end)


def _no_lease(keyspace: int, lease: int) -> bool:
    return False
