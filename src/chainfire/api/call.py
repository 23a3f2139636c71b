"""A request under way: what a door hands to a handler, and how the handler answers.

    Call    one request, one reply. A handler is a plain function that finishes
            it now or later; no task, future or closure is made per call.
    Stream  replies (and perhaps requests) one after another; its handler is a
            coroutine.

A Call also is the one who waits for the node: for a command (`Pending`), for
the store (`ReadPending`) and for sliced work. The handler sets `then` and
`resume`, plain functions, before it starts to wait:

    call.then(call, result)    the command was applied, or the sliced work is done
    call.resume(call)          the store may be read

A door ends a call whose caller is gone with `cancel()`: from then on every
answer is dropped. Finishing twice is no error; the first answer counts.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from typing import Any, Protocol

from chainfire.api.services import Services, Work
from chainfire.errors import FatalError, InternalError, RequestError, Stopped
from chainfire.types import Caster

log = logging.getLogger(__name__)

Metadata = Sequence[tuple[str, str | bytes]]


class Call:
    """One unary request. Each door has a subclass that says how an answer leaves.

    `deadline` is the caller's, on the event loop's clock; None = none.
    """

    __slots__ = (
        "deadline",
        "finished",
        "message",
        "metadata",
        "method",
        "peer",
        "request",
        "resume",
        "services",
        "then",
        "work",
    )

    then: Callable[[Any, Any], None]
    resume: Callable[[Any], None]

    def __init__(
        self,
        services: Services,
        method: str,
        request: bytes,
        metadata: Metadata = (),
        deadline: float | None = None,
        peer: str = "",
    ) -> None:
        self.services = services
        self.method = method
        self.request = request
        self.metadata = metadata
        self.deadline = deadline
        self.peer = peer
        self.message: Any = None  # the decoded request, kept by handlers that wait
        self.work: Work | None = None  # invariant: None once finished
        self.finished = False

    # ── how an answer leaves: a door's own ──────────────────────────────────

    def send_reply(self, body: bytes) -> None:
        raise NotImplementedError

    def send_error(self, error: RequestError) -> None:
        raise NotImplementedError

    def has_room(self) -> bool:
        """Whether this client, and all of them together, have read enough of earlier answers."""
        return True

    # ── for handlers ────────────────────────────────────────────────────────

    def reply(self, body: bytes) -> None:
        """Answer with an encoded message."""
        if not self.finished:
            self.finished = True
            self.work = None
            self.send_reply(body)

    def fail(self, error: RequestError) -> None:
        if not self.finished:
            self.finished = True
            self.work = None
            self.send_error(error)

    def failed(self, error: Exception) -> None:
        """Whatever was raised on behalf of this call."""
        self.fail(answer_to(error, self.services, self.method))

    def run_steps(self, steps: Generator[None, None, Any]) -> None:
        """Answer by sliced work, whose result goes to `then`."""
        work = self.services.node.run_steps(steps, self.done, self.failed)
        # It knows this call: kept any longer, the answer would stay in memory until the garbage
        # collector finds both, and answers may be large.
        if not self.finished:
            self.work = work

    def cancel(self) -> None:
        """The caller is gone: end the work, drop the answer."""
        self.finished = True
        if self.work is not None:
            work, self.work = self.work, None
            work.cancel()

    # ── Pending, ReadPending, and the end of sliced work ────────────────────

    def done(self, result: Any) -> None:
        if self.finished:
            return
        try:
            self.then(self, result)
        except Exception as exc:
            self.failed(exc)

    def ready(self) -> None:
        if self.finished:
            return
        try:
            self.resume(self)
        except Exception as exc:
            self.failed(exc)

    def refused(self, error: RequestError) -> None:
        self.fail(error)


def answer_to(error: Exception, services: Services, method: str) -> RequestError:
    """What the caller is told about an exception; a FatalError also stops the member."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, FatalError):
        services.node.halt(error)
        return Stopped()
    log.error("handler failed", exc_info=error, extra={"method": method})
    return InternalError()


class OutletUser(Protocol):
    def room_again(self) -> None:
        """There is room after there was none."""
        ...

    def no_room(self) -> None:
        """A caster has filled it up."""
        ...


class Stream(Protocol):
    """A streaming request. Iterating gives the client's messages until it half-closes.

    Cancellation and the deadline cancel the handler's task. Raise a
    RequestError to end with its status; return to end with OK.
    """

    method: str
    request: bytes  # the first message; b"" before iteration on a bidirectional stream
    metadata: Metadata
    deadline: float | None
    peer: str

    # Without waiting, in order with `send`: an Outlet of chainfire.watch.
    caster: Caster | None
    address: int

    async def send(self, body: bytes) -> None:
        """Waits while the client does not read."""
        ...

    async def converse(self, hear: Callable[[bytes], None]) -> None:
        """Give each message to `hear`, which owes one `post` for it, now or later.

        Returns once the client has half-closed and all are answered. Not too many are unanswered
        at a time; the client waits. What `hear` raises is raised once all before it are answered.
        """
        ...

    def post(self, body: bytes) -> None:
        """Send without waiting. Whoever posts minds `room`."""
        ...

    @property
    def room(self) -> int:
        """Bytes that may be posted before the client has read some."""
        ...

    async def has_room(self) -> None:
        """Returns once there is room."""
        ...

    def tell(self, user: OutletUser) -> None:
        """Tell it of room from now on."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes]: ...
