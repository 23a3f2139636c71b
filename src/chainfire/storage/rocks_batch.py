"""Writes for a RocksBackend, gathered: atomic when the backend writes them."""

from __future__ import annotations

from collections.abc import Mapping

import rocksdict


class RocksBatch:
    """A WriteBatch of the binding with families by name. Written once."""

    __slots__ = ("_delete", "_handles", "_put", "rows")

    def __init__(self, handles: dict[str, rocksdict.ColumnFamily]) -> None:
        self.rows = rocksdict.WriteBatch(raw_mode=True)
        self._handles = handles
        self._put = self.rows.put
        self._delete = self.rows.delete

    def put(self, family: str, key: bytes, value: bytes) -> None:
        self._put(key, value, self._handles[family])

    def delete(self, family: str, key: bytes) -> None:
        self._delete(key, self._handles[family])

    def change(self, family: str, rows: Mapping[bytes, bytes | None]) -> None:
        put, handle = self._put, self._handles[family]
        for key, value in rows.items():
            if value is None:
                self._delete(key, handle)
            else:
                put(key, value, handle)

    def delete_range(self, family: str, lower: bytes, upper: bytes) -> None:
        assert lower <= upper, (lower, upper)
        self.rows.delete_range(lower, upper, self._handles[family])

    def __len__(self) -> int:
        return len(self.rows)
