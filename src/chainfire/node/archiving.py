"""A member's state as an archive, piece by piece, while the member goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import closing

from chainfire.node import archive
from chainfire.node.archive import Head
from chainfire.node.sending import Checkpoint, CheckpointPlace, on_thread
from chainfire.node.status import Times
from chainfire.storage.backend import StorageBackend
from chainfire.version import VERSION

PAUSE_SECONDS = 0.05


class StateArchive:
    """To be used with `async with`: the checkpoint under it lives as long as the block."""

    def __init__(
        self,
        place: CheckpointPlace,
        backend: StorageBackend,
        cluster_id: int,
        member_id: int,
        giant_deletes: Callable[[], tuple[int, bool]],
        times: Times,
    ) -> None:
        """`giant_deletes`: how many were begun, and whether one is under way; `times` of blocks."""
        self._times = times
        self._began = 0.0
        self._checkpoint = Checkpoint(place, backend)
        self._head = Head(cluster_id, member_id, VERSION, ())
        self._giant_deletes = giant_deletes

    async def __aenter__(self) -> StateArchive:
        """Between two entries: who restores it has no log that goes on with half of one.

        Raises what `StorageBackend.checkpoint` raises.
        """
        self._began = asyncio.get_running_loop().time()
        while True:
            begun, under_way = self._giant_deletes()
            if not under_way:
                await self._checkpoint.__aenter__()
                if self._giant_deletes() == (begun, False):
                    break
                await self._checkpoint.__aexit__()
            await asyncio.sleep(PAUSE_SECONDS)
        head = self._head
        self._head = Head(head.cluster_id, head.member_id, VERSION, self._checkpoint.files)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._times.observe(asyncio.get_running_loop().time() - self._began)
        await self._checkpoint.__aexit__()

    @property
    def total_bytes(self) -> int:
        return self._head.total_bytes

    async def pieces(self) -> AsyncIterator[bytes]:
        with closing(archive.write(self._head, self._checkpoint.path)) as pieces:
            while (piece := await on_thread(next, pieces, None)) is not None:
                yield piece
