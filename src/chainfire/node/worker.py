"""A thread for one kind of blocking work; what became of it is heard on the loop.

No outcome is lost: an error stops the member, unless whoever ordered the work
has an answer to it.

A plain thread and a queue: an executor makes a future for each piece of work,
which costs more than handing over what is done once per put.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue

from chainfire.errors import FatalError, InternalFailure


def fatal(exc: Exception) -> FatalError:
    """What stops the member, given what was raised."""
    if isinstance(exc, FatalError):
        return exc
    failure = InternalFailure(f"{type(exc).__name__}: {exc}")
    failure.__cause__ = exc
    return failure


Work = Callable[[], None]
OrElse = Callable[[FatalError], None]


class Worker:
    """Runs work in the order in which it came. `aclose` waits for all of it."""

    def __init__(self, name: str, die: OrElse) -> None:
        self._loop = asyncio.get_running_loop()
        self._die = die
        self._orders: SimpleQueue[tuple[Work, Work, OrElse] | None] = SimpleQueue()
        self._runner = threading.Thread(target=self._run, name=name, daemon=True)
        self._runner.start()

    def run(self, work: Work, then: Work = lambda: None, or_else: OrElse | None = None) -> None:
        """`then` is called once the work is done; `or_else`, or the end, follows an error."""
        self._orders.put((work, then, or_else or self._die))

    def _run(self) -> None:
        while (order := self._orders.get()) is not None:
            work, then, or_else = order
            error: Exception | None = None
            try:
                work()
            except Exception as exc:
                error = exc
            self._loop.call_soon_threadsafe(_finish, then, or_else, error)

    async def aclose(self) -> None:
        """Returns when all work has ended and been heard of. Nothing may be ordered any more."""
        self._orders.put(None)
        # The outcomes are queued on the loop before this wakes up.
        await asyncio.to_thread(self._runner.join)


def _finish(then: Work, or_else: OrElse, error: Exception | None) -> None:
    try:
        if error is not None:
            raise error
        then()
    except Exception as exc:
        or_else(fatal(exc))
