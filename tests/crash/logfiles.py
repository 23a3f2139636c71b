"""The files of a member's log, and where their records are, so that a test can hit one of them.

Their names say nothing: which is the newest one, the headers say.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path

from chainfire.storage import walreplay
from chainfire.storage.walfiles import WalFile
from chainfire.storage.walformat import RECORD_BYTES
from tests.crash.wal import Record

NUMBER_AT = 27  # in a header: the last byte of its number


def files(directory: Path) -> tuple[list[Path], list[Path]]:
    """Those that the log is made of, the oldest first, and those that are free."""
    with ExitStack() as stack:
        found = [
            stack.enter_context(closing(file))
            for file in walreplay.open_files(directory, read_only=True)
        ]
        chain = walreplay.chain_of(found)
        while (cut := walreplay.replay(chain, lambda *_: None)) is not None:
            chain = walreplay.chain_of(found, cut.number)
        return [f.path for f in chain], [f.path for f in found if f not in chain]


def newest(directory: Path) -> Path:
    chain, _ = files(directory)
    assert chain, f"no log in {directory}"
    return chain[-1]


def older(directory: Path) -> Path:
    """The one before the newest."""
    chain, _ = files(directory)
    assert len(chain) > 1, f"one file of a log in {directory}"
    return chain[-2]


def spare(directory: Path) -> Path:
    _, free = files(directory)
    assert free, f"no free file in {directory}"
    return free[0]


def records(path: Path) -> list[Record]:
    """All records of one file, in order."""
    found: list[Record] = []

    def read(_: WalFile, offset: int, before: int, payload: bytes) -> None:
        found.append(Record(offset, offset + RECORD_BYTES, len(payload)))

    with closing(WalFile(path, read_only=True)) as file:
        file.read_header()
        walreplay.replay([file], read)
    return found
