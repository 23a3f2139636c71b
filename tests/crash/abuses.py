"""What clients that misbehave send over HTTP/2, in pieces, as many as the server takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests import http2
from tests.http2 import END_HEADERS, END_STREAM, SETTINGS, WINDOW_UPDATE, frame

OPEN = http2.call("/etcdserverpb.KV/Put")
RANGE = http2.call("/etcdserverpb.KV/Range")
BATCH = 200


def opened(count: int, payload: bytes = OPEN, flags: int = END_HEADERS) -> Iterator[bytes]:
    """HEADERS of so many streams, in pieces."""
    for first in range(0, count, BATCH):
        streams = range(first, min(count, first + BATCH))
        yield b"".join(frame(http2.HEADERS, payload, 2 * n + 1, flags) for n in streams)


def resets(count: int) -> Iterator[bytes]:
    for first in range(0, count, BATCH):
        yield b"".join(
            frame(http2.HEADERS, OPEN, 2 * n + 1, END_HEADERS)
            + frame(http2.RST_STREAM, b"\0\0\0\x08", 2 * n + 1)
            for n in range(first, first + BATCH)
        )


def repeated(piece: bytes, count: int) -> Iterator[bytes]:
    for _ in range(0, count, BATCH):
        yield piece * BATCH


def initial_window(size: int) -> bytes:
    """Of all streams of the connection, those that are open too."""
    return frame(SETTINGS, b"\0\x04" + size.to_bytes(4, "big"))


def more_window(size: int, stream: int = 0) -> bytes:
    return frame(WINDOW_UPDATE, size.to_bytes(4, "big"), stream)


CONTINUATION = frame(http2.CONTINUATION, http2.block((b"x", bytes(1000).replace(b"\0", b"x"))), 1)
# Whoever sends these without end is sent away.
FLOODS: dict[str, Callable[[], Iterator[bytes]]] = {
    "rapid resets": lambda: resets(100_000),
    "pings": lambda: repeated(frame(http2.PING, bytes(8)), 100_000),
    "settings": lambda: repeated(frame(http2.SETTINGS), 100_000),
    "priorities": lambda: repeated(frame(http2.PRIORITY, b"\0\0\0\1\0", 3), 200_000),
    "continuations": lambda: iter(
        [frame(http2.HEADERS, OPEN, 1), *(CONTINUATION for _ in range(100_000))]
    ),
    "empty continuations": lambda: iter(
        [frame(http2.HEADERS, OPEN, 1), *repeated(frame(http2.CONTINUATION, b"", 1), 1_000_000)]
    ),
    "windows that flip": lambda: iter(
        [*opened(100), *repeated(initial_window(0) + initial_window(65_535), 50_000)]
    ),
    "a wrong preface": lambda: iter([b"\xff" * 1000]),
}


def header_bombs() -> Iterator[bytes]:
    """One entry of 4000 bytes, then a thousand times its index: 4 MB out of 5 KB."""
    again = b"\xbe" * 1000
    bomb = OPEN + http2.indexed(b"x", b"y" * 4000) + again
    for n in range(200):
        payload = OPEN + again if n else bomb
        yield frame(http2.HEADERS, payload, 2 * n + 1, END_HEADERS | END_STREAM)


def narrow_windows(key: bytes) -> Iterator[bytes]:
    """A thousand calls for a key whose answers may not come, and then byte by byte."""
    request = b"\x0a" + bytes([len(key)]) + key
    wanted = http2.message(request)
    streams = [2 * n + 1 for n in range(1000)]
    yield initial_window(0)
    yield from opened(len(streams), RANGE)
    yield b"".join(frame(http2.DATA, wanted, at, END_STREAM) for at in streams)
    for _ in range(20):
        yield b"".join(more_window(1, at) for at in streams)
