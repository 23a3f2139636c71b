"""What coroutines await of a node: commands, sliced work. And coroutines for a Call.

Unary handlers hand their Call to the node; only what has to wait for others is
a coroutine. Whoever stops to wait does not hear what became of a command.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

from chainfire.api import space
from chainfire.api.call import Call
from chainfire.api.services import NodeFace
from chainfire.errors import RequestDeadlineExceeded, RequestError, Stopped
from chainfire.types import Result

T = TypeVar("T")


async def propose_growth(node: NodeFace, kind: int, body: bytes) -> Result:
    """What became of a command that may add something. Raises what it was refused with.

    Whoever stops to wait before it was proposed can be sure that it never will be.
    """
    waiter = _Waiter()
    space.propose_growth(node, kind, body, waiter)
    return await waiter.result


async def steps(node: NodeFace, work: Generator[None, None, T]) -> T:
    """The result of sliced work, which ends with whoever waits for it."""
    result: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def done(value: T) -> None:
        if not result.cancelled():  # then whoever waits is about to hear of it
            result.set_result(value)

    def failed(error: Exception) -> None:
        if not result.cancelled():
            result.set_exception(error)

    under_way = node.run_steps(work, done, failed)
    try:
        return await result
    except asyncio.CancelledError:
        under_way.cancel()
        raise


class Slow:
    """A coroutine whose result answers a Call: it ends with its caller, its deadline, the member.

    The coroutine may clean up when it is cancelled, without awaiting anything.
    """

    __slots__ = ("_call", "_stopped", "_task")

    def __init__(self, call: Call, work: Coroutine[Any, Any, bytes]) -> None:
        self._call = call
        self._stopped = False
        self._task = asyncio.create_task(self._run(work))
        call.work = self
        call.services.serving.waiting[self] = self._stop

    def cancel(self) -> None:
        """The caller is gone."""
        self._task.cancel()

    def _stop(self) -> None:
        self._stopped = True
        self._task.cancel()

    async def _run(self, work: Coroutine[Any, Any, bytes]) -> None:
        call = self._call
        try:
            async with asyncio.timeout_at(call.deadline):
                call.reply(await work)
        except TimeoutError:
            call.fail(RequestDeadlineExceeded())
        except asyncio.CancelledError:
            if not self._stopped:
                raise
            call.fail(Stopped())
        except Exception as exc:
            call.failed(exc)
        finally:
            del call.services.serving.waiting[self]


class _Waiter:
    """A Pending that wakes a coroutine."""

    __slots__ = ("result",)

    def __init__(self) -> None:
        self.result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

    @property
    def finished(self) -> bool:
        return self.result.done()

    def done(self, result: Result) -> None:
        if not self.result.done():
            self.result.set_result(result)

    def refused(self, error: RequestError) -> None:
        if not self.result.done():
            self.result.set_exception(error)
