"""Plain puts, the commonest command, by the codec of the native wheel where that is installed.

A plain put names a key and a value and nothing else, in keyspace 0, for no
user, over a version without a lease. The codec reads it from the entry and
writes its rows and its link of the hash chain; everything else is done here.
Whatever else a put may be goes the general way (command, handlers,
mvcc.changes), which does exactly the same for plain ones too, only slower:
tests/machine/test_plainputs.py holds both against each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from chainfire.machine.chain import HashChain
from chainfire.mvcc import rows
from chainfire.mvcc.ranges import HISTORY, KEYS, REVISIONS
from chainfire.mvcc.store import Mvcc
from chainfire.storage.staged import Change, Staged
from chainfire.types import Entry, PutResult

try:
    from chainfire_native import parse_put, put_rows
except ImportError:  # not installed, or older than this

    def parse_put(data: bytes) -> PlainPut | None:
        return None

    def put_rows(
        data: bytes, before: bytes | None, index: int, term: int, revision: int, hash: int
    ) -> PutRows | None:
        return None


# member id, start number, sequence, lowest unsettled, leader's clock, key
PlainPut = tuple[int, int, int, int, int, bytes]
# key_value row, revisions key and row, key_history key and row, hash, digested bytes
PutRows = tuple[bytes, bytes, bytes, bytes | None, bytes | None, int, int]

_KEYSPACE: Final = 0
_PREFIX: Final = rows.keyspace_prefix(_KEYSPACE)


class PlainPuts:
    """The store's and the chain's short way for one kind of entry."""

    def __init__(self, store: Mvcc, staged: Staged, chain: HashChain) -> None:
        self._store = store
        self._staged = staged
        self._chain = chain
        self.parse: Callable[[bytes], PlainPut | None] = parse_put
        self.digested_bytes = 0  # by the last put
        self._last: tuple[bytes, PutRows] | None = None

    def put(self, entry: Entry, key: bytes) -> PutResult | None:
        """Stage it and add its link to the chain; None, and nothing done, where it is not plain."""
        store, staged, chain = self._store, self._staged, self._chain
        row_key = _PREFIX + key
        before = store.cache.get(row_key)
        if before is None:
            before = staged.get(KEYS, row_key)
        main = store.revision + 1
        made = put_rows(entry.data, before, entry.index, entry.term, main, chain.hash)
        if made is None:
            return None
        row, change_key, change, history_key, history_row, hash, self.digested_bytes = made
        self._last = row_key, made
        state = store.keyspace(_KEYSPACE)
        if before is None:
            state.keys += 1
            store.created(row_key)
            state.live_bytes += len(row_key) + len(row)
        else:
            assert history_key is not None
            assert history_row is not None
            staged.rows(HISTORY)[history_key] = history_row
            state.live_bytes += len(row) - len(before)
            state.history_bytes += len(history_key) + len(history_row)
        staged.rows(KEYS)[row_key] = row
        staged.rows(REVISIONS)[change_key] = change
        state.history_bytes += len(change_key) + len(change)
        store.cache.put(row_key, row)
        store.revision = main
        store.changed_keyspaces.add(_KEYSPACE)
        chain.add(entry.index, hash)
        return PutResult(main)

    def changes(self) -> list[Change]:
        """The last put's rows, as the general way writes them."""
        assert self._last is not None
        row_key, (row, change_key, change, history_key, history_row, _, _) = self._last
        rows_: list[Change] = [(KEYS, row_key, row), (REVISIONS, change_key, change)]
        if history_key is not None:
            rows_.insert(0, (HISTORY, history_key, history_row))
        return rows_
