"""A thread for one kind of blocking work; what became of it is heard on the loop.

No outcome is lost: an error stops the member, unless whoever ordered the work
has an answer to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from chainfire.errors import FatalError, InternalFailure


def fatal(exc: Exception) -> FatalError:
    """What stops the member, given what was raised."""
    if isinstance(exc, FatalError):
        return exc
    failure = InternalFailure(f"{type(exc).__name__}: {exc}")
    failure.__cause__ = exc
    return failure


class Worker:
    """Runs work in the order in which it came. `aclose` waits for all of it."""

    def __init__(self, name: str, die: Callable[[FatalError], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, name)
        self._die = die

    def run(
        self,
        work: Callable[[], None],
        then: Callable[[], None] = lambda: None,
        or_else: Callable[[FatalError], None] | None = None,
    ) -> None:
        """`then` is called once the work is done; `or_else`, or the end, follows an error."""

        def finish(done: Future[None]) -> None:
            try:
                done.result()
                then()
            except Exception as exc:
                (or_else or self._die)(fatal(exc))

        self._thread.submit(work).add_done_callback(
            lambda done: self._loop.call_soon_threadsafe(finish, done)
        )

    async def aclose(self) -> None:
        """Returns when all work has ended and been heard of. Nothing may be ordered any more."""
        # The outcomes are queued on the loop before this wakes up.
        await asyncio.to_thread(self._thread.shutdown)
