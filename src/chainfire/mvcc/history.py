"""Changes in the order in which they were made: what watchers that catch up are told.

A walk reads whole main revisions from `revisions` and pins nothing: after each
pause it goes on where it stopped, or raises Compacted if a compaction has
overtaken its start. A delete exactly at the compacted revision is still
delivered (etcd #18089).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chainfire.errors import Compacted
from chainfire.mvcc import rows
from chainfire.mvcc.ranges import HISTORY, KEYS, REVISIONS, version_at
from chainfire.mvcc.read import Steps
from chainfire.mvcc.state import StoreState
from chainfire.storage.backend import Reader


@dataclass(slots=True, frozen=True)
class Change:
    main: int
    sub: int
    type: int  # rows.PUT or rows.DELETE
    reason: int
    key: bytes
    row: bytes | None  # encoded KeyValue; None for a delete
    prev: bytes | None  # the key's KeyValue before this main revision


@dataclass(slots=True, frozen=True)
class Changes:
    changes: list[Change]
    next_revision: int  # where to go on; `stop` when nothing is left


@dataclass(slots=True, frozen=True)
class Limits:
    """Of what is read in one portion, and between two pauses of it."""

    want_prev: bool
    rows_max: int
    bytes_max: int
    rows_per_slice: int


def change_steps(
    view: Reader,
    store: StoreState,
    keyspace: int,
    start: int,
    stop: int,
    is_wanted: Callable[[bytes], object],
    limits: Limits,
) -> Steps[Changes]:
    """Changes of whole main revisions, start <= main < stop, in order, to the wanted row keys.

    Ends behind the revision that reaches `rows_max` rows walked or `bytes_max`
    bytes found. `prev` is None for a created key, where the revision before is
    compacted, and unless it is wanted. Raises Compacted if `start` is below the
    compacted revision.
    """
    prefix, state = rows.keyspace_prefix(keyspace), store.keyspace(keyspace)
    position, upper = rows.change_key(prefix, start, 0), rows.change_key(prefix, stop, 0)
    found: list[Change] = []
    walked, size, main = 0, 0, start
    while True:
        compacted = state.compacted
        if start < compacted:
            raise Compacted
        for row_key, value in view.iterate(REVISIONS, position, upper):
            row_main = rows.change_main(row_key)
            if row_main != main:
                if walked >= limits.rows_max or size >= limits.bytes_max:
                    return Changes(_surviving(found, compacted), row_main)
                main = row_main
            walked += 1
            if is_wanted(prefix + value[rows.CHANGE_HEAD_BYTES :]):
                row = rows.decode_change(row_key, value)
                change = change_at(view, prefix, row, compacted, limits.want_prev)
                if change is not None:
                    found.append(change)
                    size += len(change.row or b"") + len(change.prev or b"")
            if walked % limits.rows_per_slice == 0:
                position = row_key + b"\0"
                break
        else:
            return Changes(_surviving(found, compacted), stop)
        yield


def _surviving(found: list[Change], compacted: int) -> list[Change]:
    """Without what the compacted revision itself had replaced, whether it is gone yet or not."""
    newest = {change.key: change.sub for change in found if change.main == compacted}
    if not newest:
        return found
    return [
        change for change in found if change.main > compacted or newest[change.key] == change.sub
    ]


def change_at(
    view: Reader, prefix: bytes, found: rows.Change, compacted: int, want_prev: bool
) -> Change | None:
    """The change that a row of `revisions` tells of.

    None: a version that the compacted revision had replaced, and that is gone.
    """
    key, main, sub = found.key, found.main, found.sub
    row = prev = None
    if found.type == rows.PUT:
        row = _version(view, prefix, key, main, sub)
        if row is None:
            assert main <= compacted, (key, main, sub, compacted)
            return None
    if want_prev and found.predecessor_main and main > compacted:
        if found.predecessor_main < main:
            prev = _version(view, prefix, key, found.predecessor_main, found.predecessor_sub)
        else:  # changed twice in one revision: as etcd, the pair before both
            prev = version_at(view, prefix, key, main - 1)
    return Change(main, sub, found.type, found.reason, key, row, prev)


def _version(view: Reader, prefix: bytes, key: bytes, main: int, sub: int) -> bytes | None:
    """Exactly this version."""
    value = view.get(HISTORY, rows.history_key(prefix, key, main, sub))
    if value is not None:
        return rows.version_in(value)
    row = view.get(KEYS, prefix + key)
    if row is None or rows.row_sub(row) != sub:
        return None
    kv = row[rows.ROW_HEAD_BYTES :]
    return kv if rows.decode(kv).mod_revision == main else None
