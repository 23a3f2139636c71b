"""A copy of an open database, made of its files while it is written to.

The engine's own checkpoint flushes what is in memory, and the binding holds the GIL meanwhile: 50
to 320 ms on a busy machine, however little has come in since a flush just before it. Here nothing
is flushed: the copy has the tables by hard links, and what is not in them yet in its WAL.

1. Every flush, compaction and new memtable gives its family a new version number. While none has
   changed, no table that counts goes, and no WAL file comes or goes; only the newest WAL grows.
2. So: note the numbers; copy the manifest, then link the tables and the WAL files; look again. If
   a number has changed, begin anew. The manifest may be a change ahead of the numbers; the tables
   that this change brings were complete before it was written, so they are among the links.
3. Tables without an end are being written: the manifest does not speak of them, and they go.
4. The WAL files are copied over their links, which would go on growing. What came in meanwhile may
   be in them, in whole batches; half a record at the end is what a crash leaves, too.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

_TRIES: Final = 10
_TABLE_END: Final = bytes.fromhex("f7cff485b741e288")  # of every complete table

Versions = Callable[[], Sequence[int]]


def copy_database(source: Path, path: Path, versions: Versions) -> bool:
    """False, and nothing there: the database never stood still long enough. Raises OSError."""
    for _ in range(_TRIES):
        path.mkdir()
        try:
            before = versions()
            if _link(source, path) and versions() == before:
                _settle(path)
                return True
        except BaseException:
            shutil.rmtree(path)
            raise
        shutil.rmtree(path)
    return False


def _link(source: Path, path: Path) -> bool:
    """Whether CURRENT named one manifest all the time."""
    current = (source / "CURRENT").read_bytes()
    manifest = current.decode().strip()
    try:
        shutil.copyfile(source / manifest, path / manifest)
    except FileNotFoundError:
        return False
    for file in source.iterdir():
        if file.suffix in (".sst", ".log"):
            with suppress(FileNotFoundError):  # it counted no more, or the numbers tell
                os.link(file, path / file.name)
    (path / "CURRENT").write_bytes(current)
    return (source / "CURRENT").read_bytes() == current


def _settle(path: Path) -> None:
    for table in list(path.glob("*.sst")):
        with table.open("rb") as file:
            file.seek(max(0, table.stat().st_size - len(_TABLE_END)))
            if file.read() != _TABLE_END:
                table.unlink()
    for wal in list(path.glob("*.log")):
        copied = wal.with_suffix(".copy")
        shutil.copyfile(wal, copied)
        copied.replace(wal)
