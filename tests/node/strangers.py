"""Who connects to a member's port from another host, and says nothing."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

ELSEWHERE = "127.0.0.9"


@contextmanager
def strangers(port: int, count: int) -> Iterator[list[socket.socket]]:
    """That many, connected while the event loop stands still."""
    with ExitStack() as stack:
        made = []
        for _ in range(count):
            sock = socket.create_connection(("127.0.0.1", port), 0.5, (ELSEWHERE, 0))
            made.append(stack.enter_context(sock))
            sock.setblocking(False)
        yield made


def is_closed(sock: socket.socket) -> bool:
    """By the other side, which has said nothing."""
    try:
        return sock.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
