"""The one ASGI application for all that speaks HTTP: the JSON gateway, and pages beside it.

    access       host whitelist and CORS (gateway/access.py)
    /v3/…, /chainfire/v1/…   the method table in JSON (routes.py, json_unary.py, json_stream.py)
    everything else          pages.py
    WebSockets               web_socket.py, for streams only

What etcd's mux does with paths is done here: /v3beta/ means /v3/, a path that
is not clean is redirected to the clean one.
"""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as PageRoute

from chainfire.api.services import Services
from chainfire.gateway.access import Access, Header
from chainfire.gateway.asgi import Application, Message
from chainfire.gateway.json_stream import JsonStream, Receive, Send
from chainfire.gateway.json_unary import (
    BODY_LATE,
    BODY_SECONDS_MAX,
    BODY_TOO_LARGE,
    Headers,
    body_bytes_max,
    start,
)
from chainfire.gateway.pages import go_error, pages, probes
from chainfire.gateway.routes import ROUTES, Route
from chainfire.gateway.unread import Unread
from chainfire.gateway.web_socket import Messages, refuse
from chainfire.metrics import Metrics

_GATEWAYS: Final = ("/v3/", "/chainfire/v1/")
PIECE_BYTES: Final = 256 << 10  # of an answer, handed on at once


class HttpApp:
    """The application for clients. Its streams end with `stop`."""

    def __init__(
        self,
        services: Services,
        metrics: Metrics,
        set_log_level: Callable[[str], None],
        access: Access | None = None,
        *,
        with_gateway: bool = True,
    ) -> None:
        self._services = services
        self._access = access or Access()
        self._routes = ROUTES if with_gateway else {}
        self._pages = _starlette(pages(services, metrics, set_log_level))
        self._streams: set[JsonStream] = set()
        self._stopping = False
        self._unread = Unread()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        headers = scope["headers"]
        if scope["type"] == "websocket":
            await self._web_socket(scope, receive, send)
            return
        send = _with_headers(send, self._access.headers(headers))
        if scope["scheme"] != "https" and (refusal := self._access.refusal(headers)):
            await go_error(refusal, 421)(scope, receive, send)
            return
        if scope["method"] == "OPTIONS":
            await Response()(scope, receive, send)
            return
        scope["path"] = _origin_form(scope["path"])
        path = _of_today(scope["path"])
        route = self._routes.get(path)
        if route is None:
            await self._page(path, scope, receive, send)
        elif scope["method"] != "POST":
            refused = go_error("Method Not Allowed", 405, {"Allow": "POST"})
            await refused(scope, receive, send)
        elif route.is_stream:
            await self._stream(route, scope, receive, send)
        else:
            await _unary(self._services, route, self._unread, scope, receive, send)

    def stop(self) -> None:
        """End all streams, and whichever still come, with an error that says why."""
        self._stopping = True
        for stream in list(self._streams):
            stream.stop()

    async def _page(self, path: str, scope: Message, receive: Receive, send: Send) -> None:
        clean = "/" + posixpath.normpath(path).lstrip("/")
        if (path.endswith("/") and clean != "/") or clean == "/v3":
            clean += "/"
        if path and clean != path:
            moved = Response(status_code=301, headers={"Location": clean})
            await moved(scope, receive, send)
        elif path.startswith(_GATEWAYS) and self._routes:
            await go_error("Not Found", 404)(scope, receive, send)
        else:
            await self._pages(scope, receive, send)

    async def _stream(self, route: Route, scope: Message, receive: Receive, send: Send) -> None:
        stream = JsonStream(self._services, route, scope, receive, send)
        with self._kept(stream):
            await stream.serve()

    async def _web_socket(self, scope: Message, receive: Receive, send: Send) -> None:
        headers, access = scope["headers"], self._access
        route = self._routes.get(_of_today(scope["path"]))
        if scope["scheme"] != "wss" and access.refusal(headers):
            await refuse(receive, send, 421)
        elif route is None or not route.is_stream:
            await refuse(receive, send, 404)
        elif not access.lets_in(headers):
            await refuse(receive, send, 403)
        else:
            messages = Messages(receive, send)
            await messages.accept()
            await self._stream(route, scope, messages.receive, messages.send)

    @contextmanager
    def _kept(self, stream: JsonStream) -> Iterator[None]:
        self._streams.add(stream)
        if self._stopping:
            asyncio.get_running_loop().call_soon(stream.stop)
        try:
            yield
        finally:
            self._streams.discard(stream)


def probe_app(services: Services, metrics: Metrics) -> Application:
    """For `--listen-metrics-urls`: health and metrics and nothing else."""
    return _starlette(probes(services, metrics))


def _starlette(routes: list[PageRoute]) -> Starlette:
    app = Starlette(routes=routes, exception_handlers={404: _not_found})
    app.router.redirect_slashes = False  # etcd's mux does not, and the Host header is the client's
    return app


def _of_today(path: str) -> str:
    """The path without the `beta` that etcd's first gateways had."""
    return path.replace("/v3beta/", "/v3/", 1) if path.startswith("/v3beta/") else path


def _origin_form(path: str) -> str:
    """The path of a target, also of one that proxies are sent: http://host/path (RFC 9112 §3.2)."""
    scheme, found, rest = path.partition("://")
    return "/" + rest.partition("/")[2] if found and "/" not in scheme else path


async def _not_found(_: Request, __: Exception) -> Response:
    return go_error("404 page not found", 404)


def _with_headers(send: Send, headers: tuple[Header, ...]) -> Send:
    """The answer's headers, and these in front of them."""
    if not headers:
        return send
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers]

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*encoded, *message.get("headers", ())]}
        await send(message)

    return sending


# ── unary calls over ASGI ───────────────────────────────────────────────────


class _ClientGone(Exception):
    """Nobody waits for an answer."""


async def _unary(
    services: Services,
    route: Route,
    unread: Unread,
    scope: Message,
    receive: Receive,
    send: Send,
) -> None:
    try:
        async with asyncio.timeout(BODY_SECONDS_MAX):
            body = await _body(receive, body_bytes_max(services))
    except _ClientGone:
        return
    except TimeoutError:
        await go_error(BODY_LATE, 408, {"Connection": "close"})(scope, receive, send)
        return
    if body is None:
        await go_error(BODY_TOO_LARGE, 413)(scope, receive, send)
        return
    answered: asyncio.Future[tuple[int, Headers, bytes]]
    answered = asyncio.get_running_loop().create_future()

    def respond(status: int, headers: Headers, body: bytes) -> None:
        if not answered.done():
            answered.set_result((status, headers, body))

    client = scope.get("client")
    peer = f"{client[0]}:{client[1]}" if client else ""
    call = start(services, route, scope["headers"], body, peer, respond, unread.has_room)
    gone = asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait((answered, gone), return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        if not answered.done() and call is not None:
            call.cancel()
    if answered.done():
        status, headers, reply = answered.result()
        encoded = [(name.encode(), value.encode()) for name, value in headers]
        await send({"type": "http.response.start", "status": status, "headers": encoded})
        with unread.sending(len(reply)):  # each `send` waits while the client does not read
            for begin in range(0, max(1, len(reply)), PIECE_BYTES):
                end = begin + PIECE_BYTES
                more = end < len(reply)
                piece = reply[begin:end]
                await send({"type": "http.response.body", "body": piece, "more_body": more})


async def _body(receive: Receive, most: int) -> bytes | None:
    """The request's body; None if it is larger than `most`, all of it read up to some bound."""
    pieces: list[bytes] = []
    size, more = 0, True
    while more and size <= 2 * most:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _ClientGone
        piece = message.get("body", b"")
        size += len(piece)
        if size <= most:
            pieces.append(piece)
        more = message.get("more_body", False)
    return b"".join(pieces) if size <= most else None


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
