"""What a log holds, in memory: of the entries where they stand, of all else the rows themselves.

The entries are the first family. They are read from the files (`walfiles.py`), each record with the
checksum that it was written with; a file counts how many of them it has, and is needed as long
as there are any.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from chainfire.errors import Corrupt, UnknownFormat
from chainfire.storage.walfiles import WalFile
from chainfire.storage.walformat import (
    DELETE,
    DELETE_RANGE,
    MARK,
    PUT,
    RECORD_BYTES,
    check_record,
    decode_rows,
    encode_row,
)
from chainfire.storage.walrows import Rows

_ENTRIES: Final = 0  # the family whose rows stay in the files


class Record:
    """Where a record stands."""

    __slots__ = ("before", "file", "length", "offset")

    def __init__(self, file: WalFile, offset: int, before: int, length: int) -> None:
        self.file = file
        self.offset = offset
        self.before = before  # the crc of the record before it
        self.length = length  # of the payload


class Place:
    """Where a row's value stands: in the payload of a record."""

    __slots__ = ("end", "record", "start")

    def __init__(self, record: Record, start: int, end: int) -> None:
        self.record = record
        self.start = start
        self.end = end


class Table:
    """Families are numbers here."""

    def __init__(self, family_count: int, failed: Callable[[Corrupt], None]) -> None:
        """`failed` hears of damage before whoever has met it does."""
        self._failed = failed
        self._entries: Rows[Place] = Rows()
        self._facts: list[Rows[bytes]] = [Rows() for _ in range(family_count)]

    # ── reads ───────────────────────────────────────────────────────────────

    def get(self, family: int, key: bytes) -> bytes | None:
        if family != _ENTRIES:
            return self._facts[family].get(key)
        place = self._entries.get(key)
        return None if place is None else self._load(key, place)

    def iterate(
        self, family: int, lower: bytes, upper: bytes | None, *, reverse: bool
    ) -> Iterator[tuple[bytes, bytes]]:
        if family != _ENTRIES:
            facts = self._facts[family].items(lower, upper)
            return iter(facts[::-1] if reverse else facts)
        places = self._entries.items(lower, upper)
        if reverse:
            places.reverse()
        return self._loaded(places)

    def keys(self, family: int, lower: bytes, upper: bytes | None) -> Iterator[bytes]:
        rows = self._entries if family == _ENTRIES else self._facts[family]
        return iter(rows.keys(lower, upper))

    def scrub(self, family: int, lower: bytes, bytes_max: int) -> bytes | None:
        if family != _ENTRIES:
            return None  # in memory, and again at the head of each file
        for key, place in self._entries.items(lower, None):
            value = self._load(key, place)
            bytes_max -= len(key) + (0 if value is None else len(value))
            if bytes_max <= 0:
                return key + b"\0"
        return None

    def encoded_facts(self) -> bytes:
        """All rows but the entries, as the payload of a record that no other one equals."""
        rows = [encode_row(MARK, 0, os.urandom(8), b"")]
        for family, facts in enumerate(self._facts):
            for key, value in facts.items():
                rows.append(encode_row(PUT, family, key, value))
                rows.append(value)
        return b"".join(rows)

    def _loaded(self, places: Sequence[tuple[bytes, Place]]) -> Iterator[tuple[bytes, bytes]]:
        for key, place in places:
            value = self._load(key, place)
            if value is not None:
                yield key, value

    def _load(self, key: bytes, place: Place) -> bytes | None:
        """None: it is gone meanwhile, and its file used again."""
        record = place.record
        try:
            data = os.pread(record.file.fd, RECORD_BYTES + record.length, record.offset)
            fault = "the checksum does not hold"
        except OSError as exc:
            data, fault = b"", str(exc.strerror)
        if check_record(record.before, data, 0) is not None:
            return data[RECORD_BYTES + place.start : RECORD_BYTES + place.end]
        if self._entries.get(key) is not place:
            return None
        error = Corrupt(f"{record.file.path}: the record at {record.offset}: {fault}")
        self._failed(error)
        raise error

    # ── changes ─────────────────────────────────────────────────────────────

    def change(self, kind: int, family: int, key: bytes, value: bytes, place: Place) -> None:
        """What a row says; `value` is of interest for a fact's, or an upper bound."""
        if family != _ENTRIES:
            facts = self._facts[family]
            if kind == PUT:
                facts.put(key, value)
            elif kind == DELETE:
                facts.delete(key)
            else:
                facts.delete_range(key, value)
            return
        entries = self._entries
        if kind == PUT:
            place.record.file.live += 1
            gone = entries.put(key, place)
        elif kind == DELETE:
            gone = entries.delete(key)
        else:
            for each in entries.delete_range(key, value):
                each.record.file.live -= 1
            return
        if gone is not None:
            gone.record.file.live -= 1

    def replayed(self, file: WalFile, offset: int, before: int, payload: bytes) -> None:
        """A record that a start has found. Raises Corrupt, UnknownFormat."""
        record = Record(file, offset, before, len(payload))
        for row in decode_rows(payload):
            if row.kind == MARK:
                continue
            if row.family >= len(self._facts):
                raise UnknownFormat(f"{file.path}: a row of family {row.family}")
            keeps = row.family != _ENTRIES or row.kind == DELETE_RANGE
            value = payload[row.start : row.end] if keeps else b""
            self.change(row.kind, row.family, row.key, value, Place(record, row.start, row.end))
