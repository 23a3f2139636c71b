"""gRPC calls of the native door: one request and one reply, or a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

from chainfire.api.call import Call, Metadata, OutletUser, answer_to
from chainfire.api.counters import MethodCounters
from chainfire.api.table import StreamHandler, UnaryHandler
from chainfire.errors import Code, RequestError
from chainfire.gateway.native_stream import MessageStream, Server
from chainfire.types import Caster


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
        self._counters = counters
        self._totals = server.services.counters

    async def send(self, body: bytes) -> None:
        self._counters.sent_messages += 1
        self._totals.sent_bytes += len(body)
        await self._send(body)

    def arrived(self) -> list[bytes]:
        bodies = [self._take() for _ in range(len(self._arrived))]
        for body in bodies:
            self._count(body)
        return bodies

    def post(self, body: bytes) -> None:
        self._counters.sent_messages += 1
        self._totals.sent_bytes += len(body)
        self._post(body)

    @property
    def room(self) -> int:
        return 0 if self._pressed else self._credit

    async def has_room(self) -> None:
        await self._has_credit()

    def tell(self, user: OutletUser) -> None:
        self._user = user

    def _room_again(self) -> None:
        if self._user is not None and self.room > 0:
            self._user.room_again()

    def on_pressed(self, pressed: bool) -> None:
        self._pressed = pressed
        if not pressed:
            self._room_again()
        elif self._user is not None:
            self._user.no_room()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (body := await self._next()) is not None:
            self._count(body)
            yield body

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
