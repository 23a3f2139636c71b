"""The snapshot archive: a member's `state/` as one file, for backups. docs/formats.md, "Archive".

    magic, facts, names and sizes  ‖  each file, then its checksum  ‖  zeros  ‖  SHA-256 of it all

The SHA-256 stands where etcd's stands, behind a multiple of 512 bytes, so that
`etcdctl snapshot save` takes the file as whole and keeps it. Blocking calls;
run them on a thread.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from xxhash import xxh3_64

from chainfire.errors import ChainfireError
from chainfire.node.transfer import File, is_file_name

MAGIC: Final = b"CFSNAP\r\n"  # a transfer that mends line ends shows
FORMAT: Final = 1
PIECE_BYTES: Final = 256 << 10
HEAD_BYTES_MAX: Final = 16 << 20
_ALIGNED: Final = 512

_FIXED = struct.Struct(">8sIB")  # magic, length of the rest of the head, format
_FACTS = struct.Struct(">QQH")
_NAME = struct.Struct(">HQ")
_COUNT = struct.Struct(">I")
_U64 = struct.Struct(">Q")


class BadArchive(ChainfireError):
    """A file that is no snapshot of Chainfire, or not a whole one. Nothing of it may be used."""

    text = "bad snapshot file"

    def __init__(self, detail: str) -> None:
        super().__init__(f"{self.text}: {detail}")


@dataclass(slots=True, frozen=True)
class Head:
    """Whose state it is, and what files it consists of."""

    cluster_id: int
    member_id: int
    version: str  # of the program that wrote it
    files: Sequence[File]

    def encode(self) -> bytes:
        version = self.version.encode()
        parts = [_FACTS.pack(self.cluster_id, self.member_id, len(version)), version]
        parts.append(_COUNT.pack(len(self.files)))
        for file in self.files:
            name = file.name.encode()
            parts += [_NAME.pack(len(name), file.size), name]
        rest = b"".join(parts)
        return _FIXED.pack(MAGIC, len(rest), FORMAT) + rest

    @property
    def total_bytes(self) -> int:
        """Of the whole archive."""
        size = len(self.encode()) + sum(file.size + _U64.size for file in self.files)
        return size + _padding(size) + hashlib.sha256().digest_size


def _padding(size: int) -> int:
    return -size % _ALIGNED


def write(head: Head, directory: Path) -> Generator[bytes, None, None]:
    """The archive in pieces; the last one is the SHA-256 alone."""
    whole, size = hashlib.sha256(), 0

    def counted(piece: bytes) -> bytes:
        nonlocal size
        whole.update(piece)
        size += len(piece)
        return piece

    yield counted(head.encode())
    for listed in head.files:
        hash_, left = xxh3_64(), listed.size
        with (directory / listed.name).open("rb") as file:
            while left and (piece := file.read(min(PIECE_BYTES, left))):
                hash_.update(piece)
                left -= len(piece)
                yield counted(piece)
        assert left == 0, f"{listed.name} has become shorter"
        yield counted(_U64.pack(hash_.intdigest()))
    if padding := _padding(size):
        yield counted(bytes(padding))
    yield whole.digest()


class _Source:
    """Counts and hashes what is read. Raises BadArchive where the file ends too early."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.whole = hashlib.sha256()
        self.size = 0

    def read(self, count: int, *, hashed: bool = True) -> bytes:
        data = self._file.read(count)
        if len(data) != count:
            raise BadArchive(f"it ends after {self.size + len(data)} bytes: the rest is missing")
        if hashed:
            self.whole.update(data)
            self.size += count
        return data


def read_head(source: _Source) -> Head:
    magic, length, format_ = _FIXED.unpack(source.read(_FIXED.size))
    if magic != MAGIC:
        raise BadArchive("it is no snapshot of Chainfire (one of etcd is restored by etcdutl)")
    if format_ != FORMAT:
        raise BadArchive(
            f"it has format {format_}, this version reads {FORMAT}: take the program that wrote it"
        )
    if length > HEAD_BYTES_MAX:
        raise BadArchive(f"its head claims {length} bytes")
    try:
        return _decode_head(source.read(length))
    except (struct.error, ValueError) as exc:
        raise BadArchive(f"its head cannot be read: {exc}") from exc


def _decode_head(rest: bytes) -> Head:
    cluster_id, member_id, length = _FACTS.unpack_from(rest)
    at = _FACTS.size
    version = rest[at : at + length].decode()
    at += length
    (count,) = _COUNT.unpack_from(rest, at)
    at += _COUNT.size
    files = []
    for _ in range(count):
        length, size = _NAME.unpack_from(rest, at)
        at += _NAME.size
        name = rest[at : at + length].decode("ascii")
        if not is_file_name(name):
            raise BadArchive(f"it names a file {name!r}")
        at += length
        files.append(File(name, size))
    if at != len(rest) or len({file.name for file in files}) != count:
        raise BadArchive("its head names a file twice, or holds something else")
    return Head(cluster_id, member_id, version, files)


def extract(file: BinaryIO, directory: Path, *, check_end: bool = True) -> Head:
    """Every file of the archive, written into an empty directory; each checksum is compared.

    `check_end`: the SHA-256 over everything too, and that nothing follows. Raises BadArchive.
    """
    source = _Source(file)
    head = read_head(source)
    for listed in head.files:
        with (directory / listed.name).open("xb") as written:
            _copy(source, listed, written.write)
    if check_end:
        _end(source, file)
    return head


def _end(source: _Source, file: BinaryIO) -> None:
    source.read(_padding(source.size))
    expected = source.whole.digest()
    if source.read(len(expected), hashed=False) != expected:
        raise BadArchive("its SHA-256 does not agree: it was changed or damaged")
    if file.read(1):
        raise BadArchive("something follows behind its end")


def _copy(source: _Source, listed: File, write_piece: Callable[[bytes], object]) -> None:
    hash_, left = xxh3_64(), listed.size
    while left:
        piece = source.read(min(PIECE_BYTES, left))
        hash_.update(piece)
        write_piece(piece)
        left -= len(piece)
    if source.read(_U64.size) != _U64.pack(hash_.intdigest()):
        raise BadArchive(f"the checksum of {listed.name} in it does not agree")
