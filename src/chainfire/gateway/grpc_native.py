"""The native door: the method table over `chainfire_native`, lists in and lists out.

One turn takes the calls that have come, runs their handlers, and hands over
the answers that they gave; then the node's turn runs, and the flush behind it
hands over the answers of that. A unary call costs one `NativeCall`: no task,
no future, no closure. Only streams and HTTP requests have a task each.

Rust ends a call that is reset, past its deadline or disconnected, and says
CANCEL; answers to it that are under way go nowhere, because ids are never
used twice. Messages of streams are counted against a credit in each direction
(`_Stream`), so nothing piles up on either side.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import chainfire_native as native

from chainfire.api.admission import admit
from chainfire.api.call import Call, Metadata, answer_to
from chainfire.api.counters import MethodCounters
from chainfire.api.services import Services
from chainfire.api.table import (
    METHODS,
    Kind,
    StreamHandler,
    UnaryHandler,
    run,
    unknown_method,
)
from chainfire.errors import Code, ConfigError, DoorFailed, RequestError, Stopped
from chainfire.gateway import asgi
from chainfire.gateway.listen import Address, bind
from chainfire.gateway.settings import RECEIVE_OVERHEAD_BYTES, GrpcSettings

log = logging.getLogger(__name__)

VERSION: Final = native.__version__
EVENTS_PER_TURN = 1000
STREAMS_MAX = 65_536  # per connection, whatever the configuration allows
_CONNECTION_SHIFT = 30  # an id's upper bits


@dataclass(slots=True, frozen=True)
class _Served:
    """One method of the table, as a turn needs it."""

    path: str
    counters: MethodCounters
    unary: UnaryHandler | None
    stream: StreamHandler | None


@dataclass(slots=True, frozen=True)
class Peer:
    """The other side of a connection."""

    address: str  # "host:port", "unix:"
    certificate: bytes | None  # DER


class NativeServer:
    """Serves on every URL of `listen`. Create on the loop, `start`, `aclose`.

    HTTP requests that are not gRPC go to what `application` makes, on a thread and once, when the
    first one comes: making it takes longer than a turn should.
    """

    def __init__(
        self,
        services: Services,
        listen: Sequence[str],
        settings: GrpcSettings | None = None,
        application: Callable[[], asgi.Application] | None = None,
    ) -> None:
        """Raises ConfigError."""
        self.services = services
        self.ports: list[int] = []  # as bound, in the order of `listen`; a socket's is 0
        self.replies: list[tuple[Any, ...]] = []  # of this turn
        self.will_flush = False
        self.calls: dict[int, NativeCall] = {}  # not yet answered
        self._addresses = [Address.of(url) for url in listen]
        self._make_application = application
        self._application: asyncio.Task[asgi.Application] | None = None  # made, or being made
        self.loop = asyncio.get_running_loop()
        self._settings = settings or GrpcSettings()
        self._served = [
            _Served(path, services.counters.method(path), method.unary, method.stream)
            for path, method in METHODS.items()
        ]
        self._streams: dict[int, _Stream] = {}
        self._peers: dict[int, Peer] = {}
        self._stopping = False
        self._drained = asyncio.Event()
        self._door: native.Door | None = None
        self._others: dict[int, Callable[[int, bytes, Any, Any], None]] = {
            native.UNKNOWN_METHOD: self._on_unknown_method,
            native.HTTP_REQUEST: self._on_http_request,
            native.REQUEST_MESSAGE: self._on_message,
            native.HALF_CLOSE: self._on_half_close,
            native.CANCEL: self._on_cancel,
            native.WRITABLE: self._on_writable,
            native.OPENED: self._on_opened,
            native.CLOSED: self._on_closed,
            native.DRAINED: self._on_drained,
            native.FAILED: self._on_failed,
        }

    async def start(self) -> None:
        """Listen and serve. Raises ConfigError naming the URL that cannot be had."""
        settings = self._settings
        kinds = [method.kind for method in METHODS.values()]
        door = native.Door(
            [(path, kind is Kind.BIDI) for path, kind in zip(METHODS, kinds, strict=True)],
            streams_max=min(settings.max_concurrent_streams, STREAMS_MAX),
            message_bytes_max=self.services.limits.max_request_bytes + RECEIVE_OVERHEAD_BYTES,
            ping_interval_min_seconds=settings.keepalive_min_time_seconds,
            keepalive_interval_seconds=settings.keepalive_interval_seconds,
            keepalive_timeout_seconds=settings.keepalive_timeout_seconds,
        )
        self._door = door
        try:
            for address in self._addresses:
                listener = bind(address)
                self.ports.append(0 if address.unix_path else listener.getsockname()[1])
                door.listen(listener.detach(), bool(address.unix_path), False)
        except ConfigError:
            door.close()
            raise
        self.loop.add_reader(door.fileno(), self._turn)

    async def aclose(self, grace_seconds: float = 5.0) -> None:
        """Take no new calls, finish accepted ones within the grace, end streams at once."""
        door = self._door
        if door is None:
            return
        self._stopping = True
        for stream in list(self._streams.values()):
            if not stream.is_http:
                stream.end_with(Stopped())
        door.stop()
        try:
            async with asyncio.timeout(grace_seconds):
                await self._drained.wait()
        except TimeoutError:
            log.info("closing calls that did not end", extra={"calls": len(self.calls)})
        self._door = None
        self.loop.remove_reader(door.fileno())
        door.close()
        for call in list(self.calls.values()):
            call.cancel()
        self.calls.clear()
        for stream in list(self._streams.values()):
            stream.cancel()

    def statistics(self) -> dict[str, int]:
        """As the door counts: connections, bytes unsent, limits that were met."""
        return {} if self._door is None else self._door.statistics()

    # ── turns ───────────────────────────────────────────────────────────────

    def _turn(self) -> None:
        door = self._door
        if door is None:
            return
        events, armed = door.drain(EVENTS_PER_TURN)
        self.will_flush = True
        served = self._served
        calls = self.calls
        received_bytes = 0
        for id_, what, body, metadata, timeout in events:
            if what < 0:
                self._others[what](id_, body, metadata, timeout)
                continue
            method = served[what]
            received_bytes += len(body)
            if method.unary is None:
                self._open(method, id_, body, metadata, timeout)
                continue
            counters = method.counters
            counters.started += 1
            counters.received_messages += 1
            call = NativeCall(self, method, id_, body, metadata, timeout)
            run(method.unary, call)
            if not call.finished:
                calls[id_] = call
        self.services.counters.received_bytes += received_bytes
        self._send()
        # The node's turn is due now; what it answers leaves right behind it.
        self.will_flush = bool(calls)
        if calls:
            self.loop.call_soon(self._flush)
        if not armed:
            self.loop.call_soon(self._turn)

    def push(self, reply: tuple[Any, ...]) -> None:
        """Hand a reply over, at the end of this turn at the latest."""
        self.replies.append(reply)
        if not self.will_flush:
            self.will_flush = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self.will_flush = False
        self._send()

    def _send(self) -> None:
        if self.replies and self._door is not None:
            replies, self.replies = self.replies, []
            self._door.send(replies)

    def peer_of(self, id_: int) -> Peer | None:
        return self._peers.get(id_ >> _CONNECTION_SHIFT)

    # ── streams and HTTP ────────────────────────────────────────────────────

    def _open(
        self,
        method: _Served,
        id_: int,
        body: bytes,
        metadata: Metadata | None,
        timeout: float | None,
    ) -> None:
        counters = method.counters
        counters.started += 1
        handler = method.stream
        assert handler is not None
        stream = NativeStream(self, id_, method.path, counters, body, metadata or ())
        if timeout is not None:
            stream.deadline = self.loop.time() + timeout
        if METHODS[method.path].kind is Kind.SERVER_STREAM:
            counters.received_messages += 1
            stream.on_half_close()
        self._streams[id_] = stream
        stream.start(self._serve(handler, stream), self._streams)
        if self._stopping:
            stream.end_with(Stopped())

    async def _serve(self, handler: StreamHandler, stream: NativeStream) -> None:
        admit(self.services, stream.metadata, "stream")
        await handler(self.services, stream)

    def _on_unknown_method(self, id_: int, path: bytes, *_: Any) -> None:
        error = unknown_method(path.decode("utf-8", "replace"))
        self.push((id_, int(error.code), error.message))

    def _on_http_request(
        self, id_: int, _body: bytes, metadata: Metadata | None, _timeout: object
    ) -> None:
        assert metadata is not None
        method, target, version = (_text(pair[1]) for pair in metadata[:3])
        peer = self.peer_of(id_)
        host, _, port = ("" if peer is None else peer.address).rpartition(":")
        head = asgi.RequestHead(
            method,
            target,
            version,
            [(name.encode(), _bytes(value)) for name, value in metadata[3:]],
            (host, int(port)) if port else None,
        )
        exchange = _HttpExchange(self, id_, head)
        self._streams[id_] = exchange
        exchange.start(exchange.serve(), self._streams)

    async def application(self) -> asgi.Application | None:
        if self._make_application is None:
            return None
        if self._application is None:
            making = asyncio.to_thread(self._make_application)
            self._application = asyncio.create_task(making)
        return await asyncio.shield(self._application)

    def _on_message(self, id_: int, body: bytes, *_: Any) -> None:
        stream = self._streams.get(id_)
        if stream is not None:
            stream.on_message(body)

    def _on_half_close(self, id_: int, *_: Any) -> None:
        stream = self._streams.get(id_)
        if stream is not None:
            stream.on_half_close()

    def _on_writable(self, id_: int, _body: bytes, _metadata: object, credit: float) -> None:
        stream = self._streams.get(id_)
        if stream is not None:
            stream.on_writable(int(credit))

    def _on_cancel(self, id_: int, *_: Any) -> None:
        call = self.calls.pop(id_, None)
        if call is not None:
            call.counters.handled[Code.CANCELLED] += 1
            call.cancel()
            return
        stream = self._streams.get(id_)
        if stream is not None:
            stream.cancel()

    # ── the door itself ─────────────────────────────────────────────────────

    def _on_opened(self, id_: int, address: bytes, metadata: Metadata | None, *_: Any) -> None:
        certificate = _bytes(metadata[0][1]) if metadata else None
        self._peers[id_ >> _CONNECTION_SHIFT] = Peer(address.decode(), certificate)

    def _on_closed(self, id_: int, *_: Any) -> None:
        self._peers.pop(id_ >> _CONNECTION_SHIFT, None)

    def _on_drained(self, *_: Any) -> None:
        self._drained.set()

    def _on_failed(self, _id: int, text: bytes, _metadata: object, whole: float | None) -> None:
        log.error("native door panicked", extra={"panic": text.decode("utf-8", "replace")})
        if whole:
            self.services.node.halt(DoorFailed(f"the native door panicked: {text.decode()}"))


class NativeCall(Call):
    """A unary call: its answer joins the turn's replies."""

    __slots__ = ("counters", "id", "server")

    def __init__(
        self,
        server: NativeServer,
        method: _Served,
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


class _Stream:
    """Messages on a call id, both ways, each within its credit."""

    is_http = False

    def __init__(self, server: NativeServer, id_: int) -> None:
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
        body = self._arrived.popleft()
        self._consumed += len(body) + native.MESSAGE_OVERHEAD_BYTES
        if self._consumed >= native.CREDIT_LUMP_BYTES:
            self._server.push((self._id, native.CREDIT, self._consumed))
            self._consumed = 0
        return body

    async def _send(self, body: bytes) -> None:
        self._server.push((self._id, native.MESSAGE, body))
        self._credit -= len(body) + native.MESSAGE_OVERHEAD_BYTES
        while self._credit <= 0:
            self._blocked = asyncio.get_running_loop().create_future()
            try:
                await self._blocked
            finally:
                self._blocked = None


class NativeStream(_Stream):
    """A streaming call, as `api.call.Stream`."""

    def __init__(
        self,
        server: NativeServer,
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
        self._counters = counters
        self._totals = server.services.counters

    async def send(self, body: bytes) -> None:
        self._counters.sent_messages += 1
        self._totals.sent_bytes += len(body)
        await self._send(body)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (body := await self._next()) is not None:
            self._counters.received_messages += 1
            self._totals.received_bytes += len(body)
            yield body

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
        if error is None:
            self._server.push((self._id, 0, None))
        else:
            self._server.push((self._id, int(error.code), error.message))


class _HttpExchange(_Stream):
    """An HTTP request and its answer, as `asgi.Exchange`."""

    is_http = True

    def __init__(self, server: NativeServer, id_: int, head: asgi.RequestHead) -> None:
        super().__init__(server, id_)
        self._head = head
        self._begun = False
        self._ended = False

    async def serve(self) -> bool:
        application = await self._server.application()
        if application is None:
            self.begin(415, [("content-length", "0")])
            return True
        return await asgi.serve(application, self._head, self)

    async def read(self) -> bytes | None:
        if self._ended:
            await asyncio.get_running_loop().create_future()  # until the client is gone
        body = await self._next()
        self._ended = body is None
        return body

    def begin(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        self._begun = True
        self._server.push((self._id, native.HEAD, (status, list(headers))))

    async def send(self, body: bytes) -> None:
        await self._send(body)

    def _finish(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            return
        exc = task.exception()
        if exc is not None:
            log.error("http handler failed", exc_info=exc, extra={"target": self._head.target})
        if exc is None and task.result():
            self._server.push((self._id, 0, None))
        elif self._begun:
            self._server.push((self._id, native.RESET, None))
        else:
            self.begin(500, [("content-length", "0")])
            self._server.push((self._id, 0, None))


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1")
