"""The native door: the method table over `chainfire_native`, lists in and lists out.

One turn takes the calls that have come, runs their handlers, and hands over
the answers that they gave; then the node's turn runs, which lets its answers
leave by itself (`node.audience.Outlet`). A unary call costs one `NativeCall`: no task,
no future, no closure. Only streams and most HTTP requests have a task each.

Rust ends a call that is reset, past its deadline or disconnected, and says
CANCEL; answers to it that are under way go nowhere, because ids are never
used twice. Messages of streams are counted against a credit in each direction
(`native_stream.py`), so nothing piles up on either side.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import chainfire_native as native

from chainfire.api.call import Metadata
from chainfire.api.services import Services
from chainfire.api.table import METHODS, Kind, run, unknown_method
from chainfire.errors import Code, ConfigError, DoorFailed, Stopped
from chainfire.gateway import asgi
from chainfire.gateway.admitting import serve
from chainfire.gateway.descriptors import connections_max
from chainfire.gateway.json_unary import BODY_SECONDS_MAX
from chainfire.gateway.listen import addresses, bind
from chainfire.gateway.native_calls import NativeCall, NativeStream, Served, TimedCall
from chainfire.gateway.native_cast import NativeCaster
from chainfire.gateway.native_http import HttpExchange, request_head
from chainfire.gateway.native_json import Complete, JsonExchange
from chainfire.gateway.native_stream import MessageStream, Peer
from chainfire.gateway.native_websocket import WebSocketExchange, is_asked_for
from chainfire.gateway.routes import PATHS_IN_LINE, Route
from chainfire.gateway.settings import RECEIVE_OVERHEAD_BYTES, GrpcSettings
from chainfire.gateway.tls import REFRESH_SECONDS, Certificates
from chainfire.types import Caster

log = logging.getLogger(__name__)

VERSION: Final = native.__version__
self_signed: Final = native.self_signed
EVENTS_PER_TURN = 1000
STREAMS_MAX = 65_536  # per connection, whatever the configuration allows
_CONNECTION_SHIFT = 30  # an id's upper bits


class NativeServer:
    """Serves on every URL of `listen`. Create on the loop, `start`, `aclose`.

    HTTP requests that are not gRPC go to what `application` makes, on a thread and once, when the
    first one comes: making it takes longer than a turn should. Posts to `direct`, unary calls as
    JSON, do not: they need no task (`native_json.py`).
    """

    def __init__(
        self,
        services: Services,
        listen: Sequence[str],
        settings: GrpcSettings | None = None,
        application: Callable[[], asgi.Application] | None = None,
        certificates: Certificates | None = None,
        direct: Mapping[str, Route] | None = None,
    ) -> None:
        """Raises ConfigError."""
        self.services = services
        self.ports: list[int] = []  # as bound, in the order of `listen`; a socket's is 0
        self.replies: list[tuple[Any, ...]] = []  # of this turn
        self.will_flush = False
        self.calls: dict[int, NativeCall] = {}  # not yet answered
        self._addresses = addresses(listen, certificates)
        self._certificates = certificates
        self._generation = -1  # of the certificates that the door has
        self._make_application = application
        self._application: asyncio.Task[asgi.Application] | None = None  # made, or being made
        self._direct = direct or {}
        self._watches_bodies = False
        self._call_type = TimedCall if services.counters.extensive else NativeCall
        self.loop = asyncio.get_running_loop()
        self._settings = settings or GrpcSettings()
        self._served = [
            Served(path, services.counters.method(path), method.unary, method.stream)
            for path, method in METHODS.items()
        ]
        self.caster: Caster = NativeCaster(
            self.push, services.counters, services.counters.method("/etcdserverpb.Watch/Watch")
        )
        self.streams: dict[int, MessageStream] = {}  # not yet over
        self.complete = Complete()
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
            native.PRESSED: lambda id_, *_: self._on_pressed(id_, True),
            native.RELIEVED: lambda id_, *_: self._on_pressed(id_, False),
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
            connections_max=connections_max(),
            streams_max=min(settings.max_concurrent_streams, STREAMS_MAX),
            http_lines=PATHS_IN_LINE,
            message_bytes_max=self.services.limits.max_request_bytes + RECEIVE_OVERHEAD_BYTES,
            ping_interval_min_seconds=settings.keepalive_min_time_seconds,
            keepalive_interval_seconds=settings.keepalive_interval_seconds,
            keepalive_timeout_seconds=settings.keepalive_timeout_seconds,
        )
        self._door = door
        try:
            self._renew_certificates()
            for address in self._addresses:
                listener = bind(address)
                self.ports.append(0 if address.unix_path else listener.getsockname()[1])
                door.listen(listener.detach(), bool(address.unix_path), address.is_tls)
        except ConfigError:
            door.close()
            raise
        self.services.node.answer_through(self)
        self.loop.add_reader(door.fileno(), self._turn)

    async def aclose(self, grace_seconds: float = 5.0) -> None:
        """Take no new calls, finish accepted ones within the grace, end streams at once."""
        door = self._door
        if door is None:
            return
        self._stopping = True
        for stream in list(self.streams.values()):
            if not stream.is_http:
                stream.end_with(Stopped())
        door.stop()
        try:
            await asyncio.wait_for(self._drained.wait(), grace_seconds)
        except TimeoutError:
            log.info("closing calls that did not end", extra={"calls": len(self.calls)})
        self._door = None
        self.loop.remove_reader(door.fileno())
        door.close()
        for call in list(self.calls.values()):
            call.cancel()
        self.calls.clear()
        for stream in list(self.streams.values()):
            stream.cancel()

    def _renew_certificates(self) -> None:
        """Give the door what the files hold now; looks again by itself. Raises ConfigError."""
        certificates, door = self._certificates, self._door
        if certificates is None or door is None:
            return
        generation = certificates.refresh()
        if generation != self._generation:
            config, pem = certificates.config, certificates.pem
            try:
                door.set_tls(
                    pem.certificate,
                    pem.key,
                    pem.client_ca,
                    client_crl=pem.client_crl,
                    client_names=config.client_cert_allowed_hostname,
                    version_min=config.tls_min_version.removeprefix("TLS"),
                    version_max=config.tls_max_version.removeprefix("TLS") or None,
                    ciphers=config.cipher_suites,
                )
            except ValueError as exc:
                if self._generation < 0:
                    raise ConfigError(f"TLS: {exc}") from exc
                log.warning("changed certificate not taken", extra={"reason": str(exc)})
            self._generation = generation
        self.loop.call_later(REFRESH_SECONDS, self._renew_certificates)

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
        make_call = self._call_type
        calls = self.calls
        received_bytes, called, complete = 0, False, self.complete
        renewing = self.services.renewing
        renewing.is_held = True
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
            call = make_call(self, method, id_, body, metadata, timeout)
            run(method.unary, call)
            if not call.finished:
                calls[id_] = call
            called = True
        if called:
            complete.turns_since_call = 0
        if complete:
            complete.take_turn()
        renewing.is_held = False
        if renewing.ids:
            renewing.ask()
        self.services.counters.received_bytes += received_bytes
        self.flush()
        if complete or not armed:
            self.loop.call_soon(self._turn)

    def push(self, reply: tuple[Any, ...]) -> None:
        """Hand a reply over, at the end of this turn at the latest."""
        self.replies.append(reply)
        if not self.will_flush:
            self.will_flush = True
            self.loop.call_soon(self.flush)

    def hold(self) -> None:
        """Replies follow, and a `flush` behind them."""
        self.will_flush = True

    def flush(self) -> None:
        """Hand over what there is."""
        self.will_flush = False
        if self.replies and self._door is not None:
            replies, self.replies = self.replies, []
            if self._door.send(replies):
                self.loop.call_soon(self._linger)

    def _linger(self) -> None:
        """The next call is expected sooner than the loop would wake up for it."""
        door = self._door
        if door is not None and door.linger():
            self._turn()
            self.services.node.take_turn()

    def has_room(self, id_: int) -> bool:
        return self._door is None or self._door.has_room(id_)

    def peer_of(self, id_: int) -> Peer | None:
        return self._peers.get(id_ >> _CONNECTION_SHIFT)

    # ── streams and HTTP ────────────────────────────────────────────────────

    def _open(
        self,
        method: Served,
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
        self.streams[id_] = stream
        stream.start(serve(self.services, handler, stream), self.streams)
        if self._stopping:
            stream.end_with(Stopped())

    def _on_unknown_method(self, id_: int, path: bytes, *_: Any) -> None:
        error = unknown_method(path.decode("utf-8", "replace"))
        self.push((id_, int(error.code), error.message))

    def _on_http_request(
        self, id_: int, _body: bytes, metadata: Metadata | None, _timeout: object
    ) -> None:
        assert metadata is not None
        route = self._direct.get(metadata[1][1])  # type: ignore[arg-type]
        if route is not None and metadata[0][1] == "POST":
            self.streams[id_] = JsonExchange(self, id_, route, metadata)
            if not self._watches_bodies:
                self._watches_bodies = True
                self.loop.call_later(BODY_SECONDS_MAX / 2, self._watch_bodies)
            return
        head = request_head(metadata, self.peer_of(id_))
        made = WebSocketExchange if is_asked_for(head) else HttpExchange
        exchange = made(self, id_, head, self._application_made)
        self.streams[id_] = exchange
        exchange.start(exchange.serve(), self.streams)

    def _watch_bodies(self) -> None:
        """Refuse requests whose bodies do not come."""
        waiting = [s for s in self.streams.values() if isinstance(s, JsonExchange) and s.is_waiting]
        for exchange in waiting:
            exchange.grow_impatient()
        self._watches_bodies = bool(waiting)
        if waiting:
            self.loop.call_later(BODY_SECONDS_MAX / 2, self._watch_bodies)

    async def _application_made(self) -> asgi.Application | None:
        if self._make_application is None:
            return None
        if self._application is None:
            making = asyncio.to_thread(self._make_application)
            self._application = asyncio.create_task(making)
        return await asyncio.shield(self._application)

    def _on_message(self, id_: int, body: bytes, _metadata: object, _amount: object) -> None:
        stream = self.streams.get(id_)
        if stream is not None:
            stream.on_message(body)

    def _on_half_close(self, id_: int, *_: Any) -> None:
        stream = self.streams.get(id_)
        if stream is not None:
            stream.on_half_close()

    def _on_writable(self, id_: int, _body: bytes, _metadata: object, credit: float) -> None:
        stream = self.streams.get(id_)
        if stream is not None:
            stream.on_writable(int(credit))

    def _on_pressed(self, id_: int, pressed: bool) -> None:
        stream = self.streams.get(id_)
        if stream is not None:
            stream.on_pressed(pressed)

    def _on_cancel(self, id_: int, *_: Any) -> None:
        call = self.calls.pop(id_, None)
        if call is not None:
            call.counters.handled[Code.CANCELLED] += 1
            call.cancel()
            return
        stream = self.streams.get(id_)
        if stream is not None:
            stream.cancel()

    # ── the door itself ─────────────────────────────────────────────────────

    def _on_opened(
        self, id_: int, address: bytes, metadata: Metadata | None, is_tls: float | None
    ) -> None:
        certificate = metadata[0][1] if metadata else None
        assert not isinstance(certificate, str)
        self._peers[id_ >> _CONNECTION_SHIFT] = Peer(
            address.decode(), certificate, is_tls is not None
        )

    def _on_closed(self, id_: int, *_: Any) -> None:
        self._peers.pop(id_ >> _CONNECTION_SHIFT, None)

    def _on_drained(self, *_: Any) -> None:
        self._drained.set()

    def _on_failed(self, _id: int, text: bytes, _metadata: object, whole: float | None) -> None:
        log.error("native door panicked", extra={"panic": text.decode("utf-8", "replace")})
        if whole:
            self.services.node.halt(DoorFailed(f"the native door panicked: {text.decode()}"))
