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
        """One will be needed soon; `durable`: the last write that is."""
        if not self._is_making and not self._has_one(durable):
            self._make()

    def take(self, durable: int, *, patiently: bool) -> WalFile | None:
        """None, unless `patiently`: it is still being made. Raises DiskFull, SyncFailed."""
        file = self._take(durable)
        if file is None:
            if not self._is_making and self._error is None:
                self._make()
            if self._is_over(patiently):
                file = self._take(durable)
        return file

    def close(self) -> None:
        """Idempotent."""
        if self._maker is not None:
            self._maker.join()
        for file in self._free:
            file.close()

    def _has_one(self, durable: int) -> bool:
        return bool(self._free) and self._free[0].freed_at <= durable

    def _take(self, durable: int) -> WalFile | None:
        while self._has_one(durable):
            file = self._free.popleft()
            with suppress(OSError):
                file.cut(self._file_bytes)
            if file.size == self._file_bytes:
                while len(self._free) > SPARES_MAX and self._has_one(durable):
                    _drop(self._free.popleft())
                return file
            _drop(file)
        return None

    def _make(self) -> None:
        def make() -> None:
            try:
                path = walfiles.make(self._directory, self._file_bytes)
                self._free.appendleft(WalFile(path))
            except OSError as exc:
                self._error = error_of(self._directory, exc)
            except StorageError as exc:
                self._error = exc

        self._patience_seconds, self._error = MAKE_SECONDS_MAX, None
        self._maker = threading.Thread(target=make, name="log-file")
        self._maker.start()

    @property
    def _is_making(self) -> bool:
        return self._maker is not None and self._maker.is_alive()

    def _is_over(self, patiently: bool) -> bool:
        """Whether the maker has ended. Raises what it has met."""
        maker = self._maker
        assert maker is not None
        maker.join(None if patiently else self._patience_seconds)
        if maker.is_alive():
            self._patience_seconds = 0.0
            return False
        error, self._error = self._error, None
        if error is not None:
            raise error
        return True


def _drop(file: WalFile) -> None:
    file.close()
    with suppress(OSError):
        file.path.unlink()
