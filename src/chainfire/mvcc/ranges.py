"""Which rows a range means, and their versions at an old revision.

The newest version of every live key is in `key_value`; older ones and
tombstones are in `key_history`, newest first. A range at an old revision
walks both side by side: the row of key_value counts if it is old enough, else
the first history row that is.

No snapshot is taken. The walk pins its iterator over key_value; rows of
key_history that are written later belong to later revisions and are skipped.
Only physical compaction could take away what is looked for: whoever gives the
loop back during a walk must check the compacted revision when it goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from chainfire.mvcc import rows
from chainfire.storage.backend import Reader

KEYS, HISTORY, REVISIONS = "key_value", "key_history", "revisions"
FROM_KEY = b"\0"  # as range_end: every key from `key` on
STEPS_BEFORE_SEEK = 8  # a seek costs about as much as that many steps


@dataclass(slots=True, frozen=True)
class Bounds:
    """Row keys of key_value: lower <= key < upper."""

    prefix: bytes
    lower: bytes
    upper: bytes

    @classmethod
    def of(cls, prefix: bytes, key: bytes, range_end: bytes) -> Bounds | None:
        """The bounds of a range; None for an empty one. `range_end` must not be empty."""
        assert range_end
        if range_end == FROM_KEY:
            return cls(prefix, prefix + key, after_keyspace(prefix))
        if range_end <= key:
            return None
        return cls(prefix, prefix + key, prefix + range_end)

    def after(self, key: bytes) -> Bounds:
        """What follows the key: the range of the next page."""
        return Bounds(self.prefix, self.prefix + key + b"\0", self.upper)

    def before(self, key: bytes) -> Bounds:
        """The next page of somebody who reads backwards."""
        return Bounds(self.prefix, self.lower, self.prefix + key)

    @property
    def in_history(self) -> tuple[bytes, bytes]:
        """The bounds in key_history of the same keys' versions."""
        return _escape_bound(self.prefix, self.lower), _escape_bound(self.prefix, self.upper)

    @property
    def is_everything(self) -> bool:
        return self.lower <= self.prefix + b"\0" and self.upper == after_keyspace(self.prefix)


def after_keyspace(prefix: bytes) -> bytes:
    return (int.from_bytes(prefix) + 1).to_bytes(4)


def version_at(view: Reader, prefix: bytes, key: bytes, revision: int) -> bytes | None:
    """The key's KeyValue as of the end of `revision`, None if it was absent."""
    row = view.get(KEYS, prefix + key)
    if row is not None:
        kv = row[rows.ROW_HEAD_BYTES :]
        if rows.decode(kv).mod_revision <= revision:
            return kv
    versions = rows.history_prefix(prefix, key)
    for _, value in view.iterate(
        HISTORY, versions + rows.history_newest(revision), rows.after_history(versions)
    ):
        return rows.version_in(value)
    return None


def current_rows(view: Reader, bounds: Bounds, *, reverse: bool = False) -> Iterator[bytes]:
    """KeyValues of the newest state. Its iterator is pinned now, not at the first step."""
    return key_values(view.iterate(KEYS, bounds.lower, bounds.upper, reverse=reverse))


def key_values(found: Iterator[tuple[bytes, bytes]]) -> Iterator[bytes]:
    """Those in rows of key_value."""
    head = rows.ROW_HEAD_BYTES
    for _, row in found:
        yield row[head:]


def rows_at(view: Reader, bounds: Bounds, revision: int) -> Iterator[bytes]:
    """KeyValues as of the end of `revision`, in key order. Pinned now, see above."""
    current = view.iterate(KEYS, bounds.lower, bounds.upper)
    return _merge(current, HistoryWalk(view, bounds), bounds.prefix, revision)


def _merge(
    current: Iterator[tuple[bytes, bytes]], history: HistoryWalk, prefix: bytes, revision: int
) -> Iterator[bytes]:
    newest = rows.history_newest(revision)
    for row_key, row in current:
        versions = rows.history_prefix(prefix, row_key[len(prefix) :])
        yield from _only_in_history(history, versions, newest)
        kv = row[rows.ROW_HEAD_BYTES :]
        if rows.decode(kv).mod_revision <= revision:
            yield kv
        elif history.seek(versions + newest) == versions:
            old = rows.version_in(history.value)
            if old is not None:
                yield old
        history.seek(rows.after_history(versions))
    yield from _only_in_history(history, b"", newest)


def _only_in_history(history: HistoryWalk, until: bytes, newest: bytes) -> Iterator[bytes]:
    """Versions of the keys before `until` (b"" = all that are left): they are deleted by now."""
    versions = history.versions
    while versions and (versions < until or not until):
        if history.seek(versions + newest) == versions:
            old = rows.version_in(history.value)
            if old is not None:
                yield old
        versions = history.seek(rows.after_history(versions))


class HistoryWalk:
    """A place in key_history that only goes forward."""

    __slots__ = ("_found", "_lower", "_row_key", "_upper", "_view", "value", "versions")

    def __init__(self, view: Reader, bounds: Bounds) -> None:
        self._view = view
        self._lower, self._upper = bounds.in_history
        self._open(self._lower)

    def _open(self, lower: bytes) -> None:
        self._found = self._view.iterate(HISTORY, lower, self._upper)
        self._step()

    def _step(self) -> None:
        self._row_key, self.value = next(self._found, (b"", b""))
        # The history_prefix of the key it stands at; b"" at the end.
        self.versions = rows.history_row_prefix(self._row_key)

    def seek(self, target: bytes) -> bytes:
        """Go to the first row at or after `target`; return its `versions`."""
        for _ in range(STEPS_BEFORE_SEEK):
            if not self.versions or self._row_key >= target:
                return self.versions
            self._step()
        if self.versions and self._row_key < target:
            self._open(target)
        return self.versions


def _escape_bound(prefix: bytes, bound: bytes) -> bytes:
    """Where a bound on row keys of key_value lies in key_history.

    All rows of a key begin with its escaped bytes and the terminator, so the
    first row of a key at or after the bound comes after the bound's own
    escaped bytes, and rows of a key before the bound come before them.
    """
    if not bound.startswith(prefix):
        return bound  # the next keyspace
    return prefix + bound[len(prefix) :].replace(b"\0", b"\0\xff")
