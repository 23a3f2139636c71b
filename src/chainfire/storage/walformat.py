"""What stands in a file of the log (`wal.py`): a header, then records, each a batch of rows. Pure.

    header   magic  u32 format  u64 number  u64 previous  u64 previous end  u64 oldest  u64 salt
             u32 crc
    record   u32 crc  u32 length  payload: row after row
    row      u8 kind  u8 family  u16 key length  u32 value length  key  value

All numbers are big-endian; crc is CRC-32. A record's is taken over the crc before it (the
header's, for the first), its length and its payload: so records form a chain, and what a file
held in an earlier use, or beyond a write that was torn, does not go on with it. Not even where a
later start writes the same bytes once more: a header's salt, and the mark before the facts that a
start writes, are random.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from chainfire.errors import Corrupt, UnknownFormat

FORMAT: Final = 1
HEADER_BYTES: Final = 64
RECORD_BYTES: Final = 8  # before the payload
PUT: Final = 1
DELETE: Final = 2
DELETE_RANGE: Final = 3  # the value is the upper bound
MARK: Final = 4  # no row: a random key, which sets the record apart

_MAGIC: Final = b"chainfire-log\n\0\0"
_HEADER: Final = struct.Struct(">16sIQQQQQ")
_U32: Final = struct.Struct(">I")
_RECORD: Final = struct.Struct(">II")
_ROW: Final = struct.Struct(">BBHI")
_KINDS: Final = (PUT, DELETE, DELETE_RANGE, MARK)


@dataclass(slots=True, frozen=True)
class Header:
    """`previous` is the number of the file before this one, 0 for the first, and
    `previous_end` where its records end; `oldest` the number of the first one that was needed
    when this one was begun, maybe itself."""

    number: int
    previous: int
    previous_end: int
    oldest: int
    salt: int  # of 64 bits
    crc: int = 0  # of what stands before it


@dataclass(slots=True, frozen=True)
class Row:
    kind: int
    family: int  # its place in the list of families
    key: bytes
    start: int  # of the value, from the payload's begin
    end: int


def encode_header(header: Header) -> bytes:
    """HEADER_BYTES of them, with their own crc."""
    fields = _HEADER.pack(
        _MAGIC,
        FORMAT,
        header.number,
        header.previous,
        header.previous_end,
        header.oldest,
        header.salt,
    )
    return (fields + _U32.pack(crc32(fields))).ljust(HEADER_BYTES, b"\0")


def decode_header(data: bytes) -> Header | None:
    """None: there is none, as in a file that was made and never used.

    Raises Corrupt; UnknownFormat for one that a newer version has written.
    """
    data = data[:HEADER_BYTES]
    if not data.strip(b"\0"):
        return None
    if len(data) < HEADER_BYTES:
        raise Corrupt("the header is cut off")
    magic, format, number, previous, previous_end, oldest, salt = _HEADER.unpack_from(data)
    (crc,) = _U32.unpack_from(data, _HEADER.size)
    if crc != crc32(data[: _HEADER.size]) or magic != _MAGIC:
        raise Corrupt("the header's checksum does not hold")
    if format != FORMAT:
        raise UnknownFormat(f"format {format}, this version knows format {FORMAT}")
    return Header(number, previous, previous_end, oldest, salt, crc)


def encode_row(kind: int, family: int, key: bytes, value: bytes) -> bytes:
    """A row up to its value, which follows."""
    return _ROW.pack(kind, family, len(key), len(value)) + key


def encode_record(before: int, head: bytes, value: bytes) -> tuple[bytes, int]:
    """What stands before a payload of `head` and `value`, and the record's crc; `before` is the crc
    of the record before it."""
    length = _U32.pack(len(head) + len(value))
    crc = crc32(value, crc32(head, crc32(length, before)))
    return _U32.pack(crc) + length, crc


def check_record(before: int, data: bytes, offset: int) -> tuple[int, int] | None:
    """End and crc of the record at `offset`; None: nothing that goes on with the chain is there."""
    begin = offset + RECORD_BYTES
    if begin > len(data):
        return None
    crc, length = _RECORD.unpack_from(data, offset)
    end = begin + length
    if not length or end > len(data):
        return None
    if crc32(data[begin:end], crc32(data[offset + 4 : begin], before)) != crc:
        return None
    return end, crc


def decode_rows(payload: bytes) -> Iterator[Row]:
    """Raises Corrupt: its checksum holds, but this is no payload."""
    at = 0
    while at < len(payload):
        if at + _ROW.size > len(payload):
            raise Corrupt("a row of the log is cut off")
        kind, family, key_bytes, value_bytes = _ROW.unpack_from(payload, at)
        start = at + _ROW.size + key_bytes
        at = start + value_bytes
        if kind not in _KINDS or at > len(payload):
            raise Corrupt(f"a row of the log cannot be read: kind {kind}, {value_bytes} bytes")
        yield Row(kind, family, payload[start - key_bytes : start], start, at)
