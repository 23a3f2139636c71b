"""Where the records of the state's write-ahead log are, RocksDB's, so that a test can hit one.

Format (rocksdb db/log_format.h): blocks of 32 KiB; a record is crc u32, length u16, type u8 and,
in recycled files, log number u32 (all little-endian), then the payload. Types 1 to 4 are plain,
5 to 8 carry the log number; a recycled file goes on with older records of another number.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

BLOCK = 32 * 1024
_PLAIN, _RECYCLED = range(1, 5), range(5, 9)


@dataclass(frozen=True, slots=True)
class Record:
    offset: int  # of its header
    payload: int  # offset of the payload
    length: int

    @property
    def end(self) -> int:
        return self.payload + self.length


def records(path: Path) -> list[Record]:
    """All fragments that belong to this log, in order."""
    data = path.read_bytes()
    number = int(path.stem) & 0xFFFFFFFF
    found = []
    at = 0
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        header = 7
        if kind in _RECYCLED and at + 11 <= len(data):
            header = 11
            if struct.unpack_from("<I", data, at + 7)[0] != number:
                break
        elif kind not in _PLAIN:
            break
        record = Record(at, at + header, length)
        if record.end > len(data):
            break
        found.append(record)
        at = record.end
    return found
