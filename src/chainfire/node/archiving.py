"""A member's state as an archive, piece by piece, while the member goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Protocol

from chainfire.node import archive
from chainfire.node.archive import Head
from chainfire.node.sending import Checkpoint, CheckpointPlace, Verify, on_thread
from chainfire.node.status import Times
from chainfire.storage.backend import StorageBackend
from chainfire.version import VERSION

PAUSE_SECONDS = 0.005


class GiantCommands(Protocol):
    """The machine, as far as they go."""

    @property
    def is_half_deleted(self) -> bool: ...

    def hold_up_giants(self) -> None: ...

    def let_giants_go(self) -> None: ...


class StateArchive:
    """To be used with `async with`: the checkpoint under it lives as long as the block."""

    def __init__(
        self,
        place: CheckpointPlace,
        backend: StorageBackend,
        cluster_id: int,
        member_id: int,
        giants: GiantCommands,
        verify: Verify,
        times: Times,
    ) -> None:
        """`times` of blocks."""
        self._times = times
        self._began = 0.0
        self._checkpoint = Checkpoint(place, backend)
        self._head = Head(cluster_id, member_id, VERSION, ())
        self._giants = giants
        self._verify = verify

    async def __aenter__(self) -> StateArchive:
        """Between two entries: who restores it has no log that goes on with half of one. Checksums
        on the way would prove damage to be what was sent, so every row is read before.

        Raises Corrupt, and what `StorageBackend.checkpoint` raises.
        """
        self._began = asyncio.get_running_loop().time()
        await self._make_checkpoint()
        try:
            await self._verify(self._checkpoint.path)
        except BaseException:
            await self._checkpoint.__aexit__()
            raise
        head = self._head
        self._head = Head(head.cluster_id, head.member_id, VERSION, self._checkpoint.files)
        return self

    async def _make_checkpoint(self) -> None:
        """When the giant command under way is done, and before the next one begins."""
        self._giants.hold_up_giants()
        try:
            while True:
                if not self._giants.is_half_deleted:
                    await self._checkpoint.__aenter__()
                    return
                await asyncio.sleep(PAUSE_SECONDS)
        finally:
            self._giants.let_giants_go()

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
