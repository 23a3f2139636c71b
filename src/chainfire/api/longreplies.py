"""Long answers, a few at a time: what is being made, and what clients have not read, is bounded.

The first slice of an answer is made at once, and most end with it. One that does not starts over
when its turn has come: when fewer than `AT_ONCE` are being made and there is room, because its
client, and all of them together, have read enough of earlier answers (`Call.has_room`), and not
while the store may not be read (`NodeFace.is_barred`). Who waits
holds a request and nothing else; after a transaction that was applied, what is to be read, pinned
in the store (`mvcc/later.py`). Nobody is refused: a deadline or a cancellation ends the wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, Final, Protocol

from chainfire.errors import RequestError, Stopped

AT_ONCE: Final = 4
FIRST_STEPS: Final = 4  # a thousand rows, or some MiB
LOOK_AGAIN_SECONDS: Final = 0.02  # for room
LOOKS_MAX: Final = 100  # at a time, of those who wait

Make = Callable[[], Generator[None, None, bytes]]


class Work(Protocol):
    def cancel(self) -> None: ...


class RunSteps(Protocol):
    """`NodeFace.run_steps`."""

    def __call__(
        self,
        work: Generator[None, None, bytes],
        on_done: Callable[[bytes], None],
        on_error: Callable[[Exception], None],
    ) -> Work: ...


class Caller(Protocol):
    """What this needs of a Call."""

    work: Work | None
    finished: bool

    def has_room(self) -> bool: ...

    def done(self, result: Any) -> None: ...

    def fail(self, error: RequestError) -> None: ...

    def failed(self, error: Exception) -> None: ...


class LongReplies:
    """Those of one member, whatever door they leave by."""

    def __init__(
        self,
        run_steps: RunSteps,
        stoppable: dict[object, Callable[[], None]],
        *,
        is_barred: Callable[[], bool],
    ) -> None:
        """`stoppable`: who waits, and what ends the wait when the member stops."""
        self.run_steps = run_steps
        self.under_way = 0
        self._is_barred = is_barred
        self._stoppable = stoppable
        self._queue: deque[_LongReply] = deque()
        self._is_scheduled = False

    @property
    def waiting(self) -> int:
        """Answers whose turn has not come."""
        return len(self._queue)

    def run(self, call: Caller, make: Make) -> None:
        """Answer by the sliced work that `make` begins, whose result goes to `call.then`."""
        steps = make()
        try:
            for _ in range(FIRST_STEPS):
                next(steps)
        except StopIteration as end:
            call.done(end.value)
            return
        reply = _LongReply(self, call, make)
        if self.under_way < AT_ONCE and not self._queue and call.has_room():
            reply.begin(steps)
        else:
            steps.close()
            self._wait(reply)

    def run_once(self, call: Caller, make: Make) -> None:
        """As `run`, of an answer that is known to be long: `make` is called once."""
        reply = _LongReply(self, call, make)
        if self.under_way < AT_ONCE and not self._queue and call.has_room():
            reply.begin(make())
        else:
            self._wait(reply)

    def _wait(self, reply: _LongReply) -> None:
        reply.call.work = reply
        self._stoppable[reply] = reply.stop
        self._queue.append(reply)
        self._schedule()

    def leave(self, reply: _LongReply) -> None:
        """It waits no more."""
        self._queue.remove(reply)
        del self._stoppable[reply]

    def ended(self) -> None:
        self.under_way -= 1
        self._schedule()

    def _schedule(self, seconds: float = 0.0) -> None:
        if self._queue and not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_later(seconds, self._turn)

    def _turn(self) -> None:
        self._is_scheduled = False
        for _ in range(min(len(self._queue), LOOKS_MAX)):
            if self.under_way >= AT_ONCE:
                return  # the end of one brings the next turn
            if self._is_barred():
                break
            reply = self._queue[0]
            if reply.call.has_room():
                self.leave(reply)
                reply.begin(reply.make())
            else:
                self._queue.rotate(-1)
        self._schedule(LOOK_AGAIN_SECONDS)


class _LongReply:
    """One of them: waits, or is under way."""

    __slots__ = ("_replies", "_steps", "call", "make")

    def __init__(self, replies: LongReplies, call: Caller, make: Make) -> None:
        self._replies = replies
        self.call = call
        self.make = make
        self._steps: Work | None = None

    def begin(self, steps: Generator[None, None, bytes]) -> None:
        self._replies.under_way += 1
        under_way = self._replies.run_steps(steps, self._done, self._failed)
        if not self.call.finished:  # else the answer would stay in memory with a ring of objects
            self._steps = under_way
            self.call.work = self

    def cancel(self) -> None:
        """The caller is gone."""
        if self._steps is None:
            self._replies.leave(self)
        else:
            steps, self._steps = self._steps, None
            steps.cancel()
            self._replies.ended()

    def stop(self) -> None:
        self._replies.leave(self)
        self.call.fail(Stopped())

    def _done(self, result: Any) -> None:
        self._steps = None
        self._replies.ended()
        self.call.done(result)

    def _failed(self, error: Exception) -> None:
        self._steps = None
        self._replies.ended()
        self.call.failed(error)
