"""The door for members that speak TLS: handshakes first, bounded in time and in number.

    knock ──► handshake ──► link, as one that came without TLS
                └── 5 s, noise, too many others ──► closed

The event loop's own TLS servers bound the time only, and give nobody a hand on a connection whose
handshake is half done. So the loop accepts as without TLS; before a byte is read the connection
goes over to a task, which can be cancelled.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from chainfire.node.crowd import gives_way, host_of
from chainfire.node.link import Link, address_of

HANDSHAKE_SECONDS_MAX: Final = 5.0
HANDSHAKES_MAX: Final = 64  # half done; then one gives way (`node.crowd`)

TurnedAway = Callable[[str, str], None]  # from where, and why


class TlsDoor:
    """`knock` is a protocol factory for servers that accept plain connections."""

    def __init__(
        self, context: ssl.SSLContext, make: Callable[[str], Link], turned_away: TurnedAway
    ) -> None:
        """`make` is asked for a link for each connection, and told where it comes from."""
        self._context = context
        self._make = make
        self._turned_away = turned_away
        self._loop = asyncio.get_running_loop()
        self._half_done: dict[asyncio.Task[None], str] = {}  # from which host; oldest first
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def knock(self) -> asyncio.Protocol:
        return _Knock(self._begin)

    async def aclose(self) -> None:
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, sock: socket.socket, address: str) -> None:
        if self._is_closed:  # accepted a moment before the port was
            sock.close()
            return
        if len(self._half_done) >= HANDSHAKES_MAX:
            given_up = list(self._half_done)[gives_way(list(self._half_done.values()))]
            del self._half_done[given_up]
            given_up.cancel()
        task = self._loop.create_task(self._shake_hands(sock, address))
        self._half_done[task] = host_of(address)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._half_done.pop(task, None)

    async def _shake_hands(self, sock: socket.socket, address: str) -> None:
        link = self._make(address)
        try:
            await self._loop.connect_accepted_socket(
                lambda: link,
                sock,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE_SECONDS_MAX,
            )
        except OSError as exc:  # an SSLError, a time-out and a reset are all of this kind
            link.connection_lost(exc)
            self._turned_away(address, f"TLS: {exc}")
        except asyncio.CancelledError:
            link.connection_lost(None)
            with suppress(OSError):  # the loop closes it, sooner or later
                sock.shutdown(socket.SHUT_RDWR)
            raise


class _Knock(asyncio.Protocol):
    """Of a connection about which nothing is known yet: takes it from the loop."""

    def __init__(self, begin: Callable[[socket.socket, str], None]) -> None:
        self._begin = begin

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Another descriptor of the same connection: that the loop closes its own ends nothing.
        sock = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        sock.setblocking(False)
        address = address_of(transport)
        transport.abort()  # type: ignore[attr-defined]  # uvloop's transports derive from nothing
        self._begin(sock, address)
