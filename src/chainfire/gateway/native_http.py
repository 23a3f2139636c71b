"""HTTP requests of the native door, one after another handed to the ASGI application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from chainfire.api.call import Metadata
from chainfire.gateway import asgi
from chainfire.gateway.native_stream import MessageStream, Peer, Server

log = logging.getLogger(__name__)


MakeApplication = Callable[[], Awaitable[asgi.Application | None]]


def request_head(metadata: Metadata, peer: Peer | None) -> asgi.RequestHead:
    """What the door says of a request: method, target and version, then the headers."""
    method, target, version = [_text(pair[1]) for pair in metadata[:3]]
    host, _, port = ("" if peer is None else peer.address).rpartition(":")
    return asgi.RequestHead(
        method,
        target,
        version,
        [(name.encode(), _bytes(value)) for name, value in metadata[3:]],
        (host, int(port)) if port else None,
        is_tls=peer is not None and peer.is_tls,
    )


class HttpExchange(MessageStream):
    """An HTTP request and its answer, as `asgi.Exchange`."""

    is_http = True

    def __init__(
        self, server: Server, id_: int, head: asgi.RequestHead, application: MakeApplication
    ) -> None:
        super().__init__(server, id_)
        self._head = head
        self._application = application
        self._begun = False
        self._ended = False

    async def serve(self) -> bool:
        application = await self._application()
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
        self._send_head(status, [*headers, ("date", asgi.date())])

    async def send(self, body: bytes) -> None:
        await self._send(body)

    def _finish(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            return
        exc = task.exception()
        if exc is not None:
            log.error("http handler failed", exc_info=exc, extra={"target": self._head.target})
        if exc is None and task.result():
            self._end()
        elif self._begun:
            self._break_off()
        else:
            self.begin(500, [("content-length", "0")])
            self._end()


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1")
