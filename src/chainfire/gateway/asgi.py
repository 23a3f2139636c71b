"""One HTTP exchange for an ASGI application, over whatever carries its pieces."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from typing import Any, Protocol
from urllib.parse import unquote

Message = MutableMapping[str, Any]
Application = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]


@dataclass(slots=True, frozen=True)
class RequestHead:
    """What stands before the body."""

    method: str
    target: str  # path and query
    version: str  # of HTTP
    headers: Sequence[tuple[bytes, bytes]]
    peer: tuple[str, int] | None  # None: a Unix socket
    is_tls: bool = False


def date() -> str:
    """Now, as the header `date` has it (RFC 9110 §6.6.1)."""
    return _date(int(time.time()))


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)


class Exchange(Protocol):
    """The carrier. Its owner cancels the task when the client is gone."""

    async def read(self) -> bytes | None:
        """The next piece of the request's body; None after the last, then waits for ever."""
        ...

    def begin(self, status: int, headers: Sequence[tuple[str, str]]) -> None: ...

    async def send(self, body: bytes) -> None:
        """Waits while the client does not read."""
        ...


def scope(kind: str, head: RequestHead) -> Message:
    """What an application is told of a request; `kind`: "http" or "websocket"."""
    path, _, query = head.target.partition("?")
    scheme = {"http": "http", "websocket": "ws"}[kind] + ("s" if head.is_tls else "")
    return {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": head.version,
        "method": head.method,
        "scheme": scheme,
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": list(head.headers),
        "client": head.peer,
        "server": None,
        "state": {},
    }


async def serve(application: Application, head: RequestHead, exchange: Exchange) -> bool:
    """Run the application once. False: it did not answer, or not to the end.

    Raises what the application raises.
    """
    complete = False

    async def receive() -> Message:
        body = await exchange.read()
        return {"type": "http.request", "body": body or b"", "more_body": body is not None}

    async def send(message: Message) -> None:
        nonlocal complete
        if message["type"] == "http.response.start":
            headers = message.get("headers", ())
            exchange.begin(
                message["status"],
                [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers],
            )
        elif message["type"] == "http.response.body":
            if body := message.get("body", b""):
                await exchange.send(bytes(body))
            complete = not message.get("more_body", False)

    await application(scope("http", head), receive, send)
    return complete
