"""A member's state as an archive, piece by piece, while the member goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import closing

from chainfire.node import archive
from chainfire.node.archive import Head
from chainfire.node.sending import Checkpoint, CheckpointPlace, on_thread
from chainfire.storage.backend import StorageBackend
from chainfire.version import VERSION


class StateArchive:
    """To be used with `async with`: the checkpoint under it lives as long as the block."""

    def __init__(
        self, place: CheckpointPlace, backend: StorageBackend, cluster_id: int, member_id: int
    ) -> None:
        self._checkpoint = Checkpoint(place, backend)
        self._head = Head(cluster_id, member_id, VERSION, ())

    async def __aenter__(self) -> StateArchive:
        """Raises what `StorageBackend.checkpoint` raises."""
        await self._checkpoint.__aenter__()
        self._head = Head(
            self._head.cluster_id, self._head.member_id, VERSION, self._checkpoint.files
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._checkpoint.__aexit__()

    @property
    def total_bytes(self) -> int:
        return self._head.total_bytes

    async def pieces(self) -> AsyncIterator[bytes]:
        with closing(archive.write(self._head, self._checkpoint.path)) as pieces:
            while (piece := await on_thread(next, pieces, None)) is not None:
                yield piece
