"""Effects of a turn's entries, not yet written: later entries read them over the base.

`put`, `delete` and a `get` that hits are dict operations. `iterate` costs
what the base costs where nothing in its range is staged. The staged keys of
a family are kept sorted only as far as somebody iterates; a key never leaves
before `clear` (a delete stays as None), so that the newest keys are always
the last ones of the dict.

The same changes are kept twice: per key, for reads and for the batch; and in
writing order since the last `take_rows`, for the hash chain.

A long read may want all this as it is now, and be done later, when it has
been written and more has been staged: `pinned`.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import islice

from chainfire.storage.backend import Freezable, Reader, Snapshot, WriteBatch, keys_of

Change = tuple[str, bytes, bytes | None]  # family, key, value or None for a delete
_INSORT_KEYS_MAX = 16  # more new keys than that are sorted in, not inserted


class Overlay:
    """A Reader: some rows over a base."""

    __slots__ = ("_base", "_rows", "_sorted")

    def __init__(
        self, base: Reader, rows: Mapping[str, dict[bytes, bytes | None]] | None = None
    ) -> None:
        """`rows` of some families, which are its own from now on."""
        self._base = base
        self._rows: defaultdict[str, dict[bytes, bytes | None]] = defaultdict(dict, rows or {})
        self._sorted: defaultdict[str, list[bytes]] = defaultdict(list)

    def get(self, family: str, key: bytes) -> bytes | None:
        rows = self._rows[family]
        if key in rows:
            return rows[key]
        return self._base.get(family, key)

    def iterate(
        self, family: str, lower: bytes = b"", upper: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        base = self._base.iterate(family, lower, upper, reverse=reverse)
        keys = self._staged_keys(family, lower, upper)
        if not keys:
            return base
        rows = self._rows[family]
        if reverse:
            keys.reverse()
        return _merge(base, [(key, rows[key]) for key in keys], reverse)

    def keys(self, family: str, lower: bytes = b"", upper: bytes | None = None) -> Iterator[bytes]:
        if not self._staged_keys(family, lower, upper):
            return self._base.keys(family, lower, upper)
        return keys_of(self.iterate(family, lower, upper))

    def _staged_keys(self, family: str, lower: bytes, upper: bytes | None) -> list[bytes]:
        rows = self._rows[family]
        if not rows:
            return []
        keys = self._sorted[family]
        new_count = len(rows) - len(keys)
        if 0 < new_count <= _INSORT_KEYS_MAX:
            for key in islice(reversed(rows), new_count):
                insort(keys, key)
        elif new_count:
            keys.extend(islice(reversed(rows), new_count))
            keys.sort()
        stop = len(keys) if upper is None else bisect_left(keys, upper)
        return keys[bisect_left(keys, lower) : stop]


class Staged(Overlay):
    """A Reader and a Writer over `base`."""

    __slots__ = ("_changes", "_freezable", "_snapshot")

    def __init__(self, base: Freezable) -> None:
        super().__init__(base)
        self._changes: list[Change] = []
        self._freezable = base
        self._snapshot: Snapshot | None = None  # of the base, whose rows stay until `clear`

    def put(self, family: str, key: bytes, value: bytes) -> None:
        self._rows[family][key] = value
        self._changes.append((family, key, value))

    def delete(self, family: str, key: bytes) -> None:
        self._rows[family][key] = None
        self._changes.append((family, key, None))

    def note(self, family: str, key: bytes, value: bytes) -> None:
        """For `take_rows` alone: a row that is there in another form, which its writer sees to."""
        self._changes.append((family, key, value))

    def rows(self, family: str) -> dict[bytes, bytes | None]:
        """The family's staged rows, always the same dict; who adds to it needs no `take_rows`."""
        return self._rows[family]

    def take_rows(self) -> list[Change]:
        """The changes since the last call, in writing order. The caller owns the list."""
        changes, self._changes = self._changes, []
        return changes

    def drain_into(self, batch: WriteBatch) -> None:
        """Write the last value of every changed key; what is staged stays until `clear`."""
        for family, rows in self._rows.items():
            batch.change(family, rows)

    def clear(self) -> None:
        for rows in self._rows.values():
            rows.clear()
        self._sorted.clear()
        self._changes = []
        self._snapshot = None  # not closed: somebody may be reading it

    def pinned(self, spans: Mapping[str, tuple[bytes, bytes]]) -> Reader:
        """What may be read now, between the bounds given for each family, for as long as it takes.

        It is held in memory and on disk until nobody has it any more.
        """
        if self._snapshot is None:
            self._snapshot = self._freezable.snapshot()
        pinned: dict[str, dict[bytes, bytes | None]] = {}
        for family, (lower, upper) in spans.items():
            rows = self._rows[family]
            pinned[family] = {key: rows[key] for key in self._staged_keys(family, lower, upper)}
        return Overlay(self._snapshot, pinned)


def _merge(
    base: Iterator[tuple[bytes, bytes]], staged: list[tuple[bytes, bytes | None]], reverse: bool
) -> Iterator[tuple[bytes, bytes]]:
    """Both in the order of the iteration; where both have a key, the staged row wins."""
    at, end = 0, len(staged)
    for row in base:
        base_key = row[0]
        while at < end:
            key, value = staged[at]
            if key == base_key or (key < base_key) == reverse:
                break
            at += 1
            if value is not None:
                yield key, value
        if at < end and staged[at][0] == base_key:
            key, value = staged[at]
            at += 1
            if value is not None:
                yield key, value
        else:
            yield row
    for key, value in islice(staged, at, None):
        if value is not None:
            yield key, value
