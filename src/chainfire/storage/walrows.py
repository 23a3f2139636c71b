"""The rows that a log holds, by key: where each stands, or the row itself.

Keys come nearly always behind all others and go nearly always at the front, so a sorted list with
a dict beside it does.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Generic, TypeVar

T = TypeVar("T")


class Rows(Generic[T]):
    def __init__(self) -> None:
        self._keys: list[bytes] = []  # ascending
        self._found: dict[bytes, T] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def get(self, key: bytes) -> T | None:
        return self._found.get(key)

    def put(self, key: bytes, row: T) -> T | None:
        """What was there before."""
        before = self._found.get(key)
        if before is None:
            keys = self._keys
            if not keys or key > keys[-1]:
                keys.append(key)
            else:
                insort(keys, key)
        self._found[key] = row
        return before

    def delete(self, key: bytes) -> T | None:
        """What was there."""
        before = self._found.pop(key, None)
        if before is not None:
            del self._keys[bisect_left(self._keys, key)]
        return before

    def delete_range(self, lower: bytes, upper: bytes) -> list[T]:
        """What was there."""
        keys = self._keys
        low, high = bisect_left(keys, lower), bisect_left(keys, upper)
        gone = [self._found.pop(key) for key in keys[low:high]]
        del keys[low:high]
        return gone

    def keys(self, lower: bytes, upper: bytes | None) -> list[bytes]:
        """A list of its own."""
        keys = self._keys
        high = len(keys) if upper is None else bisect_left(keys, upper)
        return keys[bisect_left(keys, lower) : high]

    def items(self, lower: bytes = b"", upper: bytes | None = None) -> list[tuple[bytes, T]]:
        """A list of its own."""
        return [(key, self._found[key]) for key in self.keys(lower, upper)]
