"""Recently used key_value rows, bounded in bytes.

Two generations of dicts: when the young one is full it becomes the old one,
and what is still wanted comes back from there. (Evicting with
`pop(next(iter(d)))` walks over all entries that were removed before: it cut
puts to a third.)
"""

from __future__ import annotations

from collections.abc import Sequence

ENTRY_OVERHEAD_BYTES = 200  # two bytes objects and their place in a dict


class RowCache:
    """Row keys to rows. Holds at most about `bytes_max`; 0 keeps nothing."""

    __slots__ = ("_generation_bytes_max", "_old", "_young", "_young_bytes")

    def __init__(self, bytes_max: int) -> None:
        self._generation_bytes_max = bytes_max // 2
        self._young: dict[bytes, bytes] = {}
        self._old: dict[bytes, bytes] = {}
        self._young_bytes = 0

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
        young = self._young
        size = len(row_key) + len(row) + ENTRY_OVERHEAD_BYTES
        before = young.get(row_key)
        grown = size if before is None else len(row) - len(before)
        if self._young_bytes + grown > self._generation_bytes_max:
            if size > self._generation_bytes_max:
                self.drop(row_key)
                return
            self._old = young
            self._young = young = {}
            self._young_bytes = 0
            grown = size
        young[row_key] = row
        self._young_bytes += grown

    def drop(self, row_key: bytes) -> None:
        row = self._young.pop(row_key, None)
        if row is not None:
            self._young_bytes -= len(row_key) + len(row) + ENTRY_OVERHEAD_BYTES
        self._old.pop(row_key, None)

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())
