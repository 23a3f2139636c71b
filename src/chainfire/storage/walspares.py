"""Files of a log that hold nothing of it any more, or nothing yet, and the thread that makes them.

A file is whole before it is used, because a sync that has blocks to find takes longer; and made on
a thread, so that a disk that stalls holds up nobody: meanwhile the file in use grows.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from chainfire.errors import StorageError
from chainfire.storage import walfiles
from chainfire.storage.walfiles import WalFile, error_of

MAKE_SECONDS_MAX: Final = 0.1  # that one write waits for a file
SPARES_MAX: Final = 4  # that are kept


class Spares:
    def __init__(self, directory: Path, file_bytes: int) -> None:
        self._directory = directory
        self._file_bytes = file_bytes
        self._free: deque[WalFile] = deque()  # those that were freed first come first
        self._maker: threading.Thread | None = None
        self._error: StorageError | None = None  # the maker's
        self._patience_seconds = 0.0  # with this one

    def add(self, files: Sequence[WalFile]) -> None:
        """To be used again once the write `freed_at` of each is durable: later ones come later."""
        self._free.extend(files)

    def give_back(self, file: WalFile) -> None:
        """What `take` returned, and nothing was done with."""
        self._free.appendleft(file)

    def files(self) -> list[WalFile]:
        return list(self._free)

    def want(self, durable: int) -> None:
        """One of the usual length will be needed soon; `durable`: the last write that is."""
        if self._maker is None and not self._has_one(durable):
            self._make(0)

    def take(self, size: int, durable: int, *, patiently: bool) -> WalFile | None:
        """One of `size` bytes at least; None, unless `patiently`: it is still being made.

        Raises DiskFull, SyncFailed.
        """
        file = self._take(size, durable)
        while file is None:
            if self._maker is None:
                self._make(size)
            if not self._is_over(patiently):
                return None
            file = self._take(size, durable)  # None: this one was begun for fewer bytes
        return file

    def close(self) -> None:
        """Idempotent."""
        if self._maker is not None:
            self._maker.join()
            self._maker = None
        for file in self._free:
            file.close()

    def _has_one(self, durable: int) -> bool:
        return bool(self._free) and self._free[0].freed_at <= durable

    def _take(self, size: int, durable: int) -> WalFile | None:
        is_large = size > self._file_bytes
        for file in list(self._free):
            if file.freed_at > durable:
                break
            is_usual = file.size == self._file_bytes
            if is_large and (is_usual or file.size < size):
                continue
            self._free.remove(file)
            if is_large or is_usual:
                while len(self._free) > SPARES_MAX and self._has_one(durable):
                    _drop(self._free.popleft())
                return file
            _drop(file)
        return None

    def _make(self, size: int) -> None:
        wanted = max(size, self._file_bytes)

        def make() -> None:
            try:
                self._free.appendleft(WalFile(walfiles.make(self._directory, wanted)))
            except OSError as exc:
                self._error = error_of(self._directory, exc)
            except StorageError as exc:
                self._error = exc

        self._patience_seconds = MAKE_SECONDS_MAX
        self._maker = threading.Thread(target=make, name="log-file")
        self._maker.start()

    def _is_over(self, patiently: bool) -> bool:
        """Whether the maker has ended. Raises what it has met."""
        maker = self._maker
        assert maker is not None
        maker.join(None if patiently else self._patience_seconds)
        if maker.is_alive():
            self._patience_seconds = 0.0
            return False
        self._maker = None
        error, self._error = self._error, None
        if error is not None:
            raise error
        return True


def _drop(file: WalFile) -> None:
    file.close()
    with suppress(OSError):
        file.path.unlink()
