"""Unary JSON calls of the native door, without a task and without ASGI.

The same calls that `gateway/http.py` serves, by the same `json_unary.start`; an
exchange only gathers the body and hands the answer over with the turn's other
replies. ASGI costs two tasks and two futures for each, which is more than the
call itself.

A call as JSON takes several times what one of gRPC does. While both come, those
that are complete wait in `Complete` for their share of the turn, so that calls
by gRPC do not wait for all of them.
"""

from __future__ import annotations

from collections import deque
from time import perf_counter
from typing import Final, Protocol

from chainfire.api.call import Metadata
from chainfire.gateway import asgi
from chainfire.gateway.access import Access
from chainfire.gateway.json_unary import (
    BODY_LATE,
    BODY_TOO_LARGE,
    Headers,
    JsonCall,
    Starting,
    body_bytes_max,
    start,
)
from chainfire.gateway.native_stream import MessageStream, Server
from chainfire.gateway.routes import ROUTES, Route

SHARE_SECONDS: Final = 0.0005  # of a turn, and one call more
QUIET_TURNS: Final = 100  # without a call by gRPC; then nothing is shared
_ACCESS: Final = Access().open_headers


def direct_routes(access: Access) -> dict[str, Route]:
    """What needs no look at the request but its path: where everybody has access."""
    return {path: r for path, r in ROUTES.items() if not r.is_stream} if access.is_open else {}


class Complete:
    """Requests that are here with their bodies, in the order in which they came."""

    def __init__(self) -> None:
        self._waiting: deque[JsonExchange] = deque()
        self.turns_since_call = QUIET_TURNS  # by gRPC; the server sets it to 0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, exchange: JsonExchange) -> None:
        self._waiting.append(exchange)

    def take_turn(self) -> None:
        """Behind the calls of a turn. Where there have been any lately, some may be left over."""
        shares = self.turns_since_call < QUIET_TURNS
        self.turns_since_call += 1
        until = perf_counter() + SHARE_SECONDS
        while self._waiting:
            self._waiting.popleft().begin()
            if shares and perf_counter() >= until:
                break


class StreamServer(Server, Protocol):
    streams: dict[int, MessageStream]  # not yet over
    complete: Complete


class JsonExchange(MessageStream):
    """One call as JSON and its answer."""

    is_http = True

    def __init__(self, server: StreamServer, id_: int, route: Route, metadata: Metadata) -> None:
        super().__init__(server, id_)
        self.is_waiting = True  # for the body's end
        self._owner = server.streams
        self._complete = server.complete
        self._route = route
        self._metadata = metadata
        self._size = 0
        self._most = body_bytes_max(server.services)
        self._impatient = False
        self._call: JsonCall | Starting | None = None

    def on_message(self, body: bytes) -> None:
        self._took(len(body))
        self._size += len(body)
        if self._size <= self._most:
            self._arrived.append(body)
        elif self._size > 2 * self._most:  # it may be read on, so that the client sees the answer
            self._refuse(413, BODY_TOO_LARGE)

    def on_half_close(self) -> None:
        if not self.is_waiting:
            return
        if self._size > self._most:
            self._refuse(413, BODY_TOO_LARGE)
            return
        self.is_waiting = False
        self._complete.add(self)

    def begin(self) -> None:
        """The call, unless the client has gone meanwhile."""
        if self._over:
            return
        arrived = self._arrived
        body = arrived[0] if len(arrived) == 1 else b"".join(arrived)
        arrived.clear()
        peer = self._server.peer_of(self._id)
        headers = [
            (name.encode(), value if isinstance(value, bytes) else value.encode("latin-1"))
            for name, value in self._metadata
            if name == "authorization" or name.startswith("grpc-")
        ]
        address = "" if peer is None else peer.address
        call = start(
            self._server.services,
            self._route,
            headers,
            body,
            address,
            self._respond,
            self._has_room,
        )
        if not self._over:
            self._call = call

    def cancel(self) -> None:
        """The client is gone."""
        self._over = True
        self._owner.pop(self._id, None)
        if self._call is not None:
            self._call.cancel()

    def _has_room(self) -> bool:
        return self._server.has_room(self._id)

    def grow_impatient(self) -> None:
        """Called now and then while the body does not come; the second time is too late."""
        if self._impatient:
            self._refuse(408, BODY_LATE)
        self._impatient = True

    def _refuse(self, status: int, text: str) -> None:
        if self.is_waiting:
            self.is_waiting = False
            body = f"{text}\n".encode()
            headers = (
                ("content-type", "text/plain; charset=utf-8"),
                ("x-content-type-options", "nosniff"),
                ("content-length", str(len(body))),
            )
            self._respond(status, headers, body)

    def _respond(self, status: int, headers: Headers, body: bytes) -> None:
        if not self._over:
            self._over = True
            self._call = None
            self._owner.pop(self._id, None)
            self._send_whole(status, [*_ACCESS, *headers, ("date", asgi.date())], body)
