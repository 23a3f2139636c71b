"""The changes of a few keys, found by their versions: for watchers of them that start far back.

`history.change_steps` walks everybody's changes. Here each key's rows of
key_history say where it changed, and only those rows of `revisions` are read.
What it finds is the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from chainfire.errors import Compacted
from chainfire.mvcc import rows
from chainfire.mvcc.history import Change, Changes, Limits, change_at
from chainfire.mvcc.ranges import HISTORY, KEYS, REVISIONS
from chainfire.mvcc.read import Steps
from chainfire.mvcc.state import StoreState
from chainfire.storage.backend import Reader


def key_change_steps(
    view: Reader,
    store: StoreState,
    keyspace: int,
    start: int,
    stop: int,
    row_keys: Sequence[bytes],
    limits: Limits,
) -> Steps[Changes]:
    """As `change_steps`, for these row keys of the keyspace and a `start` that is not compacted.

    Where a compaction reaches `start` meanwhile, it finds nothing, and goes nowhere. `rows_max` is
    of each key; of one that changed oftener in a single revision, all is read.
    """
    rows_max = limits.rows_max
    prefix, state = rows.keyspace_prefix(keyspace), store.keyspace(keyspace)
    places: list[tuple[int, int]] = []
    for row_key in row_keys:
        key = row_key[len(prefix) :]
        found = list(islice(_places(view, prefix, key, start, stop), rows_max + 1))
        if len(found) > rows_max:
            last = found[-1][0]
            if last == start:
                found = list(_places(view, prefix, key, start, start + 1))
                last += 1
            stop = min(stop, last)
        places += found
    changes: list[Change] = []
    size, main = 0, start
    for number, (next_main, sub) in enumerate(sorted(places)):
        if next_main >= stop:
            break
        if next_main != main and size >= limits.bytes_max:
            return Changes(changes, next_main)
        main = next_main
        if number % limits.rows_per_slice == limits.rows_per_slice - 1:
            yield
        if start <= state.compacted:
            if start < state.compacted:
                raise Compacted
            return Changes([], start)
        revision_key = rows.change_key(prefix, main, sub)
        value = view.get(REVISIONS, revision_key)
        assert value is not None, (main, sub)
        found_row = rows.decode_change(revision_key, value)
        change = change_at(view, prefix, found_row, state.compacted, limits.want_prev)
        assert change is not None, (main, sub)
        changes.append(change)
        size += len(change.row or b"") + len(change.prev or b"")
    return Changes(changes, stop)


def _places(
    view: Reader, prefix: bytes, key: bytes, start: int, stop: int
) -> Iterator[tuple[int, int]]:
    """Main and sub revisions at which the key changed, start <= main < stop, in order."""
    versions = rows.history_prefix(prefix, key)
    lower = versions + rows.history_newest(stop - 1)
    upper = versions + rows.history_newest(start - 1)
    for row_key, _ in view.iterate(HISTORY, lower, upper, reverse=True):
        yield rows.history_revision(row_key)
    row = view.get(KEYS, prefix + key)
    if row is not None:
        main = rows.decode(row[rows.ROW_HEAD_BYTES :]).mod_revision
        if start <= main < stop:
            yield main, rows.row_sub(row)
