"""Log records: the bytes that hold consecutive entries, stored and sent alike.

Format 1 of docs/formats.md, "raft_logs". Pure. A RecordCache lets those who
store and those who send or receive the same entries share one record.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

from chainfire.errors import Corrupt, UnknownFormat
from chainfire.types import Entry, EntryType

FORMAT = 1
RECORD_BYTES_MAX = 1 << 20  # of data; what is read back is read in whole records
CACHE_BYTES_MAX = 4 << 20  # stored and sent in the same turn: a few batches are enough
_HEAD = struct.Struct(">BI")
_ENTRY = struct.Struct(">QBI")
_TYPES = tuple(EntryType)
_data_of = attrgetter("data")


def encode(entries: Sequence[Entry]) -> bytes:
    """One record of entries with consecutive indexes."""
    head = _ENTRY.pack
    parts = [_HEAD.pack(FORMAT, len(entries))]
    for entry in entries:
        data = entry.data
        parts.append(head(entry.term, entry.type, len(data)))
        parts.append(data)
    return b"".join(parts)


def decode(first_index: int, record: bytes) -> list[Entry]:
    """The entries of a record that stands under `first_index`.

    Raises UnknownFormat for another format number, Corrupt for bytes that are no record.
    """
    if not record or record[0] != FORMAT:
        raise UnknownFormat(
            f"log record at index {first_index} has format {record[:1].hex() or 'none'}, "
            f"this version reads {FORMAT}"
        )
    entries = []
    try:
        _, count = _HEAD.unpack_from(record)
        at = _HEAD.size
        for index in range(first_index, first_index + count):
            term, type_, size = _ENTRY.unpack_from(record, at)
            at += _ENTRY.size
            data = record[at : at + size]
            if len(data) != size:
                raise Corrupt(f"log record at index {first_index} ends inside entry {index}")
            entries.append(Entry(term, index, _TYPES[type_], data))
            at += size
    except (struct.error, IndexError) as exc:
        raise Corrupt(f"log record at index {first_index} cannot be read: {exc}") from exc
    if at != len(record) or not entries:
        raise Corrupt(
            f"log record at index {first_index}: {len(record)} bytes, {at} used, "
            f"{len(entries)} entries"
        )
    return entries


def data_bytes(entries: Iterable[Entry]) -> int:
    """What the entries weigh in memory and on the wire, headers aside."""
    return sum(map(len, map(_data_of, entries)))


@dataclass(slots=True, init=False)
class _Held:
    """Never changed; not frozen, as types.Entry."""

    first: Entry
    last: Entry
    count: int
    record: bytes

    def __init__(self, first: Entry, last: Entry, count: int, record: bytes) -> None:
        self.first = first
        self.last = last
        self.count = count
        self.record = record


class RecordCache:
    """The newest records beside the entries that they were made of, or read as.

    An entry is told by identity: these very objects travel from the wire or
    the proposal through Raft to the log store and into each APPEND, and a run
    of entries with the same two ends is the same run.
    """

    __slots__ = ("_bytes", "_bytes_max", "_held")

    def __init__(self, bytes_max: int = CACHE_BYTES_MAX) -> None:
        self._bytes_max = bytes_max  # the newest record stays whatever its size
        self._bytes = 0
        self._held: dict[int, _Held] = {}  # by first index, oldest first

    def encode(self, entries: Sequence[Entry]) -> list[bytes]:
        """Records that hold these consecutive entries; those known already are not made again."""
        found: list[bytes] = []
        at, end = 0, len(entries)
        while at < end:
            held = self._held.get(entries[at].index)
            if (
                held is None
                or held.first is not entries[at]
                or at + held.count > end
                or held.last is not entries[at + held.count - 1]
            ):
                break
            found.append(held.record)
            at += held.count
        if at < end:
            rest = entries[at:] if at else entries
            for part in (rest,) if data_bytes(rest) <= RECORD_BYTES_MAX else _parts(rest):
                record = encode(part)
                self.remember(part, record)
                found.append(record)
        return found

    def remember(self, entries: Sequence[Entry], record: bytes) -> None:
        """These entries are what the record holds."""
        first = entries[0].index
        old = self._held.pop(first, None)
        if old is not None:
            self._bytes -= len(old.record)
        self._held[first] = _Held(entries[0], entries[-1], len(entries), record)
        self._bytes += len(record)
        while self._bytes > self._bytes_max and len(self._held) > 1:
            oldest = self._held.pop(next(iter(self._held)))
            self._bytes -= len(oldest.record)


def first_index_after(record: bytes, first_index: int) -> int:
    """The index behind the last entry of a record that stands under `first_index`."""
    return first_index + int(_HEAD.unpack_from(record)[1])


def _parts(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """The entries in pieces that each make a record; a single entry may be larger."""
    start, weight = 0, 0
    for at, entry in enumerate(entries):
        weight += len(entry.data)
        if weight > RECORD_BYTES_MAX and at > start:
            yield entries[start:at]
            start, weight = at, len(entry.data)
    yield entries[start:]
