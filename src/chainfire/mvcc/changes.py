"""What one command changes: puts and deletes into the staged rows, and the reads between them.

Every change writes the row in `revisions`, moves the version that it replaces
to `key_history`, and keeps the keyspace's counters. The main revision is the
store's next one, taken at the first change; the sub revision counts changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from chainfire.errors import KeyNotFound, LeaseNotFound
from chainfire.mvcc import rows
from chainfire.mvcc.later import Pinnable, Ranges
from chainfire.mvcc.ranges import HISTORY, KEYS, REVISIONS, Bounds
from chainfire.mvcc.read import Moment
from chainfire.mvcc.state import StoreState
from chainfire.proto.kv_pb2 import RangeRequest
from chainfire.storage.backend import Writer
from chainfire.types import DeleteResult, LeaseMove, LongRange, PutResult, RangeResult

LeaseExists = Callable[[int, int], bool]  # keyspace, lease id


class Stage(Pinnable, Writer, Protocol):
    """Where effects are collected and can be read back (storage.staged)."""


class Changes:
    __slots__ = (
        "_lease_exists",
        "_mod",
        "_prefix",
        "_ranges",
        "_staged",
        "_state",
        "_sub",
        "keyspace",
        "lease_moves",
        "store",
    )

    def __init__(
        self,
        store: StoreState,
        staged: Stage,
        keyspace: int,
        lease_exists: LeaseExists,
        *,
        next_sub: int = 0,
    ) -> None:
        """`next_sub` of a command that goes on: the store's revision is its own then."""
        self.store = store
        self.keyspace = keyspace
        self.lease_moves: list[LeaseMove] | None = None  # the leases are to be told; None: nothing
        self._lease_exists = lease_exists
        self._ranges: Ranges | None = None
        self._staged = staged
        self._state = store.keyspace(keyspace)
        self._prefix = rows.keyspace_prefix(keyspace)
        self._sub = next_sub
        if next_sub:
            self._mod = rows.mod_field(store.revision)

    @property
    def changed(self) -> bool:
        """Whether the command has consumed a main revision."""
        return self._sub > 0

    @property
    def next_sub(self) -> int:
        """How many changes there were so far."""
        return self._sub

    def _next_sub(self) -> int:
        sub = self._sub
        if sub == 0:
            store = self.store
            store.revision += 1
            store.changed_keyspaces.add(self.keyspace)
            self._mod = rows.mod_field(store.revision)
        self._sub = sub + 1
        return sub

    def _move(self, key: bytes, before: int, after: int) -> None:
        if self.lease_moves is None:
            self.lease_moves = []
        self.lease_moves.append((key, before, after))

    # ── reads ───────────────────────────────────────────────────────────────

    def ensure_lease(self, lease: int) -> None:
        """Raises LeaseNotFound. Lease 0 is none, and fine."""
        if lease and not self._lease_exists(self.keyspace, lease):
            raise LeaseNotFound(f"lease {lease:x}")

    def exists(self, key: bytes) -> bool:
        return self._row(self._prefix + key) is not None

    def _row(self, row_key: bytes) -> bytes | None:
        row = self.store.cache.get(row_key)
        return row if row is not None else self._staged.get(KEYS, row_key)

    def range(self, request: RangeRequest) -> RangeResult | LongRange:
        """As read.range_steps, seeing what this command has changed so far, or a promise of that.

        Raises FutureRevision, Compacted.
        """
        if self._ranges is None:
            self._ranges = Ranges()
        at = Moment.of(self.store, self.keyspace, request.revision, settled=not self.changed)
        return self._ranges.read(self._staged, self.store, request, at)

    # ── writes ──────────────────────────────────────────────────────────────

    def put(
        self,
        key: bytes,
        value: bytes,
        lease: int = 0,
        ignore_value: bool = False,
        ignore_lease: bool = False,
        want_prev: bool = False,
    ) -> PutResult:
        """Raises LeaseNotFound, KeyNotFound, with nothing changed."""
        if lease:
            self.ensure_lease(lease)
        prefix, staged, store, state = self._prefix, self._staged, self.store, self._state
        row_key = prefix + key
        before = self._row(row_key)
        prev = None
        if before is None:
            if ignore_value or ignore_lease:
                raise KeyNotFound
            sub = self._next_sub()
            main = created = store.revision
            version, old_main, old_sub, old_lease = 1, 0, 0, 0
            state.keys += 1
            live_bytes = len(row_key)
            history_bytes = 0
        else:
            prev = before[rows.ROW_HEAD_BYTES :]
            old = rows.decode(prev)
            old_lease = old.lease
            if ignore_value:
                value = old.value
            if ignore_lease:
                lease = old_lease
            sub = self._next_sub()
            main = store.revision
            created, version = old.create_revision, old.version + 1
            old_main, old_sub = old.mod_revision, rows.row_sub(before)
            history_key = rows.history_key(prefix, key, old_main, old_sub)
            history_row = rows.superseded(prev)
            staged.put(HISTORY, history_key, history_row)
            live_bytes = -len(before)
            history_bytes = len(history_key) + len(history_row)
        row = rows.key_value_row(sub, key, created, self._mod, version, value, lease)
        staged.put(KEYS, row_key, row)
        store.cache.put(row_key, row)
        if before is None:
            store.created(row_key, row)
        change = rows.change_value(rows.PUT, 0, old_main, old_sub, lease, key)
        staged.put(REVISIONS, rows.change_key(prefix, main, sub), change)
        if lease != old_lease:
            self._move(key, old_lease, lease)
        state.live_bytes += live_bytes + len(row)
        state.history_bytes += history_bytes + rows.CHANGE_KEY_BYTES + len(change)
        return PutResult(main, prev if want_prev else None)

    def delete_range(
        self, key: bytes, range_end: bytes = b"", want_prev: bool = False
    ) -> DeleteResult:
        found: Iterable[tuple[bytes, bytes]] = ()
        if not range_end:
            row = self._row(self._prefix + key)
            if row is not None:
                found = ((self._prefix + key, row),)
        else:
            bounds = Bounds.of(self._prefix, key, range_end)
            if bounds is not None:
                found = self._staged.iterate(KEYS, bounds.lower, bounds.upper)
        deleted = 0
        prevs: list[bytes] = []
        for row_key, row in found:
            self.delete_row(row_key, row)
            deleted += 1
            if want_prev:
                prevs.append(row[rows.ROW_HEAD_BYTES :])
        return DeleteResult(self.store.revision, deleted, prevs)

    def delete_keys(self, keys: Iterable[bytes], reason: int) -> None:
        """Delete keys that exist, for a reason of their own (docs/formats.md, "revisions")."""
        for key in keys:
            row_key = self._prefix + key
            row = self._row(row_key)
            assert row is not None, key
            self.delete_row(row_key, row, reason)

    def delete_row(self, row_key: bytes, row: bytes, reason: int = 0) -> None:
        """Delete a key, given its row in key_value."""
        prefix, staged, store, state = self._prefix, self._staged, self.store, self._state
        sub = self._next_sub()
        main = store.revision
        key = row_key[len(prefix) :]
        kv = row[rows.ROW_HEAD_BYTES :]
        old = rows.decode(kv)
        old_main, old_sub, old_lease = old.mod_revision, rows.row_sub(row), old.lease
        history_key = rows.history_key(prefix, key, old_main, old_sub)
        history_row = rows.superseded(kv)
        tombstone_key = rows.history_key(prefix, key, main, sub)
        change = rows.change_value(rows.DELETE, reason, old_main, old_sub, 0, key)
        staged.put(HISTORY, history_key, history_row)
        staged.put(HISTORY, tombstone_key, rows.TOMBSTONE)
        staged.delete(KEYS, row_key)
        store.cache.drop(row_key)
        staged.put(REVISIONS, rows.change_key(prefix, main, sub), change)
        if old_lease:
            self._move(key, old_lease, 0)
        state.keys -= 1
        store.deleted(row_key)
        state.live_bytes -= len(row_key) + len(row)
        state.history_bytes += (
            len(history_key)
            + len(history_row)
            + len(tombstone_key)
            + len(rows.TOMBSTONE)
            + rows.CHANGE_KEY_BYTES
            + len(change)
        )
