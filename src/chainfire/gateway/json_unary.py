"""Unary calls of the JSON gateway: a request's whole body in, a whole answer out.

`start` converts, runs the method's handler and answers through `respond`, now
or later, once; like every unary call here it makes no task and no future.
Bodies over `INLINE_BYTES_MAX` are converted on a thread, because a turn of the
loop must not wait for them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Final

from chainfire.api.call import Call, Metadata, answer_to
from chainfire.api.counters import MethodCounters
from chainfire.api.services import Services
from chainfire.api.table import run
from chainfire.errors import Code, Malformed, RequestError
from chainfire.gateway.json_codec import BadJson
from chainfire.gateway.json_text import TOO_DEEP, text_of
from chainfire.gateway.json_words import (
    HTTP_STATUS,
    DeadlineExceeded,
    MessageTooLarge,
    error_body,
    read_headers,
)
from chainfire.gateway.routes import Route
from chainfire.gateway.settings import RECEIVE_OVERHEAD_BYTES

log = logging.getLogger(__name__)

INLINE_BYTES_MAX: Final = 256 * 1024
# JSON is longer than its message: base64, names, escapes. What the message may be is checked too.
JSON_FACTOR: Final = 4

BODY_SECONDS_MAX: Final = 30.0  # for a client to send its request
# What no JSON answers: it was not read. In Go's words, where it has some.
BODY_TOO_LARGE: Final = "http: request body too large"
BODY_LATE: Final = "Request Timeout"

Headers = Sequence[tuple[str, str]]
Respond = Callable[[int, Headers, bytes], None]  # status, headers, body
HasRoom = Callable[[], bool]  # as Call.has_room

_JSON: Final = ("content-type", "application/json")
# etcd's gateway passes on what its own gRPC call answered with.
_ANSWERED: Final = ("grpc-metadata-content-type", "application/grpc")


def message_bytes_max(services: Services) -> int:
    """What a request may be as a message, as through gRPC."""
    return services.limits.max_request_bytes + RECEIVE_OVERHEAD_BYTES


def body_bytes_max(services: Services) -> int:
    """What is read of a request at all."""
    return JSON_FACTOR * message_bytes_max(services)


class JsonCall(Call):
    """A unary call that came as JSON. `cancel` it when the client is gone."""

    __slots__ = ("begun", "counters", "respond", "room", "route", "timer")

    def __init__(
        self,
        services: Services,
        route: Route,
        request: bytes,
        metadata: Metadata,
        peer: str,
        respond: Respond,
        room: HasRoom,
    ) -> None:
        super().__init__(services, route.method.path, request, metadata, None, peer)
        self.counters: MethodCounters = services.counters.method(route.method.path)
        self.route = route
        self.respond = respond
        self.room = room
        self.begun = perf_counter()
        self.timer: asyncio.TimerHandle | None = None

    def start(self, timeout: float | None) -> None:
        self.counters.started += 1
        self.counters.received_messages += 1
        self.services.counters.received_bytes += len(self.request)
        if timeout is not None:
            loop = asyncio.get_running_loop()
            self.deadline = loop.time() + timeout
            self.timer = loop.call_later(timeout, self._expire)
        assert self.route.method.unary is not None
        run(self.route.method.unary, self)

    def has_room(self) -> bool:
        return self.room()

    def _expire(self) -> None:
        if not self.finished:
            super().cancel()
            self.send_error(DeadlineExceeded())

    def cancel(self) -> None:
        if not self.finished:
            self.counters.handled[Code.CANCELLED] += 1
        self._stop_timer()
        super().cancel()

    def send_reply(self, body: bytes) -> None:
        self._settle()
        self.counters.handled[0] += 1
        self.counters.sent_messages += 1
        self.services.counters.sent_bytes += len(body)
        if len(body) <= INLINE_BYTES_MAX:
            self._send_json(self.route.reply.encode(body))
            return
        work = asyncio.get_running_loop().run_in_executor(None, self.route.reply.encode, body)
        work.add_done_callback(self._encoded)

    def send_error(self, error: RequestError) -> None:
        if isinstance(error, Malformed):  # our own encoding, so: nested deeper than protobuf reads
            error = BadJson(TOO_DEEP)
        self._settle()
        self.counters.handled[error.code] += 1
        respond_error(error, self.respond)

    def _encoded(self, work: asyncio.Future[str]) -> None:
        error = work.exception()
        if isinstance(error, Exception):
            respond_error(answer_to(error, self.services, self.method), self.respond)
        else:
            self._send_json(work.result())

    def _send_json(self, text: str) -> None:
        body = text.encode()
        self.respond(200, (_JSON, _ANSWERED, ("content-length", str(len(body)))), body)

    def _settle(self) -> None:
        self._stop_timer()
        if self.counters.handling is not None:
            self.counters.handling.observe(perf_counter() - self.begun)

    def _stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Starting:
    """A call whose body is still being converted."""

    def __init__(self) -> None:
        self.call: JsonCall | None = None
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True
        if self.call is not None:
            self.call.cancel()


def start(
    services: Services,
    route: Route,
    headers: Sequence[tuple[bytes, bytes]],
    body: bytes,
    peer: str,
    respond: Respond,
    room: HasRoom,
) -> JsonCall | Starting | None:
    """Answer a request through `respond`. What is returned takes `cancel`; None: it is answered."""
    try:
        metadata, timeout = read_headers(headers)
        if len(body) > INLINE_BYTES_MAX:
            starting = Starting()
            loop = asyncio.get_running_loop()
            work = loop.run_in_executor(None, _convert, services, route, body)

            def converted(work: asyncio.Future[bytes]) -> None:
                if starting.is_cancelled:
                    return
                error = work.exception()
                if isinstance(error, Exception):
                    respond_error(answer_to(error, services, route.method.path), respond)
                    return
                call = JsonCall(services, route, work.result(), metadata, peer, respond, room)
                starting.call = call
                call.start(timeout)

            work.add_done_callback(converted)
            return starting
        request = _convert(services, route, body)
    except Exception as exc:
        respond_error(answer_to(exc, services, route.method.path), respond)
        return None
    call = JsonCall(services, route, request, metadata, peer, respond, room)
    call.start(timeout)
    return call


def _convert(services: Services, route: Route, body: bytes) -> bytes:
    """The request's message. Raises BadJson, MessageTooLarge."""
    request = route.request.decode(text_of(body))
    most = message_bytes_max(services)
    if len(request) > most:
        raise MessageTooLarge(len(request), most)
    return request


def respond_error(error: RequestError, respond: Respond) -> None:
    body = error_body(error).encode()
    respond(HTTP_STATUS[error.code], (_JSON, ("content-length", str(len(body)))), body)
