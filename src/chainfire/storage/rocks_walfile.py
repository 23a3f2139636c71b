"""Which file a database's WAL goes to, so that others may sync it: by observation.

`flush_wal(True)` of the binding wants the GIL when it begins and when it ends. Whoever syncs the
file by a descriptor wants the certainty that all that is not durable is in that file; the engine
does not say, and begins a new one when it likes. So each write is watched:

    lost     unknown; `look` takes the newest file, and the engine's own descriptor of it
    found    a write has moved that descriptor's position: this is where records go
    known    a whole sync of the engine's, begun since, is over: what went to earlier files is
             durable, and the file's name. As long as each write moves the position, all that is
             not durable is in this file.

A write that moves nothing has gone elsewhere, and one that failed, who knows where: lost. A wrong
guess costs nothing but time. What this rests on: the engine has handed a record to the kernel when
`write` returns (no manual WAL flush; else nothing would move), one thread writes, and nobody else
moves that descriptor. It is a duplicate: it shares the position, and its number is never another
file's, whatever the engine closes.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

from chainfire.storage.rocks_wal import newest_wal

LOST: Final = 0  # no number of a `found` file
WRITES_BETWEEN_LOOKS: Final = 1000  # after a guess that was wrong, or none
TRIES_MAX: Final = 1024  # descriptors below a new one that a look tries, the nearest first
TRIES_ABOVE_MAX: Final = 64


class WalFile:
    """`look`, `wrote`, `lose` and `descriptor` belong to the thread that writes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._descriptor = -1
        self._position = 0
        self._looks = 0
        self._writes_to_look = 0
        self._known = LOST
        self.found = LOST  # a number of its own for each file that is found

    @property
    def descriptor(self) -> int | None:
        """By which to sync; None: only the engine can."""
        return self._descriptor if self.found != LOST and self._known == self.found else None

    def wrote(self) -> None:
        """The engine has taken a write, the only one since this was called last."""
        if self._descriptor < 0:
            self._writes_to_look -= 1
            return
        position = os.lseek(self._descriptor, 0, os.SEEK_CUR)
        if position > self._position:
            self._position = position
            self.found = self._looks
            return
        was_right = self.found != LOST
        self.lose()
        self._writes_to_look = 0 if was_right else WRITES_BETWEEN_LOOKS

    def lose(self) -> None:
        """Nothing is certain any more."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self.found = -1, LOST

    def synced(self, found: int) -> None:
        """A sync of the engine's has ended well; when it began, `found` was this."""
        self._known = found

    def look(self) -> None:
        """Guess, if there is no file and it is time."""
        if self._descriptor >= 0 or self._writes_to_look > 0:
            return
        self._looks += 1
        self._writes_to_look = WRITES_BETWEEN_LOOKS
        try:
            newest = newest_wal(self._directory)
            own = None if newest is None else _engines_own(newest)
        except OSError:  # it has just been renamed, or there are no more descriptors
            return
        if own is not None:
            self._position = os.lseek(own, 0, os.SEEK_CUR)
            self._descriptor = own


def _engines_own(file: Path) -> int | None:
    """A duplicate of the descriptor by which this process writes the file.

    The lowest free number is given to who opens a file: it is close to one opened now.
    """
    near = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        wanted = os.fstat(near)
    finally:
        os.close(near)
    likely = [*range(max(0, near - TRIES_MAX), near)]
    likely.reverse()
    likely += range(near, near + TRIES_ABOVE_MAX)
    for number in likely:
        copy = _writing(number, wanted)
        if copy is not None:
            return copy
    return None


def _writing(number: int, wanted: os.stat_result) -> int | None:
    """A duplicate of this descriptor, if it is of that file and open for writing."""
    try:
        if not os.path.samestat(os.fstat(number), wanted):
            return None
        copy = os.dup(number)
    except OSError:  # nobody has this number
        return None
    mode = fcntl.fcntl(copy, fcntl.F_GETFL) & os.O_ACCMODE
    if mode != os.O_RDONLY and os.path.samestat(os.fstat(copy), wanted):
        return copy
    os.close(copy)
    return None
