"""Recently used key_value rows, bounded in bytes.

Two generations of dicts. As long as all fits, there is the young one only. When it is full it
becomes the old one, and what is still wanted comes back from there; the next time it does so at
half of the bytes, so that what is old has time to be wanted. (Evicting with
`pop(next(iter(d)))` walks over all entries that were removed before: it cut puts to a third.)
"""

from __future__ import annotations

from collections.abc import Sequence

ENTRY_OVERHEAD_BYTES = 200  # two bytes objects and their place in a dict


class RowCache:
    """Row keys to rows. Holds at most about `bytes_max`; 0 keeps nothing."""

    __slots__ = ("_bytes_max", "_old", "_old_bytes", "_young", "_young_bytes")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._young: dict[bytes, bytes] = {}
        self._young_bytes = 0
        self._old: dict[bytes, bytes] = {}
        self._old_bytes = 0

    def get(self, row_key: bytes) -> bytes | None:
        row = self._young.get(row_key)
        if row is None and self._old:
            row = self._old.get(row_key)
            if row is not None:
                self.put(row_key, row)
        return row

    def get_all(self, row_keys: Sequence[bytes]) -> list[bytes | None]:
        """The row of each key, in this order."""
        found = list(map(self._young.get, row_keys))
        if self._old and not all(found):
            found = [
                self.get(key) if row is None else row
                for key, row in zip(row_keys, found, strict=True)
            ]
        return found

    def put(self, row_key: bytes, row: bytes) -> None:
        size = _size(row_key, row)
        if 2 * size > self._bytes_max:
            self.drop(row_key)
            return
        before = self._young.get(row_key)
        if before is not None:
            size = len(row) - len(before)
        elif self._old:
            self._drop_old(row_key)
            if self._young_bytes + size > self._bytes_max // 2:
                self._grow_old()
        elif self._young_bytes + size > self._bytes_max:
            self._grow_old()
        self._young[row_key] = row
        self._young_bytes += size
        while self._young_bytes + self._old_bytes > self._bytes_max:
            if not self._old:
                self._grow_old()
            self._old_bytes -= _size(*self._old.popitem())

    def drop(self, row_key: bytes) -> None:
        row = self._young.pop(row_key, None)
        if row is not None:
            self._young_bytes -= _size(row_key, row)
        self._drop_old(row_key)

    def _drop_old(self, row_key: bytes) -> None:
        row = self._old.pop(row_key, None)
        if row is not None:
            self._old_bytes -= _size(row_key, row)

    def _grow_old(self) -> None:
        self._old, self._old_bytes = self._young, self._young_bytes
        self._young, self._young_bytes = {}, 0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)


def _size(row_key: bytes, row: bytes) -> int:
    return len(row_key) + len(row) + ENTRY_OVERHEAD_BYTES
