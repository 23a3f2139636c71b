"""How fresh a read must be, and waiting for it: for handlers that are coroutines.

Unary handlers hand their Call to `node.read`; a coroutine awaits `wait_until`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from chainfire.api.services import NodeFace
from chainfire.errors import RequestError
from chainfire.proto.kv_pb2 import LOCAL, SERIALIZABLE, RangeRequest


def level_of(request: RangeRequest) -> int:
    """The Consistency of a request that has passed `syntax.check_range`."""
    return SERIALIZABLE if request.serializable else request.consistency


def level_of_all(ranges: Sequence[RangeRequest]) -> tuple[int, int]:
    """(Consistency, min_revision) that suits every one; without any, any state will do."""
    if not ranges:
        return SERIALIZABLE, 0
    level = min(level_of(request) for request in ranges)
    return level, max(request.min_revision for request in ranges)


async def wait_until(
    node: NodeFace, level: int, min_revision: int = 0, deadline: float | None = None
) -> None:
    """Return when the store may be read at this level. Raises what the node refuses it with."""
    while True:
        waiter = _Waiter(asyncio.get_running_loop().create_future())
        node.read(level, min_revision, deadline, waiter)
        await waiter.future
        if not node.is_barred:
            return
        level, min_revision = LOCAL, 0  # a turn came between the word and its hearer


class _Waiter:
    """A ReadPending that wakes a coroutine."""

    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[None]) -> None:
        self.future = future

    @property
    def finished(self) -> bool:
        return self.future.done()

    def ready(self) -> None:
        if not self.future.done():
            self.future.set_result(None)

    def refused(self, error: RequestError) -> None:
        if not self.future.done():
            self.future.set_exception(error)
