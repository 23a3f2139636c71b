"""A connection of the HTTP door: uvicorn's, with the limits that the native door has.

    over CONNECTIONS_MAX                  503
    a head that is not there in time      408
    a head larger than HEAD_BYTES_MAX     431
    a request that ends too early         400
    a transfer coding but `chunked`       501
    a client that closes its own side     answered, for a moment; but not in a line for a lock

Bodies are the application's affair (413, 408).
"""

from __future__ import annotations

import asyncio
import sys
from typing import Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from chainfire.gateway.descriptors import connections_max
from chainfire.gateway.routes import PATHS_IN_LINE

CONNECTIONS_MAX: Final = 4096  # each may hold a head
HEAD_BYTES_MAX: Final = 64 * 1024
HEAD_SECONDS_MAX: Final = 10.0
IDLE_SECONDS_MAX: Final = 120  # between requests
LINGER_SECONDS: Final = 1.0  # in which a last word can be read, or is still said
_TURNED_AWAY_MAX: Final = 64  # connections over the limit that are told so at once

_REFUSALS: Final = {  # by what h11 suggests
    431: "431 Request Header Fields Too Large",
    501: "501 Not Implemented",  # a transfer coding that is not ours
}
_TOO_MANY: Final = "too many connections"
_TOO_MANY_BODY: Final = f'{{"error":"{_TOO_MANY}","code":14,"message":"{_TOO_MANY}","details":[]}}'


class HttpConnection(H11Protocol):
    """One connection, for `uvicorn.Config(http=…)`."""

    connections_max = min(CONNECTIONS_MAX, connections_max())
    head_seconds_max = HEAD_SECONDS_MAX

    _deadline: asyncio.TimerHandle | None = None  # for a head; then for the client to go
    _is_sent_away = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        over = len(self.connections) - self.connections_max
        if over > _TURNED_AWAY_MAX:
            transport.abort()
        elif over > 0:
            self._send_away("503 Service Unavailable", "application/json", _TOO_MANY_BODY)
        else:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_sent_away:
            return
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._expect_head()
        elif self.conn.their_state is not h11.ERROR:
            self._cancel_deadline()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._unset_keepalive_if_required()
            self._expect_head()

    def eof_received(self) -> bool:  # type: ignore[override]
        """True: the connection stays open for the answer."""
        if self._is_sent_away:
            return False
        waiting = bool(self.conn.trailing_data[0])  # of a head, or whole requests
        theirs, ours = self.conn.their_state, self.conn.our_state
        if theirs is h11.SEND_BODY or (theirs is h11.IDLE and waiting):
            if ours in (h11.IDLE, h11.SEND_RESPONSE):
                self._refuse("400 Bad Request")
            return False
        if theirs is h11.IDLE or self.cycle.response_complete or self.scheme == "https":
            return False
        if self.cycle.scope["path"].endswith(PATHS_IN_LINE):
            return False
        self.cycle.keep_alive = waiting
        self._deadline = self.loop.call_later(LINGER_SECONDS, self.transport.close)
        return True

    def send_400_response(self, msg: str) -> None:
        error = sys.exc_info()[1]
        hint = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        self._refuse(_REFUSALS.get(hint, "400 Bad Request"))

    def _expect_head(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.head_seconds_max, self._head_is_late)

    def _head_is_late(self) -> None:
        self._deadline = None
        if self.conn.trailing_data[0]:
            self._refuse("408 Request Timeout")
        else:
            self.transport.close()

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, status: str) -> None:
        self._send_away(status, "text/plain; charset=utf-8", status)

    def _send_away(self, status: str, kind: str, body: str) -> None:
        """Answer and close; what still comes is read for a moment, so that no reset overtakes."""
        self._is_sent_away = True
        self._unset_keepalive_if_required()
        self._cancel_deadline()
        self.transport.write(
            f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n"
            f"connection: close\r\n\r\n{body}".encode()
        )
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.scheme == "https":
            self.transport.close()
        else:
            self.transport.write_eof()
            self.flow.resume_reading()
            self._deadline = self.loop.call_later(LINGER_SECONDS, self.transport.close)
