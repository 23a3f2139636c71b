"""Log records: the bytes that hold consecutive entries, stored and sent alike.

Format 1 of docs/formats.md, "raft_logs". Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from chainfire.errors import Corrupt, UnknownFormat
from chainfire.types import Entry, EntryType

FORMAT = 1
_HEAD = struct.Struct(">BI")
_ENTRY = struct.Struct(">QBI")
_TYPES = tuple(EntryType)


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
    return sum([len(entry.data) for entry in entries])
