"""Messages on a call id of the native door, both ways, each within its credit.

What streaming calls (`native_calls.py`) and HTTP requests (`native_http.py`)
have in common: a task, what has arrived, what may still be sent. Its owner, the
server, tells it what the door says; a subclass says how its task's end leaves.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import chainfire_native as native

from chainfire.api.services import Services
from chainfire.errors import RequestError
from chainfire.types import Caster

MESSAGE: Final = native.MESSAGE
OVERHEAD_BYTES: Final = native.MESSAGE_OVERHEAD_BYTES
_CREDIT_LUMP_BYTES: Final = native.CREDIT_LUMP_BYTES


@dataclass(slots=True, frozen=True)
class Peer:
    """The other side of a connection."""

    address: str  # "host:port", "unix:"
    certificate: bytes | None  # DER
    is_tls: bool


class Server(Protocol):
    """What calls and streams need of the server that owns them."""

    services: Services
    loop: asyncio.AbstractEventLoop
    caster: Caster

    def push(self, reply: tuple[Any, ...]) -> None: ...
    def has_room(self, id_: int) -> bool:
        """Whether its connection, and all of them together, have taken enough of what was sent."""
        ...

    def peer_of(self, id_: int) -> Peer | None: ...


class MessageStream:
    """Messages on a call id, both ways, each within its credit."""

    is_http = False

    def __init__(self, server: Server, id_: int) -> None:
        self._server = server
        self._id = id_
        self._task: asyncio.Task[Any] | None = None
        self._over = False  # the client is gone, or the end was sent
        self._error: RequestError | None = None  # to end with, when cancelled
        self._arrived: deque[bytes] = deque()
        self._half_closed = False
        self._consumed = 0  # of the client's credit, not yet given back
        self._credit = native.STREAM_CREDIT_BYTES  # of ours
        self._waiter: asyncio.Future[None] | None = None  # for a message
        self._blocked: asyncio.Future[None] | None = None  # for credit

    def start(self, work: Any, owner: dict[int, Any]) -> None:
        """`owner` forgets the stream when its task is done."""
        self._task = asyncio.create_task(work)

        def done(task: asyncio.Task[Any]) -> None:
            owner.pop(self._id, None)
            self._finish(task)

        self._task.add_done_callback(done)

    def cancel(self) -> None:
        """The client is gone."""
        self._over = True
        if self._task is not None:
            self._task.cancel()

    def end_with(self, error: RequestError) -> None:
        self._error = error
        if self._task is not None:
            self._task.cancel()

    def _finish(self, task: asyncio.Task[Any]) -> None:
        raise NotImplementedError

    # ── from the door ───────────────────────────────────────────────────────

    def on_message(self, body: bytes) -> None:
        self._arrived.append(body)
        _wake(self._waiter)

    def on_half_close(self) -> None:
        self._half_closed = True
        _wake(self._waiter)

    def on_writable(self, credit: int) -> None:
        self._credit += credit
        if self._credit > 0:
            _wake(self._blocked)
            self._room_again()

    def _room_again(self) -> None:
        """For somebody who posts."""

    def on_pressed(self, pressed: bool) -> None:
        """Casts have filled it up, or have left."""

    # ── for the handler ─────────────────────────────────────────────────────

    async def _next(self) -> bytes | None:
        """The client's next message; None once it has half-closed."""
        while not self._arrived:
            if self._half_closed:
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._take()

    def _take(self) -> bytes:
        body = self._arrived.popleft()
        self._took(len(body))
        return body

    def _took(self, size: int) -> None:
        """The client may send as much again."""
        self._consumed += size + OVERHEAD_BYTES
        if self._consumed >= _CREDIT_LUMP_BYTES:
            self._server.push((self._id, native.CREDIT, self._consumed))
            self._consumed = 0

    async def _send(self, body: bytes) -> None:
        self._post(body)
        await self._has_credit()

    def _post(self, body: bytes) -> None:
        self._server.push((self._id, MESSAGE, body))
        self._credit -= len(body) + OVERHEAD_BYTES

    async def _has_credit(self) -> None:
        while self._credit <= 0:
            self._blocked = asyncio.get_running_loop().create_future()
            try:
                await self._blocked
            finally:
                self._blocked = None

    def _send_head(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        self._server.push((self._id, native.HEAD, (status, list(headers))))

    def _send_whole(self, status: int, headers: Sequence[tuple[str, str]], body: bytes) -> None:
        """An HTTP answer, head to end."""
        self._send_head(status, headers)
        self._server.push((self._id, native.MESSAGE, body))
        self._end()

    def _end(self, error: RequestError | None = None) -> None:
        if error is None:
            self._server.push((self._id, 0, None))
        else:
            self._server.push((self._id, int(error.code), error.message))

    def _break_off(self) -> None:
        self._server.push((self._id, native.RESET, None))


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
