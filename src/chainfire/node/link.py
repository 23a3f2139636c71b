"""One framed connection between members, whoever dialled it.

Rules of this file: bytes in, bodies out. What a body means is its consumer's,
which may change over a connection's life (hello, then frames). Broken bytes
end this connection and nothing else. Writing never blocks: `write` says
whether there was room; a coroutine that may wait uses `drain`.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, cast

from chainfire.node.frames import BadFrame, Splitter

KEEPALIVE_IDLE_SECONDS = 5
READ_AHEAD_BODIES = 8  # a Reader stops reading from the socket beyond

Consumer = Callable[[list[bytes]], None]
Certificate = Mapping[str, Any]  # as ssl.SSLSocket.getpeercert returns it


class Link(asyncio.Protocol):
    """`closed` resolves, with the reason or None, when the connection is over."""

    def __init__(self, consume: Consumer, body_bytes_max: int) -> None:
        self._loop = asyncio.get_running_loop()
        self.consume = consume
        self.closed: asyncio.Future[Exception | None] = self._loop.create_future()
        self.sent_bytes = 0
        self.received_bytes = 0
        self.heard_at = self._loop.time()  # of the last byte that came
        self._splitter = Splitter(body_bytes_max)
        self._transport: asyncio.Transport | None = None
        self._failure: Exception | None = None
        self._may_write = asyncio.Event()
        self._may_write.set()

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def waiting_bytes(self) -> int:
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    @property
    def address(self) -> str:
        return address_of(self._transport)

    @property
    def certificate(self) -> Certificate | None:
        """What the other side has shown, found valid; None without TLS, or when it showed none."""
        found: Certificate | None = None
        if self._transport is not None:
            found = self._transport.get_extra_info("peercert")
        return found

    def allow(self, body_bytes_max: int) -> None:
        """Larger frames than before are taken from now on."""
        self._splitter.body_bytes_max = body_bytes_max

    # ── out ─────────────────────────────────────────────────────────────────

    def write(self, data: bytes, waiting_bytes_max: int | None = None) -> bool:
        """False: the connection is closed, or more would wait than is allowed; nothing was sent."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        if waiting_bytes_max is not None:
            waiting = transport.get_write_buffer_size()
            # Something larger than the bound goes out alone.
            if waiting and waiting + len(data) > waiting_bytes_max:
                return False
        transport.write(data)
        self.sent_bytes += len(data)
        return True

    async def drain(self) -> None:
        """Returns when little waits to be written. Raises ConnectionError when it is over."""
        await self._may_write.wait()
        if not self.is_open:
            raise ConnectionResetError("the connection was closed")

    def close(self) -> None:
        """What was written still leaves."""
        if self._transport is not None:
            self._transport.close()

    def fail(self, reason: Exception) -> None:
        """End it now; who waits for `closed` hears the reason."""
        self._failure = self._failure or reason
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        if self.is_open:
            assert self._transport is not None
            self._transport.pause_reading()

    def resume(self) -> None:
        if self.is_open:
            assert self._transport is not None
            self._transport.resume_reading()

    # ── asyncio calls ───────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's derives from nothing
        self._transport.set_write_buffer_limits(high=1 << 20)
        _keep_alive(transport.get_extra_info("socket"))
        if self._failure is not None:  # before it stood
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self.heard_at = self._loop.time()
        self.received_bytes += len(data)
        try:
            bodies = self._splitter.feed(data)
            if bodies:
                self.consume(bodies)
        except BadFrame as exc:
            self.fail(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self._may_write.set()
        if not self.closed.done():
            self.closed.set_result(self._failure or exc)

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()


class Reader:
    """Bodies of a link one by one, for a coroutine; reading stops while it does not keep up."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._bodies: deque[bytes] = deque()
        self._news = asyncio.Event()
        link.consume = self._take
        link.closed.add_done_callback(lambda _: self._news.set())

    def _take(self, bodies: list[bytes]) -> None:
        self._bodies.extend(bodies)
        self._news.set()
        if len(self._bodies) > READ_AHEAD_BODIES:
            self._link.pause()

    @property
    def has_news(self) -> bool:
        """A body is there already."""
        return bool(self._bodies)

    async def next(self, timeout_seconds: float) -> bytes:
        """The next body. Raises ConnectionError or TimeoutError; BadFrame for broken bytes."""
        async with asyncio.timeout(timeout_seconds):
            while not self._bodies:
                if self._link.closed.done():
                    raise self._link.closed.result() or ConnectionResetError("closed by the peer")
                self._news.clear()
                await self._news.wait()
        body = self._bodies.popleft()
        if not self._bodies:
            self._link.resume()
        return body


def address_of(transport: asyncio.BaseTransport | None) -> str:
    """Where the other side of a connection is."""
    peer = transport.get_extra_info("peername") if transport is not None else None
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "a local socket"


def _keep_alive(sock: socket.socket | None) -> None:
    """An idle connection to a machine that is gone ends by itself, in some ten seconds."""
    if sock is None or sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
