"""Renewals that were written together: one row for many leases, in the place of a row for each.

A lease that is kept alive is renewed over and over, and only its last renewal counts. So many
that are renewed by one command, with one TTL, get one row that names them. Once that is old, those
that were not renewed since get rows of their own, and it goes. What is in use are the rows of the
last half minute, or less where there are very many.

Rows here are bytes of `lease.rows`: equal rows say the same TTL and the same deadline.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from chainfire.lease import rows
from chainfire.lease.spare import deadline_ms
from chainfire.storage.backend import Reader
from chainfire.storage.staged import Staged

TOGETHER_MIN: Final = 4  # fewer leases get rows of their own at once
IDS_PER_ROW_MAX: Final = 500
_KEPT_MS: Final = 30_000
_IDS_KEPT_MAX: Final = 500_000  # 4 MB, and 0.1 s of a start

# A keyspace, a lease of it, and what its row says; None: there is none.
RowOf = Callable[[int, int], bytes | None]


class Renewed:
    """The rows that are there, oldest first."""

    __slots__ = ("_ids_kept", "_rows")

    def __init__(self) -> None:
        self._rows: deque[tuple[int, int, bytes]] = deque()  # keyspace, number, value
        self._ids_kept = 0

    def read(self, reader: Reader, keyspaces: Iterable[int]) -> None:
        """Raises UnknownFormat, Corrupt."""
        found = [
            (keyspace, rows.renewals_number(key), value)
            for keyspace in keyspaces
            for key, value in reader.iterate(rows.FAMILY, *rows.renewals_bounds(keyspace))
        ]
        found.sort(key=lambda renewals: renewals[1])
        self._rows = deque(found)
        self._ids_kept = sum(len(rows.decode_renewals(value)[1]) for _, _, value in found)

    def each(self) -> Iterable[tuple[int, bytes, Sequence[int]]]:
        """Keyspace, the row that stands for all of them, and the leases; the latest last."""
        for keyspace, _, value in self._rows:
            row, ids = rows.decode_renewals(value)
            yield keyspace, row, ids

    def write(self, staged: Staged, keyspace: int, row: bytes, ids: Sequence[int]) -> int:
        """These leases are as `row` says. Returns how many rows there are more."""
        written, before = staged.rows(rows.FAMILY), len(self._rows)
        if len(ids) < TOGETHER_MIN:
            for lease in ids:
                written[rows.lease_key(keyspace, lease)] = row
            return 0
        number = self._rows[-1][1] if self._rows else 0
        for start in range(0, len(ids), IDS_PER_ROW_MAX):
            part = ids[start : start + IDS_PER_ROW_MAX]
            value = rows.encode_renewals(row, part)
            number += 1
            written[rows.renewals_key(keyspace, number)] = value
            self._rows.append((keyspace, number, value))
            self._ids_kept += len(part)
        return len(self._rows) - before

    def fold(self, staged: Staged, clock_ms: int, row_of: RowOf, count_max: int) -> None:
        """Take so many old rows back, if there are, for rows of those that are as these say."""
        written = staged.rows(rows.FAMILY)
        for _ in range(count_max):
            if not self._rows:
                return
            keyspace, number, value = self._rows[0]
            row, ids = rows.decode_renewals(value)
            ttl_ms, until_ms = rows.lease_times(row)
            age_ms = deadline_ms(clock_ms, ttl_ms) - until_ms
            if age_ms < _KEPT_MS and self._ids_kept <= _IDS_KEPT_MAX:
                return
            for lease in ids:
                if row_of(keyspace, lease) == row:
                    written[rows.lease_key(keyspace, lease)] = row
            written[rows.renewals_key(keyspace, number)] = None
            self._rows.popleft()
            self._ids_kept -= len(ids)
