"""The store: what machine and API hold of mvcc.

One thread writes. A turn: `begin` a Writer per command over the same staged
rows, then one batch of those rows and `save`, then `committed`. From the
first Writer on memory is ahead of the backend: no reads until the batch is
written. If the write failed with nothing written, the turn goes on from
`save`; after any other failure the store is built anew from the backend.
"""

from __future__ import annotations

from collections.abc import Sequence

from chainfire.mvcc import rows
from chainfire.mvcc.changes import LeaseExists, Stage
from chainfire.mvcc.ranges import FROM_KEY, KEYS, Bounds, after_keyspace
from chainfire.mvcc.state import FAMILY, StoreState, keyspace_key
from chainfire.mvcc.view import View
from chainfire.mvcc.writer import Writer
from chainfire.storage.backend import StorageBackend
from chainfire.storage.backend import Writer as RowWriter

GETS_MAX = 8  # more rows that are not cached are found faster by a walk
_FIRST_REVISION = 1  # of an empty store, as in etcd


def _no_leases(keyspace: int, lease: int) -> bool:
    return False


class Mvcc(StoreState):
    __slots__ = ("view",)

    def __init__(
        self, backend: StorageBackend, *, cache_bytes: int, revision: int = _FIRST_REVISION
    ) -> None:
        """`revision` is the one that the backend holds. Raises UnknownFormat, Corrupt."""
        super().__init__(backend, cache_bytes, revision)
        self.view = View(backend)  # what is read by others than Writers

    def get_row(self, keyspace: int, key: bytes) -> bytes | None:
        """The key's KeyValue at the current revision: the short way of the commonest read."""
        row_key = rows.keyspace_prefix(keyspace) + key
        row = self.cache.get(row_key) or self._read(row_key)
        return None if row is None else row[rows.ROW_HEAD_BYTES :]

    def get_rows(self, keyspace: int, key: bytes, range_end: bytes) -> list[bytes] | None:
        """The KeyValues of a range at the current revision, by the short way of small ranges.

        None: that is not possible, or not worth it. `range_end` must not be empty.
        """
        prefix = rows.keyspace_prefix(keyspace)
        upper = prefix + range_end if range_end != FROM_KEY else after_keyspace(prefix)
        row_keys = self.spans.find(prefix + key, upper)
        if row_keys is None:
            return None
        found = self.cache.get_all(row_keys)
        if not all(found):
            if found.count(None) > GETS_MAX:
                return None
            found = [row or self._read(key) for key, row in zip(row_keys, found, strict=True)]
            assert all(found), "a key that is known has no row"
        head = rows.ROW_HEAD_BYTES
        return [row[head:] for row in found if row is not None]

    def _read(self, row_key: bytes) -> bytes | None:
        row = self.view.get(KEYS, row_key)
        if row is not None:
            self._keep(row_key, row)
        return row

    def note_rows(self, bounds: Bounds, found: Sequence[tuple[bytes, bytes]]) -> None:
        super().note_rows(bounds, found)
        for row_key, row in found:
            self._keep(row_key, row)

    def _keep(self, row_key: bytes, row: bytes) -> None:
        """In the cache, what was read; while the view is held it may be gone already."""
        if not self.view.is_held:
            self.cache.put(row_key, row)

    def begin(self, staged: Stage, keyspace: int, lease_exists: LeaseExists = _no_leases) -> Writer:
        return Writer(self, staged, keyspace, lease_exists)

    def finish_compaction(self, keyspace: int, revision: int, freed_bytes: int) -> None:
        """Book what a compaction to `revision` gave back: on every member at the same entry,
        whether its own rows are gone already or not.

        `freed_bytes` is a Compaction's: counted from the first one on. Void if
        a later one is booked already.
        """
        state = self.keyspace(keyspace)
        if not state.finished < revision <= state.compacted:
            return
        state.history_bytes -= freed_bytes - state.freed_bytes
        state.freed_bytes = freed_bytes
        state.finished = revision
        self.changed_keyspaces.add(keyspace)

    def save(self, batch: RowWriter) -> None:
        """Put the rows of the keyspaces that changed since `committed`."""
        for keyspace in sorted(self.changed_keyspaces):
            batch.put(FAMILY, keyspace_key(keyspace), self.keyspaces[keyspace].encode())

    def committed(self, staged: Stage) -> None:
        """The batch made of `staged` and of what `save` put is written."""
        self.changed_keyspaces.clear()
