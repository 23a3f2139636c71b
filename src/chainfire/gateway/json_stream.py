"""Streaming calls of the JSON gateway, over ASGI: one JSON object and a newline per message.

    {"result":{…}}        every message, in a chunk of its own, flushed at once
    {"error":{…}}         the last line, where the stream did not end well

With `Accept: text/event-stream` each of them is the data of a server-sent
event instead. Requests of a bidirectional stream are JSON values in the
request's body; after the last one the stream goes on as after a half-close.
A request that is no JSON is refused if it is the first and ends the requests
if it is a later one, as in etcd.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from chainfire.api.admission import admitted
from chainfire.api.call import Metadata, answer_to
from chainfire.api.services import Services
from chainfire.api.table import Kind
from chainfire.errors import Code, RequestError, Stopped
from chainfire.gateway.asgi import Message
from chainfire.gateway.json_codec import BadJson
from chainfire.gateway.json_text import Splitter, text_of
from chainfire.gateway.json_unary import INLINE_BYTES_MAX, message_bytes_max
from chainfire.gateway.json_words import (
    HTTP_STATUS,
    DeadlineExceeded,
    MessageTooLarge,
    error_body,
    read_headers,
    stream_error,
)
from chainfire.gateway.posting import Posting
from chainfire.gateway.routes import Route

Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

REQUESTS_WAITING_MAX: Final = 16  # more are left to the connection

_JSON_HEADERS: Final = [
    (b"content-type", b"application/json"),
    (b"grpc-metadata-content-type", b"application/grpc"),
]
_EVENT_HEADERS: Final = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache"),
]


class JsonStream(Posting):
    """One streaming call, as `api.call.Stream`. `serve` returns when it is over."""

    def __init__(
        self, services: Services, route: Route, scope: Message, receive: Receive, send: Send
    ) -> None:
        super().__init__()
        client = scope.get("client")
        self.method = route.method.path
        self.request = b""
        self.metadata: Metadata = ()
        self.deadline: float | None = None
        self.peer = f"{client[0]}:{client[1]}" if client else ""
        self._services = services
        self._route = route
        self._headers: list[tuple[bytes, bytes]] = scope["headers"]
        self._receive = receive
        self._send = send
        self._counters = services.counters.method(self.method)
        self._as_events = any(
            name == b"accept" and b"text/event-stream" in value for name, value in self._headers
        )
        self._begun = False
        self._first: bytes | None = None
        self._arrived: asyncio.Queue[bytes | RequestError | None] = asyncio.Queue(
            REQUESTS_WAITING_MAX
        )
        self._handling: asyncio.Task[None] | None = None
        self._opened = False  # the handler has the stream

    async def serve(self) -> None:
        self._counters.started += 1
        self._handling = asyncio.create_task(self._handle(), name=self.method)
        reading = asyncio.create_task(self._read())
        error: RequestError | None = None
        try:
            await asyncio.wait((self._handling, reading), return_when=asyncio.FIRST_COMPLETED)
            if not self._handling.done():  # the client is gone
                self._counters.handled[Code.CANCELLED] += 1
                return
            error = self._outcome(self._handling)
        except asyncio.CancelledError:
            self._counters.handled[Code.CANCELLED] += 1
            raise
        finally:
            self.end_posting()
            for task in (reading, self._handling):
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task
        self._counters.handled[Code.OK if error is None else error.code] += 1
        await self._end(error)

    def stop(self) -> None:
        """The member goes: end with an error that says so."""
        if self._handling is not None:
            self._handling.cancel()

    # ── for the handler ─────────────────────────────────────────────────────

    async def send(self, body: bytes) -> None:
        self._counters.sent_messages += 1
        self._services.counters.sent_bytes += len(body)
        encode = self._route.reply.encode
        text = encode(body) if len(body) <= INLINE_BYTES_MAX else await _on_thread(encode, body)
        await self._write('{"result":' + text + "}", 200)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._first is not None:
            yield self._first
        while isinstance(body := await self._arrived.get(), bytes):
            yield self._count(body)

    # ── both directions ─────────────────────────────────────────────────────

    async def _handle(self) -> None:
        handler = self._route.method.stream
        assert handler is not None
        self.metadata, timeout = read_headers(self._headers)
        limit = asyncio.timeout(timeout)
        try:
            async with limit, admitted(self._services, self.metadata):
                self.deadline = limit.when()
                first = await self._arrived.get()
                if isinstance(first, RequestError):
                    raise first
                if self._route.method.kind is Kind.SERVER_STREAM:
                    self.request = self._count(first or b"")
                elif first is None:
                    self._arrived.put_nowait(None)
                else:
                    self._first = self._count(first)
                self._opened = True
                await self.run(handler(self._services, self))
        except TimeoutError as exc:
            if limit.expired():
                raise DeadlineExceeded from exc
            raise

    async def _read(self) -> None:
        """The request's body, until the client is gone."""
        splitter, most = Splitter(), message_bytes_max(self._services)
        only_one = self._route.method.kind is Kind.SERVER_STREAM
        more = True
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                return
            if not more:
                continue
            for value in splitter.feed(message.get("body", b"")):
                if not (only_one and self._opened):
                    await self._arrived.put(await self._converted(value, most))
            if splitter.waiting_bytes > most:
                await self._arrived.put(MessageTooLarge(splitter.waiting_bytes, most))
                splitter = Splitter()
            more = message.get("more_body", False)
            if not more:
                if only_one and self._opened:
                    continue
                if rest := splitter.rest():
                    await self._arrived.put(await self._converted(rest, most))
                await self._arrived.put(None)

    async def _converted(self, value: bytes, most: int) -> bytes | RequestError:
        decode = self._route.request.decode
        try:
            text = text_of(value)
            body = (
                decode(text) if len(value) <= INLINE_BYTES_MAX else await _on_thread(decode, text)
            )
        except BadJson as error:
            return error
        return body if len(body) <= most else MessageTooLarge(len(body), most)

    def _count(self, body: bytes) -> bytes:
        self._counters.received_messages += 1
        self._services.counters.received_bytes += len(body)
        return body

    def _outcome(self, task: asyncio.Task[None]) -> RequestError | None:
        if task.cancelled():
            return Stopped()
        exc = task.exception()
        if exc is None:
            return None
        if not isinstance(exc, Exception):
            raise exc
        return answer_to(exc, self._services, self.method)

    async def _end(self, error: RequestError | None) -> None:
        if error is None:
            if not self._begun:
                await self._begin(200)
        elif self._opened:
            await self._write(stream_error(error), HTTP_STATUS[error.code])
        else:
            await self._write(error_body(error), HTTP_STATUS[error.code])
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _begin(self, status: int) -> None:
        self._begun = True
        headers = _EVENT_HEADERS if self._as_events else _JSON_HEADERS
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _write(self, text: str, status: int) -> None:
        if not self._begun:
            await self._begin(status)
        line = f"data: {text}\n\n" if self._as_events else f"{text}\n"
        body = line.encode()
        await self._send({"type": "http.response.body", "body": body, "more_body": True})


async def _on_thread(convert: Callable[[Any], Any], given: Any) -> Any:
    return await asyncio.to_thread(convert, given)
