"""A batch of the log's rows (`wal.py`), as they are to be written."""

from __future__ import annotations

from collections.abc import Mapping

from chainfire.storage.walformat import DELETE, DELETE_RANGE, PUT


class WalBatch:
    def __init__(self, families: Mapping[str, int]) -> None:
        self._families = families
        self.rows: list[tuple[int, int, bytes, bytes]] = []  # kind, family, key, value

    def put(self, family: str, key: bytes, value: bytes) -> None:
        self.rows.append((PUT, self._families[family], key, value))

    def delete(self, family: str, key: bytes) -> None:
        self.rows.append((DELETE, self._families[family], key, b""))

    def change(self, family: str, rows: Mapping[bytes, bytes | None]) -> None:
        for key, value in rows.items():
            if value is None:
                self.delete(family, key)
            else:
                self.put(family, key, value)

    def delete_range(self, family: str, lower: bytes, upper: bytes) -> None:
        self.rows.append((DELETE_RANGE, self._families[family], lower, upper))

    def __len__(self) -> int:
        return len(self.rows)
