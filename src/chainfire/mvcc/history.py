"""Changes in the order in which they were made: what watchers that catch up are told.

A call reads some whole main revisions and pins nothing: the next call goes on
where this one stopped, or raises Compacted if a compaction has overtaken it.
A delete exactly at the compacted revision is still delivered (etcd #18089).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from chainfire.errors import Compacted
from chainfire.mvcc import rows
from chainfire.mvcc.ranges import HISTORY, KEYS, REVISIONS, after_keyspace, version_at
from chainfire.mvcc.state import StoreState
from chainfire.storage.backend import Reader


@dataclass(slots=True, frozen=True)
class Event:
    main: int
    sub: int
    type: int  # rows.PUT or rows.DELETE
    reason: int
    key: bytes
    row: bytes | None  # encoded KeyValue; None for a delete
    prev: bytes | None  # the key's KeyValue before this main revision


@dataclass(slots=True, frozen=True)
class Events:
    events: list[Event]
    next_revision: int  # where to go on; one above the newest when nothing is left


def read_events(
    view: Reader, store: StoreState, keyspace: int, start: int, *, rows_max: int
) -> Events:
    """Changes of whole main revisions from `start` on, in order; no more than one past `rows_max`.

    `prev` is None for a created key, and where the revision before is
    compacted. Raises Compacted if `start` is below the compacted revision.
    """
    compacted = store.keyspace(keyspace).compacted
    if start < compacted:
        raise Compacted
    prefix = rows.keyspace_prefix(keyspace)
    lower = rows.change_key(prefix, start, 0)
    changes: list[rows.Change] = []
    next_revision = store.revision + 1
    for row_key, value in view.iterate(REVISIONS, lower, after_keyspace(prefix)):
        change = rows.decode_change(row_key, value)
        if len(changes) >= rows_max and change.main != changes[-1].main:
            next_revision = change.main
            break
        changes.append(change)
    events = [_event(view, prefix, change, compacted) for change in _surviving(changes, compacted)]
    return Events(events, max(next_revision, start))


def _surviving(changes: list[rows.Change], compacted: int) -> Iterable[rows.Change]:
    """Without what the compacted revision itself had replaced, whether it is gone yet or not."""
    newest = {change.key: change.sub for change in changes if change.main == compacted}
    return (
        change for change in changes if change.main > compacted or newest[change.key] == change.sub
    )


def _event(view: Reader, prefix: bytes, change: rows.Change, compacted: int) -> Event:
    key, main, sub = change.key, change.main, change.sub
    row = prev = None
    if change.type == rows.PUT:
        row = _version(view, prefix, key, main, sub)
        assert row is not None, (key, main, sub)
    if change.predecessor_main and main > compacted:
        if change.predecessor_main < main:
            prev = _version(view, prefix, key, change.predecessor_main, change.predecessor_sub)
        else:  # changed twice in one revision: as etcd, the pair before both
            prev = version_at(view, prefix, key, main - 1)
    return Event(main, sub, change.type, change.reason, key, row, prev)


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
