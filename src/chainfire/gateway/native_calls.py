"""gRPC calls of the native door: one request and one reply, or a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

from chainfire.api.call import Call, Metadata, OutletUser, answer_to
from chainfire.api.counters import MethodCounters
from chainfire.api.table import StreamHandler, UnaryHandler
from chainfire.errors import Code, RequestError
from chainfire.gateway.native_stream import MESSAGE, OVERHEAD_BYTES, MessageStream, Server
from chainfire.types import Caster

OWED_MAX = 1000  # answers of a conversation that a client waits for; it sends no more meanwhile


@dataclass(slots=True, frozen=True)
class Served:
    """One method of the table, as a turn needs it."""

    path: str
    counters: MethodCounters
    unary: UnaryHandler | None
    stream: StreamHandler | None


class CallServer(Server, Protocol):
    calls: dict[int, NativeCall]  # not yet answered


class NativeCall(Call):
    """A unary call: its answer joins the turn's replies."""

    __slots__ = ("counters", "id", "server")

    def __init__(
        self,
        server: CallServer,
        method: Served,
        id_: int,
        request: bytes,
        metadata: Metadata | None,
        timeout: float | None,
    ) -> None:
        # Not Call.__init__: this is made for every call, and a call costs what it costs.
        self.services = server.services
        self.method = method.path
        self.request = request
        self.metadata = () if metadata is None else metadata
        self.deadline = None if timeout is None else server.loop.time() + timeout
        self.message = None
        self.work = None
        self.finished = False
        self.counters = method.counters
        self.id = id_
        self.server = server

    @property
    def peer(self) -> str:  # type: ignore[override]
        peer = self.server.peer_of(self.id)
        return "" if peer is None else peer.address

    def has_room(self) -> bool:
        return self.server.has_room(self.id)

    def send_reply(self, body: bytes) -> None:
        server = self.server
        server.calls.pop(self.id, None)
        counters = self.counters
        counters.handled[0] += 1
        counters.sent_messages += 1
        self.services.counters.sent_bytes += len(body)
        server.push((self.id, 0, body))

    def send_error(self, error: RequestError) -> None:
        server = self.server
        server.calls.pop(self.id, None)
        self.counters.handled[error.code] += 1
        server.push((self.id, int(error.code), error.message))


class TimedCall(NativeCall):
    """With `--metrics=extensive`: also counts how long it took."""

    __slots__ = ("begun",)

    def __init__(
        self,
        server: CallServer,
        method: Served,
        id_: int,
        request: bytes,
        metadata: Metadata | None,
        timeout: float | None,
    ) -> None:
        super().__init__(server, method, id_, request, metadata, timeout)
        self.begun = perf_counter()

    def send_reply(self, body: bytes) -> None:
        self._observe()
        super().send_reply(body)

    def send_error(self, error: RequestError) -> None:
        self._observe()
        super().send_error(error)

    def _observe(self) -> None:
        times = self.counters.handling
        assert times is not None
        times.observe(perf_counter() - self.begun)


class NativeStream(MessageStream):
    """A streaming call, as `api.call.Stream`."""

    def __init__(
        self,
        server: Server,
        id_: int,
        method: str,
        counters: MethodCounters,
        request: bytes,
        metadata: Metadata,
    ) -> None:
        super().__init__(server, id_)
        peer = server.peer_of(id_)
        self.method = method
        self.request = request
        self.metadata = metadata
        self.deadline: float | None = None
        self.peer = "" if peer is None else peer.address
        self.caster: Caster | None = server.caster
        self.address = id_
        self._pressed = False  # casts have filled it up
        self._user: OutletUser | None = None
        self._hear: Callable[[bytes], None] | None = None  # while it converses
        self._concluded: asyncio.Future[None] | None = None
        self._failure: Exception | None = None  # ends it when what was heard before is answered
        self._owed = 0  # answers to what was heard
        self._counters = counters
        self._totals = server.services.counters

    async def send(self, body: bytes) -> None:
        self._counters.sent_messages += 1
        self._totals.sent_bytes += len(body)
        await self._send(body)

    def post(self, body: bytes) -> None:
        size = len(body)
        self._counters.sent_messages += 1
        self._totals.sent_bytes += size
        self._credit -= size + OVERHEAD_BYTES
        self._server.push((self._id, MESSAGE, body))
        if self._hear is not None:
            self._owed -= 1
            if self._arrived or self._half_closed:
                self._hear_on()
        elif self._failure is not None:
            self._owed -= 1
            if not self._owed:
                self._conclude(self._failure)

    async def converse(self, hear: Callable[[bytes], None]) -> None:
        self._concluded = asyncio.get_running_loop().create_future()
        self._hear = hear
        try:
            self._hear_on()
            await self._concluded
        finally:
            self._hear = None

    def on_message(self, body: bytes) -> None:
        hear = self._hear
        if (
            hear is None
            or self._arrived
            or self._owed >= OWED_MAX
            or self._credit <= 0
            or self._pressed
        ):
            super().on_message(body)
        else:
            self._hear_one(hear, body)

    def on_half_close(self) -> None:
        super().on_half_close()
        self._hear_on()

    def _hear_on(self) -> None:
        """What has arrived, as far as its answers have room."""
        while self._hear and self._arrived and self._owed < OWED_MAX and self.room > 0:
            self._hear_one(self._hear, self._arrived.popleft())
        if self._hear and self._half_closed and not self._arrived and not self._owed:
            self._conclude(None)

    def _hear_one(self, hear: Callable[[bytes], None], body: bytes) -> None:
        size = len(body)
        self._owed += 1
        self._took(size)
        self._counters.received_messages += 1
        self._totals.received_bytes += size
        try:
            hear(body)
        except Exception as exc:
            self._owed -= 1
            if self._owed:
                self._hear, self._failure = None, exc
            else:
                self._conclude(exc)

    def _conclude(self, error: Exception | None) -> None:
        self._hear = None
        assert self._concluded is not None
        if self._concluded.done():  # by a cancellation
            return
        if error is None:
            self._concluded.set_result(None)
        else:
            self._concluded.set_exception(error)

    @property
    def room(self) -> int:
        return 0 if self._pressed else self._credit

    async def has_room(self) -> None:
        await self._has_credit()

    def tell(self, user: OutletUser) -> None:
        self._user = user

    def _room_again(self) -> None:
        self._hear_on()
        if self._user is not None and self.room > 0:
            self._user.room_again()

    def on_pressed(self, pressed: bool) -> None:
        self._pressed = pressed
        if not pressed:
            self._room_again()
        elif self._user is not None:
            self._user.no_room()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        body = await self._next()
        if body is None:
            raise StopAsyncIteration
        self._count(body)
        return body

    def _count(self, body: bytes) -> None:
        self._counters.received_messages += 1
        self._totals.received_bytes += len(body)

    def _finish(self, task: asyncio.Task[Any]) -> None:
        error = self._error
        if task.cancelled():
            if self._over or error is None:
                self._counters.handled[Code.CANCELLED] += 1
                return
        else:
            exc = task.exception()
            if isinstance(exc, Exception):
                error = answer_to(exc, self._server.services, self.method)
            elif exc is not None:
                raise exc
            else:
                error = None
        self._counters.handled[Code.OK if error is None else error.code] += 1
        self._end(error)
