"""What readers read: the backend, or how it was before a change that takes several batches."""

from __future__ import annotations

from collections.abc import Iterator

from chainfire.storage.backend import Reader, Snapshot, StorageBackend


class View:
    """A Reader that can be held still. Iterations stay on what they began with."""

    def __init__(self, backend: StorageBackend) -> None:
        self._backend = backend
        self._snapshot: Snapshot | None = None
        self._reader: Reader = backend

    @property
    def is_held(self) -> bool:
        return self._snapshot is not None

    def hold(self) -> None:
        """Show the backend as it is now, until `release`."""
        assert self._snapshot is None
        self._reader = self._snapshot = self._backend.snapshot()

    def release(self) -> None:
        if self._snapshot is not None:
            # Not closed: an iteration may still be on it, and keeps it as long as it needs it.
            self._snapshot = None
            self._reader = self._backend

    def snapshot(self) -> Snapshot:
        """What is shown now. Not to be closed: others may have it, too."""
        return self._backend.snapshot() if self._snapshot is None else self._snapshot

    def get(self, family: str, key: bytes) -> bytes | None:
        return self._reader.get(family, key)

    def iterate(
        self, family: str, lower: bytes = b"", upper: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        return self._reader.iterate(family, lower, upper, reverse=reverse)

    def keys(self, family: str, lower: bytes = b"", upper: bytes | None = None) -> Iterator[bytes]:
        return self._reader.keys(family, lower, upper)
