"""Long work in slices: generators that are driven a few milliseconds at a time.

A generator yields wherever it may be interrupted and returns its result. The
first slice runs at once, so that short work finishes without waiting; what is
left takes turns with everything else on the loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, TypeVar

T = TypeVar("T")
SLICE_SECONDS = 0.002  # others wait for two or three of them, in p99


class Steps:
    """One piece of work under way. `cancel` closes its generator; nobody hears of it again."""

    __slots__ = ("_on_done", "_on_error", "_work")

    def __init__(
        self,
        work: Generator[None, None, T],
        on_done: Callable[[T], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._work: Generator[None, None, Any] | None = work
        self._on_done: Callable[[Any], None] = on_done
        self._on_error = on_error

    def cancel(self) -> None:
        if self._work is not None:
            work, self._work = self._work, None
            work.close()

    def fail(self, error: Exception) -> None:
        """End it with an error, unless it has ended."""
        if self._work is not None:
            self.cancel()
            self._on_error(error)

    def advance(self, until: float, now: Callable[[], float]) -> bool:
        """Work until the clock says `until`, or to the end; True when nothing is left."""
        work = self._work
        while work is not None:
            try:
                next(work)
            except StopIteration as end:
                self._work = None
                self._on_done(end.value)
                return True
            except Exception as exc:
                self._work = None
                self._on_error(exc)
                return True
            if now() >= until:
                return False
            work = self._work
        return True


class StepRunner:
    """Drives all sliced work of a member, in turns."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Steps] = deque()
        self._scheduled = False

    def run(
        self,
        work: Generator[None, None, T],
        on_done: Callable[[T], None],
        on_error: Callable[[Exception], None],
    ) -> Steps:
        """Start; exactly one of the callbacks is called unless the work is cancelled."""
        steps = Steps(work, on_done, on_error)
        now = self._loop.time
        if not steps.advance(now() + SLICE_SECONDS, now):
            self._waiting.append(steps)
            self._schedule()
        return steps

    def close(self, error: Exception) -> None:
        """All that is under way ends with this error."""
        while self._waiting:
            self._waiting.popleft().fail(error)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        if not self._waiting:
            return
        steps = self._waiting.popleft()
        now = self._loop.time
        try:
            if not steps.advance(now() + SLICE_SECONDS, now):
                self._waiting.append(steps)
        finally:  # a callback that raises is its owner's mistake: the others go on
            if self._waiting:
                self._schedule()
