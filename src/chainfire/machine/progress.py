"""How far a giant command is: the row `giant` of the family `machine`, there until it is done."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from chainfire.errors import Corrupt, UnknownFormat

KEY: Final = b"giant"

_FORMAT: Final = 2
_ROW: Final = struct.Struct(">BQQQIIqqqQH")
_FORMAT_1: Final = struct.Struct(">BQQIqqQ")  # of deletes alone


@dataclass(slots=True)
class Progress:
    index: int  # the entry's
    term: int
    revisions: int = 0  # that it has used up; the one under way not counted
    sub: int = 0  # the next one in the revision under way; 0: there is none yet
    step: int = 0  # operations of a transaction, or leases, that are done
    keys: int = 0  # all slices so far change the keyspace's counters by this, as by the next two
    live_bytes: int = 0
    history_bytes: int = 0
    digest: int = 0
    branch: bytes = b""  # what a transaction decided (mvcc.txn.bits_of)
    cursor: bytes = b""  # the next row key of a range that may be left; b"": from its start

    def encode(self) -> bytes:
        head = _ROW.pack(
            _FORMAT,
            self.index,
            self.term,
            self.revisions,
            self.sub,
            self.step,
            self.keys,
            self.live_bytes,
            self.history_bytes,
            self.digest,
            len(self.branch),
        )
        return head + self.branch + self.cursor

    @classmethod
    def decode(cls, row: bytes) -> Progress:
        """Raises UnknownFormat, Corrupt."""
        if row[:1] == b"\x01":
            return cls._decode_format_1(row)
        if row[:1] != bytes([_FORMAT]):
            raise UnknownFormat(f"progress row of format {row[:1].hex() or 'none'}")
        if len(row) < _ROW.size:
            raise Corrupt(f"progress row of {len(row)} bytes")
        _, *numbers, branch_size = _ROW.unpack_from(row)
        cursor_at = _ROW.size + branch_size
        if len(row) < cursor_at:
            raise Corrupt(f"progress row of {len(row)} bytes, with a branch of {branch_size}")
        progress = cls(*numbers)
        progress.branch, progress.cursor = row[_ROW.size : cursor_at], row[cursor_at:]
        return progress

    @classmethod
    def _decode_format_1(cls, row: bytes) -> Progress:
        if len(row) < _FORMAT_1.size:
            raise Corrupt(f"progress row of {len(row)} bytes")
        _, index, term, sub, live_bytes, history_bytes, digest = _FORMAT_1.unpack_from(row)
        return cls(
            index,
            term,
            sub=sub,
            keys=-sub,
            live_bytes=live_bytes,
            history_bytes=history_bytes,
            digest=digest,
            cursor=row[_FORMAT_1.size :],
        )
