"""Physical compaction: old rows go, slice by slice, whenever there is time.

Logically a keyspace is compacted as soon as Writer.compact is applied; no
read ever depends on how far the rows are gone. A round to revision R walks
`revisions` up to R:

    a row with a predecessor        deletes the predecessor's rows
    a tombstone before R            deletes its own rows too

A tombstone exactly at R stays (a watch from R must still deliver it, etcd
#18089), so the next round starts at R again. Whatever is found deleted was
counted when it was deleted: rows and cursor move in one batch, so that after
a crash nothing is skipped and nothing is counted twice.

`freed_bytes` is counted from the first round on: it is a function of the rows
written and of R alone, however the rounds were cut, and so the same on every
member. The cursor row is this member's own and stays for good.
"""

from __future__ import annotations

from struct import Struct

from chainfire.errors import UnknownFormat
from chainfire.mvcc import rows
from chainfire.mvcc.ranges import HISTORY, REVISIONS
from chainfire.mvcc.state import StoreState
from chainfire.storage.backend import StorageBackend, WriteBatch

_FORMAT = 1
_CURSOR_FAMILY, _CURSOR_KEY = "machine", b"compaction"
_CURSOR = Struct(">BQQIQ")  # format, target, main and sub of the next row, freed bytes


class Compaction:
    """All that is to be removed from one keyspace. Make one, `step` until it is done."""

    def __init__(self, backend: StorageBackend, store: StoreState, keyspace: int) -> None:
        """Goes on where an earlier one stopped. Raises UnknownFormat."""
        self._backend = backend
        self._state = store.keyspace(keyspace)
        self._prefix = rows.keyspace_prefix(keyspace)
        self._cursor_key = _CURSOR_KEY + self._prefix
        self.revision = 0  # of the round
        self.removed_versions = 0  # by this object
        self.freed_bytes = 0  # by all rounds so far; exact for `revision` once done
        self._next = (0, 0)
        cursor = backend.get(_CURSOR_FAMILY, self._cursor_key)
        if cursor is not None:
            format_, self.revision, main, sub, self.freed_bytes = _CURSOR.unpack(cursor)
            if format_ != _FORMAT:
                raise UnknownFormat(f"compaction row of format {format_}")
            self._next = main, sub

    def step(self, max_rows: int) -> bool:
        """Walk up to `max_rows` revisions and write what follows; return whether all is done.

        When it is, `revision` is the keyspace's compacted revision.
        """
        batch = self._backend.batch()
        lower = rows.change_key(self._prefix, *self._next)
        upper = rows.change_key(self._prefix, self.revision + 1, 0)
        found = self._backend.iterate(REVISIONS, lower, upper)
        for walked, (row_key, value) in enumerate(found):
            change = rows.decode_change(row_key, value)
            if walked == max_rows:
                self._next = change.main, change.sub
                self._write(batch)
                return False
            self._remove_dead(change, batch)
        self._next = self.revision, 0
        is_done = self.revision >= self._state.compacted
        if not is_done:
            self.revision = self._state.compacted
        self._write(batch)
        return is_done

    def _remove_dead(self, change: rows.Change, batch: WriteBatch) -> None:
        key = change.key
        if change.predecessor_main:
            self._remove(key, change.predecessor_main, change.predecessor_sub, batch)
        if change.type == rows.DELETE and change.main < self.revision:
            self._remove(key, change.main, change.sub, batch)

    def _remove(self, key: bytes, main: int, sub: int, batch: WriteBatch) -> None:
        history_key = rows.history_key(self._prefix, key, main, sub)
        row = self._backend.get(HISTORY, history_key)
        if row is None:
            return
        batch.delete(HISTORY, history_key)
        batch.delete(REVISIONS, rows.change_key(self._prefix, main, sub))
        self.removed_versions += 1
        change_bytes = rows.CHANGE_KEY_BYTES + rows.CHANGE_HEAD_BYTES + len(key)
        self.freed_bytes += len(history_key) + len(row) + change_bytes

    def _write(self, batch: WriteBatch) -> None:
        cursor = _CURSOR.pack(_FORMAT, self.revision, *self._next, self.freed_bytes)
        batch.put(_CURSOR_FAMILY, self._cursor_key, cursor)
        self._backend.write(batch)
