"""Which files are the log, and how far: what a start finds out before it reads rows.

A header names the file before it, and so on back to the oldest that was needed when it was begun.
The log is what the newest header leads to, if nothing of it is missing. A file that ends before
the place where the next one says that it does was written to and never synced (or is damaged):
then what comes behind is not part of the log, and the log is what *its* header leads to, for the
next one's need not lead to files whose rows were deleted in the part that is missing.

So what is found is a prefix of what was written; a file that the newest durable header leads to is
never written over (`wal.py`), so it is one up to the last sync at least.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from chainfire.errors import ConfigError, Corrupt, UnknownFormat
from chainfire.storage.walfiles import WalFile, paths
from chainfire.storage.walformat import RECORD_BYTES, check_record

ANY: Final = 1 << 64
_NOT_ITS_FAULT: Final = (errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM)

# A file, offset of a record in it, the crc before that record, its payload.
Reader = Callable[[WalFile, int, int, bytes], None]


def open_files(directory: Path, *, read_only: bool) -> Iterator[WalFile]:
    """All there are, their headers read. Close each.

    Raises Corrupt, UnknownFormat; ConfigError for what is not the file's fault.
    """
    if (directory / "CURRENT").exists():
        raise UnknownFormat(
            f"{directory} holds a log as versions before 0.1 wrote it: begin with a new directory, "
            "and restore a snapshot that the version that wrote it has saved"
        )
    broken: list[WalFile] = []
    found = False
    try:
        for path in paths(directory):
            file = _opened(path, read_only=read_only)
            try:
                file.read_header()
            except Corrupt:
                broken.append(file)
                continue
            except OSError as exc:  # a directory, or a disk that does not read
                file.close()
                raise Corrupt(f"{path} cannot be read: {exc.strerror}") from exc
            except BaseException:
                file.close()
                raise
            found = found or file.number > 0
            yield file
        if broken and not found:
            raise Corrupt(f"{broken[0].path}: the header cannot be read, and no other file has one")
        while broken:  # of no use, as the one that it was; whether one is missing, the chain tells
            yield broken.pop()
    finally:
        for file in broken:
            file.close()


def exists(directory: Path) -> bool:
    """Whether a log is there. Raises Corrupt when there are only remains of one; UnknownFormat.

    A start that died while creating one leaves no header: False.
    """
    found = False
    for file in open_files(directory, read_only=True):
        with closing(file):
            found = found or file.number > 0
    return found


def chain_of(files: Sequence[WalFile], number_max: int = ANY) -> list[WalFile]:
    """Those that the newest header leads to, the oldest first; of files beyond `number_max` none
    counts. Empty: there are no headers at all. Pure. Raises Corrupt: none leads to all it needs.
    """
    by_number = {file.number: file for file in files if file.number}
    for newest in sorted(by_number, reverse=True):
        if newest <= number_max:
            chain = _led_to(by_number, newest)
            if chain:
                return chain
    if by_number:
        raise Corrupt(f"{files[0].path.parent}: a file of the log is missing")
    return []


def _led_to(by_number: Mapping[int, WalFile], newest: int) -> list[WalFile]:
    """Empty: one is missing."""
    chain: list[WalFile] = []
    header = by_number[newest].header
    oldest = newest if header is None else header.oldest
    number = newest
    while number >= oldest:
        file = by_number.get(number)
        if file is None or file.header is None:
            return []
        chain.append(file)
        number = file.header.previous
    chain.reverse()
    return chain if chain and chain[0].number == oldest else []


def replay(chain: Sequence[WalFile], read: Reader) -> WalFile | None:
    """Read all records, in order, and leave each file's `end` and `crc` as they are behind the last
    one. None, or the file that ends too early: nothing behind it was read. Raises Corrupt.
    """
    for place, file in enumerate(chain):
        following = chain[place + 1].header if place + 1 < len(chain) else None
        limit = file.size if following is None else following.previous_end
        _read(file, limit, read)
        if following is not None and file.end != limit:
            return file
    return None


def _read(file: WalFile, limit: int, read: Reader) -> None:
    try:
        data = os.pread(file.fd, limit, 0)
    except OSError as exc:
        raise Corrupt(f"{file.path} cannot be read: {exc.strerror}") from exc
    file.rewind()
    offset, before = file.end, file.crc
    while True:
        found = check_record(before, data, offset)
        if found is None:
            break
        end, crc = found
        read(file, offset, before, data[offset + RECORD_BYTES : end])
        offset, before = end, crc
    file.end, file.crc = offset, before


def _opened(path: Path, *, read_only: bool) -> WalFile:
    try:
        return WalFile(path, read_only=read_only)
    except OSError as exc:
        text = f"{path} cannot be opened: {exc.strerror}"
        if exc.errno in _NOT_ITS_FAULT:
            raise ConfigError(f"data-dir: {text}") from exc
        raise Corrupt(text) from exc
