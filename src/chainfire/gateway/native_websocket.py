"""WebSockets of the native door (RFC 6455), for the ASGI application.

The door passes bytes on once the request has asked for a WebSocket; frames are
wsproto's, which is imported when the first one comes.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
from collections import deque
from typing import Any

from chainfire.gateway import asgi
from chainfire.gateway.native_http import MakeApplication
from chainfire.gateway.native_stream import MessageStream, Server

log = logging.getLogger(__name__)

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3
_TOO_BIG = 1009  # RFC 6455 §7.4.1
MESSAGE_BYTES_MAX = 16 * 1024 * 1024  # however many frames it comes in
PART_OVERHEAD_BYTES = 64  # so that empty frames are bounded too


def is_asked_for(head: asgi.RequestHead) -> bool:
    """Whether a request opens a WebSocket (RFC 6455 §4.2.1); one with a body does not."""
    if head.method != "GET" or head.version != "1.1":
        return False
    headers = dict(head.headers)
    return (
        headers.get(b"upgrade", b"").lower() == b"websocket"
        and b"upgrade" in headers.get(b"connection", b"").lower()
        and headers.get(b"sec-websocket-version") == b"13"
        and b"sec-websocket-key" in headers
        and headers.keys().isdisjoint((b"content-length", b"transfer-encoding"))
    )


class WebSocketExchange(MessageStream):
    """A WebSocket, as ASGI has them."""

    is_http = True

    def __init__(
        self, server: Server, id_: int, head: asgi.RequestHead, application: MakeApplication
    ) -> None:
        super().__init__(server, id_)
        self._head = head
        self._application = application
        self._frames: Any = None  # wsproto's connection
        self._ready: deque[asgi.Message] = deque([{"type": "websocket.connect"}])
        self._parts: list[str | bytes] = []  # of a message that is not complete
        self._parts_bytes = 0
        self._is_open = False
        self._is_answered = False  # otherwise than with a WebSocket

    async def serve(self) -> None:
        application = await self._application()
        if application is None:
            self._send_whole(415, [("content-length", "0")], b"")
            return
        from wsproto.connection import Connection, ConnectionType

        self._frames = Connection(ConnectionType.SERVER, [])
        await application(asgi.scope("websocket", self._head), self._receive, self._send_event)
        if self._is_open:
            await self._close(1000)
        elif not self._is_answered:
            self._send_whole(403, [("content-length", "0")], b"")
            return
        self._end()

    async def _receive(self) -> asgi.Message:
        while not self._ready:
            body = await self._next()
            await self._take_frames(body)
        return self._ready.popleft()

    async def _take_frames(self, body: bytes | None) -> None:
        from wsproto import events
        from wsproto.utilities import RemoteProtocolError

        gone = {"type": "websocket.disconnect", "code": 1005}
        if not self._is_open:
            self._ready.append(gone)
            return
        broken: RemoteProtocolError | None = None
        try:
            self._frames.receive_data(body)
            for event in self._frames.events():
                if isinstance(event, events.Message):
                    self._take_message(event.data, event.message_finished)
                elif isinstance(event, events.Ping):
                    await self._send(self._frames.send(event.response()))
                elif isinstance(event, events.CloseConnection):
                    if self._frames.state.name == "REMOTE_CLOSING":
                        await self._send(self._frames.send(event.response()))
                    self._is_open = False
                    self._ready.append(gone)
        except RemoteProtocolError as error:
            broken = error
        if broken is not None:
            hint = broken.event_hint
            await self._close(hint.code if isinstance(hint, events.CloseConnection) else 1002)
            self._ready.append(gone)

    def _take_message(self, part: str | bytes, is_last: bool) -> None:
        from wsproto.events import CloseConnection
        from wsproto.utilities import RemoteProtocolError

        self._parts.append(part)
        self._parts_bytes += len(part) + PART_OVERHEAD_BYTES
        if self._parts_bytes > MESSAGE_BYTES_MAX:
            raise RemoteProtocolError("message too large", CloseConnection(_TOO_BIG))
        if is_last:
            self._parts_bytes = 0
            whole = self._parts[0][:0].join(self._parts)  # type: ignore[arg-type]
            self._parts.clear()
            kind = "text" if isinstance(whole, str) else "bytes"
            self._ready.append({"type": "websocket.receive", kind: whole})

    async def _send_event(self, message: asgi.Message) -> None:
        from wsproto.events import TextMessage

        match message["type"]:
            case "websocket.accept":
                key = dict(self._head.headers)[b"sec-websocket-key"]
                accept = base64.b64encode(hashlib.sha1(key + _GUID).digest()).decode()
                headers = [("upgrade", "websocket"), ("sec-websocket-accept", accept)]
                self._send_head(101, headers)
                self._is_open = True
            case "websocket.send" if self._is_open:
                await self._send(self._frames.send(TextMessage(message["text"])))
            case "websocket.close" if self._is_open:
                await self._close(message["code"])
            case "websocket.http.response.start":
                self._is_answered = True
                headers = [(n.decode(), v.decode("latin-1")) for n, v in message["headers"]]
                self._send_head(message["status"], headers)
            case "websocket.http.response.body":
                await self._send(message["body"])

    async def _close(self, code: int) -> None:
        from wsproto.events import CloseConnection

        if self._is_open:
            self._is_open = False
            await self._send(self._frames.send(CloseConnection(code)))

    def _finish(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            return
        if (exc := task.exception()) is not None:
            log.error("websocket failed", exc_info=exc, extra={"target": self._head.target})
            self._break_off()
