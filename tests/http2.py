"""HTTP/2 by hand: frames and header blocks, so that tests can send what no client would."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    *(0, 1, 2, 3, 4),
    *(6, 7, 8, 9),
)
END_STREAM, END_HEADERS = 1, 4


def frame(kind: int, payload: bytes = b"", stream: int = 0, flags: int = 0) -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags])
    return head + stream.to_bytes(4, "big") + payload


def block(*pairs: tuple[bytes, bytes]) -> bytes:
    """A header block of literals that are not indexed (RFC 7541 §6.2.2)."""
    return b"".join(b"\0" + _string(name) + _string(value) for name, value in pairs)


def indexed(name: bytes, value: bytes) -> bytes:
    """A literal that enters the dynamic table; `b"\\xbe"` then names the newest entry."""
    return b"\x40" + _string(name) + _string(value)


def _string(text: bytes) -> bytes:
    if len(text) < 127:
        return bytes([len(text)]) + text
    rest, size = len(text) - 127, bytearray([127])
    while rest >= 128:
        size.append(rest % 128 + 128)
        rest //= 128
    size.append(rest)
    return bytes(size) + text


def call(path: str, *more: tuple[bytes, bytes]) -> bytes:
    """The header block of a gRPC call."""
    return block(
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path.encode()),
        (b":authority", b"test"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
        *more,
    )


def message(body: bytes) -> bytes:
    """As gRPC frames it within DATA."""
    return b"\0" + len(body).to_bytes(4, "big") + body


def unary(path: str, body: bytes, stream: int = 1) -> bytes:
    """The frames of a whole unary call."""
    opening = frame(HEADERS, call(path), stream, END_HEADERS)
    return opening + frame(DATA, message(body), stream, END_STREAM)


def connect(port: int) -> socket.socket:
    """A connection that has said hello."""
    client = socket.create_connection(("127.0.0.1", port), 10)
    client.sendall(PREFACE + frame(SETTINGS))
    return client


def send(client: socket.socket, pieces: Iterable[bytes]) -> bool:
    """Send all that the server takes. False: it ended the connection meanwhile."""
    client.settimeout(2.0)
    try:
        for piece in pieces:
            client.sendall(piece)
    except TimeoutError:
        pass  # it does not read on
    except OSError:
        return False
    return True


def frames(client: socket.socket) -> Iterator[tuple[int, int, bytes]]:
    """Kind, flags and payload of each frame that comes, until the server closes."""
    unread = bytearray()
    while piece := client.recv(16384):
        unread += piece
        while len(unread) >= 9 and len(unread) >= (end := 9 + int.from_bytes(unread[:3], "big")):
            kind, flags, payload = unread[3], unread[4], bytes(unread[9:end])
            del unread[:end]
            yield kind, flags, payload


def is_closed(client: socket.socket, seconds: float = 5.0) -> bool:
    """Read until the server ends the connection, or for so long."""
    client.settimeout(seconds)
    try:
        while client.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True
