"""Replicating commands, for handlers that are coroutines.

Unary handlers hand their Call to `node.propose`; a coroutine awaits these.
Whoever stops to wait does not hear any more what became of the command.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from chainfire.api.services import NodeFace
from chainfire.errors import RequestError
from chainfire.types import RenewResult, Result


async def propose(node: NodeFace, kind: int, body: bytes) -> Result:
    """What became of the command. Raises what it was refused with."""
    waiter = _Waiter()
    node.propose(kind, body, waiter)
    return await waiter.result


async def renew(node: NodeFace, ids: Sequence[int]) -> RenewResult:
    """Let the TTLs of these leases begin anew; the result is in the order of `ids`."""
    waiter = _Waiter()
    node.renew(ids, waiter)
    result = await waiter.result
    assert isinstance(result, RenewResult)
    return result


class _Waiter:
    """A Pending that wakes a coroutine."""

    __slots__ = ("result",)

    def __init__(self) -> None:
        self.result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

    def done(self, result: Result) -> None:
        if not self.result.done():
            self.result.set_result(result)

    def refused(self, error: RequestError) -> None:
        if not self.result.done():
            self.result.set_exception(error)
