"""The words of a snapshot transfer and their bytes: docs/formats.md, "A snapshot on its way". Pure.

    sender                                        receiver
    Offer: all files with their sizes        ──►
                                             ◄──  Have: what is there from an earlier try
    Chunk …, FileEnd for each file, in order ──►
                                             ◄──  Outcome

`decode_x` raises BadFrame for everything that cannot be one.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from chainfire.node import frames
from chainfire.node.frames import BadFrame
from chainfire.node.records import RecordCache
from chainfire.raft.messages import Message, MessageType

OFFER: Final = 80
HAVE: Final = 81
CHUNK: Final = 82
FILE_END: Final = 83
OUTCOME: Final = 84

CHUNK_BYTES: Final = 256 << 10
# Of one frame of a transfer: a chunk, or the names of very many files.
BODY_BYTES_MAX: Final = 16 << 20

_SIZE = struct.Struct(">I")
_NAME = struct.Struct(">H")
_U64 = struct.Struct(">Q")
_COUNT = struct.Struct(">BI")
_HAVE = struct.Struct(">IQQ")
_CHUNK = struct.Struct(">BIQ")
_FILE_END = struct.Struct(">BIQQ")
# RocksDB's own names; nothing that could lead out of a directory.
_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


@dataclass(slots=True, frozen=True)
class File:
    name: str
    size: int


@dataclass(slots=True, frozen=True)
class Offer:
    message: Message  # Raft's SNAPSHOT
    files: Sequence[File]

    @property
    def total_bytes(self) -> int:
        return sum(file.size for file in self.files)


@dataclass(slots=True, frozen=True)
class Part:
    """The beginning of a file, as the receiver has it."""

    number: int  # of the file, in the offer
    size: int
    hash: int


@dataclass(slots=True, frozen=True)
class Chunk:
    number: int
    offset: int
    data: bytes


@dataclass(slots=True, frozen=True)
class FileEnd:
    number: int
    size: int
    hash: int


@dataclass(slots=True, frozen=True)
class Outcome:
    arrived: bool
    text: str = ""


def encode_offer(offer: Offer) -> bytes:
    message = frames.encode_message(offer.message, RecordCache())
    parts = [bytes([OFFER]), _SIZE.pack(len(message)), message, _SIZE.pack(len(offer.files))]
    for file in offer.files:
        name = file.name.encode()
        parts += [_NAME.pack(len(name)), name, _U64.pack(file.size)]
    return b"".join(parts)


def decode_offer(body: bytes) -> Offer:
    try:
        _expect(body, OFFER)
        (size,) = _SIZE.unpack_from(body, 1)
        at = 1 + _SIZE.size
        message = frames.decode(body[at : at + size], RecordCache()) if size else None
        if not isinstance(message, Message) or message.type is not MessageType.SNAPSHOT:
            raise BadFrame("an offer of something that is no snapshot")
        at += size
        (count,) = _SIZE.unpack_from(body, at)
        at += _SIZE.size
        files = []
        for _ in range(count):
            (length,) = _NAME.unpack_from(body, at)
            at += _NAME.size
            name = body[at : at + length].decode("ascii")
            at += length
            if not is_file_name(name):
                raise BadFrame(f"a file of the name {name!r}")
            files.append(File(name, int(_U64.unpack_from(body, at)[0])))
            at += _U64.size
    except (struct.error, ValueError) as exc:
        raise BadFrame(f"an offer that cannot be read: {exc}") from exc
    if at != len(body) or len({file.name for file in files}) != len(files):
        raise BadFrame("an offer with a file named twice, or with something behind it")
    return Offer(message, files)


def is_file_name(name: str) -> bool:
    """Whether it may be created in a directory of ours."""
    return _FILE_NAME.fullmatch(name) is not None


def encode_have(parts: Sequence[Part]) -> bytes:
    rows = [_HAVE.pack(part.number, part.size, part.hash) for part in parts]
    return _COUNT.pack(HAVE, len(rows)) + b"".join(rows)


def decode_have(body: bytes) -> list[Part]:
    try:
        _expect(body, HAVE)
        _, count = _COUNT.unpack_from(body)
        rows = body[_COUNT.size :]
        if len(rows) != count * _HAVE.size:
            raise BadFrame(f"{count} parts in {len(rows)} bytes")
        return [Part(*row) for row in _HAVE.iter_unpack(rows)]
    except struct.error as exc:
        raise BadFrame(f"parts that cannot be read: {exc}") from exc


def encode_chunk(chunk: Chunk) -> bytes:
    return _CHUNK.pack(CHUNK, chunk.number, chunk.offset) + chunk.data


def encode_file_end(end: FileEnd) -> bytes:
    return _FILE_END.pack(FILE_END, end.number, end.size, end.hash)


def decode_content(body: bytes) -> Chunk | FileEnd:
    try:
        if body[0] == CHUNK:
            _, number, offset = _CHUNK.unpack_from(body)
            return Chunk(number, offset, body[_CHUNK.size :])
        _expect(body, FILE_END)
        return FileEnd(*_FILE_END.unpack(body)[1:])
    except struct.error as exc:
        raise BadFrame(f"a piece of a file that cannot be read: {exc}") from exc


def encode_outcome(outcome: Outcome) -> bytes:
    return bytes([OUTCOME, outcome.arrived]) + outcome.text.encode()


def decode_outcome(body: bytes) -> Outcome:
    _expect(body, OUTCOME)
    try:
        return Outcome(bool(body[1]), body[2:].decode())
    except (IndexError, UnicodeDecodeError) as exc:
        raise BadFrame(f"an outcome that cannot be read: {exc}") from exc


def _expect(body: bytes, kind: int) -> None:
    if body[0] != kind:
        raise BadFrame(f"a frame of kind {body[0]} where one of kind {kind} is due")
