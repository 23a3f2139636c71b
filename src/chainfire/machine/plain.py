"""Plain commands, the commonest ones, by the codec of the native wheel where that is installed.

Plain is a put of a key and a value and nothing else, a delete of one key, and
a transaction of compares, puts, deletes and ranges of single keys
(native/src/plain/request.rs), in keyspace 0, for no user, over versions
without a lease. The codec reads it from the entry and writes its rows and its
link of the hash chain; everything else is done here.
Whatever else a command may be goes the general way (command, handlers,
mvcc.changes), which does exactly the same for plain ones too, only slower:
tests/machine/test_plain.py holds both against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from chainfire.command import CommandKind
from chainfire.machine.chain import HashChain
from chainfire.machine.handlers import Handlers
from chainfire.mvcc.ranges import HISTORY, KEYS, REVISIONS
from chainfire.mvcc.store import Mvcc
from chainfire.storage.staged import Change, Staged
from chainfire.types import DeleteResult, Entry, OpResult, PutResult, RangeResult, TxnResult
from chainfire.wheel import FAULT

if FAULT is None:
    from chainfire_native import parse_plain, stage_plain, stage_puts
else:

    def parse_plain(data: bytes) -> Plain | None:
        return None

    def stage_plain(
        data: bytes,
        row_keys: tuple[bytes, ...],
        befores: list[bytes | None],
        index: int,
        term: int,
        revision: int,
        hash: int,
        families: tuple[Rows, Rows, Rows],
        changes: list[Change] | None,
    ) -> Effect | None:
        raise AssertionError("nothing is plain without it")

    def stage_puts(
        commands: list[bytes],
        row_keys: list[bytes],
        befores: list[bytes | None],
        first_index: int,
        term: int,
        revision: int,
        hash: int,
        families: tuple[Rows, Rows, Rows],
        changes: list[list[Change]] | None,
    ) -> Puts:
        raise AssertionError("nothing is plain without it")


PUT: Final = int(CommandKind.PUT)
DELETE: Final = int(CommandKind.DELETE_RANGE)
_RANGE: Final = 0  # of an outcome; there is no such command
_KEYSPACE: Final = 0

Rows = dict[bytes, bytes | None]
# member id, start number, sequence, lowest unsettled, leader's clock, kind, row keys
Plain = tuple[int, int, int, int, int, int, tuple[bytes, ...]]
# row key, its row or None, and by how much the number of keys changes
Written = tuple[bytes, bytes | None, int]
# kind, whether the command had changed something by then, what it found
Outcome = tuple[int, bool, bytes | bool | None]
# revision, hash, digested bytes, live bytes and history bytes more, keys, succeeded, outcomes
Effect = tuple[int, int, int, int, int, list[Written], bool, list[Outcome]]
# revision, hash of each, digested bytes, live bytes and history bytes more, keys
Puts = tuple[int, list[int], int, int, int, list[Written]]


class PlainCommands:
    """The store's, the chain's and the handlers' short way for entries of these kinds."""

    def __init__(self, store: Mvcc, staged: Staged, chain: HashChain, handlers: Handlers) -> None:
        self._store = store
        self._staged = staged
        self._chain = chain
        self._handlers = handlers
        self._families = staged.rows(KEYS), staged.rows(HISTORY), staged.rows(REVISIONS)
        self.parse: Callable[[bytes], Plain | None] = parse_plain
        self.digested_bytes = 0  # by the last one

    def stage(
        self, entry: Entry, kind: int, row_keys: tuple[bytes, ...], changes: list[Change] | None
    ) -> PutResult | DeleteResult | TxnResult | None:
        """Stage it and add its link to the chain; None, and nothing done, where it is not plain.

        Its rows are appended to `changes`, if somebody wants them, as the general way writes them.
        """
        store, chain = self._store, self._chain
        cached, staged = store.cache.get, self._staged.get
        before = store.revision
        made = stage_plain(
            entry.data,
            row_keys,
            [cached(key) or staged(KEYS, key) for key in row_keys],
            entry.index,
            entry.term,
            before,
            chain.hash,
            self._families,
            changes,
        )
        if made is None:
            return None
        revision, hash, digested, live_bytes, history_bytes, written, _, _ = made
        self.digested_bytes = digested
        if written:
            self._keep(revision, written)
            state = store.keyspace(_KEYSPACE)
            state.live_bytes += live_bytes
            state.history_bytes += history_bytes
        chain.add(entry.index, hash)
        if kind == PUT:
            self._handlers.puts += 1
            return PutResult(revision)
        result = _result(kind, before, made)
        if isinstance(result, TxnResult):
            self._handlers.count_txn(result)
        else:
            self._handlers.deletes += 1
        return result

    def stage_puts(
        self,
        entries: Sequence[Entry],
        row_keys: list[bytes],
        changes: list[list[Change]] | None,
    ) -> int:
        """As `stage` of one put after the other, all of one term: how many of them, up to the first
        that is not plain. A list for each is appended to `changes`.
        """
        store, chain = self._store, self._chain
        cached, staged = store.cache.get_all(row_keys), self._staged.get
        first = entries[0]
        revision, hashes, self.digested_bytes, live_bytes, history_bytes, written = stage_puts(
            [entry.data for entry in entries],
            row_keys,
            [row or staged(KEYS, key) for row, key in zip(cached, row_keys, strict=True)],
            first.index,
            first.term,
            store.revision,
            chain.hash,
            self._families,
            changes,
        )
        if hashes:
            self._keep(revision, written)
            state = store.keyspace(_KEYSPACE)
            state.live_bytes += live_bytes
            state.history_bytes += history_bytes
            for index, hash in enumerate(hashes, first.index):
                chain.add(index, hash)
            self._handlers.puts += len(hashes)
        return len(hashes)

    def foresee(
        self, entry: Entry, kind: int, row_keys: tuple[bytes, ...], revision: int
    ) -> DeleteResult | TxnResult | None:
        """What `stage` will return for a delete or a transaction of keys that are now as they will
        be then, at this revision. Changes nothing.
        """
        befores = [self._row(key) for key in row_keys]
        nowhere: tuple[Rows, Rows, Rows] = ({}, {}, {})
        made = stage_plain(
            entry.data, row_keys, befores, entry.index, entry.term, revision, 0, nowhere, None
        )
        return None if made is None else _result(kind, revision, made)

    def _row(self, row_key: bytes) -> bytes | None:
        row = self._store.cache.get(row_key)
        if row is None:
            row = self._staged.get(KEYS, row_key)
            if row is not None:
                self._store.cache.put(row_key, row)
        return row

    def _keep(self, revision: int, written: list[Written]) -> None:
        store = self._store
        store.revision = revision
        store.changed_keyspaces.add(_KEYSPACE)
        for row_key, row, change in written:
            if row is not None:
                store.cache.put(row_key, row)
                if change > 0:
                    store.keyspace(_KEYSPACE).keys += 1
                    store.created(row_key, row)
            else:
                store.cache.drop(row_key)
            if change < 0:
                store.keyspace(_KEYSPACE).keys -= 1
                store.deleted(row_key)


def _result(kind: int, before: int, effect: Effect) -> DeleteResult | TxnResult:
    """Of a delete or a transaction that found the store at revision `before`."""
    revision, _, _, _, _, written, succeeded, outcomes = effect
    if kind == DELETE:
        return DeleteResult(revision, len(written), [])
    results = [
        _op_result(revision if changed else before, what, found)
        for what, changed, found in outcomes
    ]
    return TxnResult(revision, succeeded, results)


def _op_result(revision: int, kind: int, found: bytes | bool | None) -> OpResult:
    """Of one operation; `revision` is the store's when it was its turn."""
    if kind == PUT:
        return PutResult(revision)
    if kind == DELETE:
        return DeleteResult(revision, int(found is True), [])
    assert not isinstance(found, bool)
    return RangeResult(revision, [] if found is None else [found], False, int(found is not None))
