"""Clients that misbehave: the process stays up, its memory bounded, others are served."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from chainfire.client import connect_sync
from tests import http2, peers
from tests.crash.abuses import (
    FLOODS,
    OPEN,
    header_bombs,
    initial_window,
    more_window,
    narrow_windows,
    opened,
)
from tests.http2 import END_HEADERS, END_STREAM, frame
from tests.servers import Server

MIB = 1 << 20
GROWTH_BYTES_MAX = 350 * MIB  # far below what each of these would take if nothing bounded it


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    pytest.importorskip("chainfire_native")  # the portable door is grpcio's to harden
    path = tmp_path_factory.mktemp("abuse") / "data"
    with Server(peers.need_chainfire(), path, ("--door=native",)) as server:
        yield server


@pytest.fixture(autouse=True)
def is_unharmed(server: Server) -> Iterator[None]:
    """Around each test: others are served during it and after it, and memory is bounded."""
    before = server.memory_bytes()["VmRSS"]
    with connect_sync(server.url, timeout=20.0) as client:
        client.put("before", "1")
        yield
        client.put("after", "1")  # on the connection that stood during the abuse
    with connect_sync(server.url, timeout=20.0) as client:
        client.put("anew", "1")
    assert server.process is not None
    assert server.process.poll() is None
    assert server.memory_bytes()["VmRSS"] - before < GROWTH_BYTES_MAX


@pytest.mark.parametrize("name", FLOODS)
def test_floods_end_their_own_connection(server: Server, name: str) -> None:
    with http2.connect(server.port) as client:
        is_open = http2.send(client, FLOODS[name]())
        assert not is_open or http2.is_closed(client), "the server goes on reading"


def test_header_bombs_are_refused_without_being_unpacked(server: Server) -> None:
    with http2.connect(server.port) as client:
        for piece in header_bombs():
            if not http2.send(client, [piece]):
                break


def test_requests_that_only_announce_their_size_take_no_room(server: Server) -> None:
    announced = b"\0" + (1_500_000).to_bytes(4, "big") + b"x"
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            client = stack.enter_context(http2.connect(server.port))
            http2.send(client, opened(10_000))
            http2.send(
                client,
                (frame(http2.DATA, announced, 2 * n + 1) for n in range(10_000)),
            )


def test_calls_that_never_send_their_message_are_bounded(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            client = stack.enter_context(http2.connect(server.port))
            http2.send(client, opened(60_000))


def test_large_messages_that_are_never_finished_are_bounded(server: Server) -> None:
    begun = b"\0" + (1_500_000).to_bytes(4, "big")
    with http2.connect(server.port) as client:
        client.settimeout(20.0)
        with contextlib.suppress(OSError):
            for n in range(600):  # 600 MB in the end
                stream = 2 * n + 1
                client.sendall(frame(http2.HEADERS, OPEN, stream, END_HEADERS))
                client.sendall(frame(http2.DATA, begun, stream))
                for _ in range(64):
                    client.sendall(frame(http2.DATA, bytes(16_000), stream))


@pytest.mark.parametrize(
    "broken",
    [more_window(0), more_window(2**31 - 1), initial_window(2**31)],
    ids=["by nothing", "beyond all", "begin beyond all"],
)
def test_windows_that_cannot_be_end_their_connection(server: Server, broken: bytes) -> None:
    with http2.connect(server.port) as client:
        assert not http2.send(client, [*opened(10), broken]) or http2.is_closed(client)


def test_answers_wait_for_windows_that_open_byte_by_byte(server: Server) -> None:
    """A window of nothing, and then a byte at a time: none of it holds anybody else up."""
    with connect_sync(server.url, timeout=20.0) as other:
        other.put("wide", "x" * 10_000)
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            client = stack.enter_context(http2.connect(server.port))
            http2.send(client, narrow_windows(b"wide"))


def test_slow_senders_keep_nobody_waiting(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        address = ("127.0.0.1", server.port)
        slow = [stack.enter_context(socket.create_connection(address, 10)) for _ in range(300)]
        for place, client in enumerate(slow):
            if place % 3 == 0:
                client.sendall(b"GET /hea")  # an HTTP/1 head without an end
            elif place % 3 == 1:
                client.sendall(http2.PREFACE[:10])
            else:
                client.sendall(http2.PREFACE + frame(http2.SETTINGS))
                client.sendall(frame(http2.HEADERS, OPEN, 1))  # and no CONTINUATION
        begun = time.monotonic()
        with connect_sync(server.url, timeout=20.0) as other:
            for n in range(50):
                other.put(f"meanwhile{n}", "1")
        assert time.monotonic() - begun < 15


def test_broken_http_1_is_refused(server: Server) -> None:
    for text in (
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 10_000,
        b"POST /v3/kv/put HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n" + b"1" * 5000,
        b"POST /v3/kv/put HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        bytes(range(256)) * 400,
    ):
        with socket.create_connection(("127.0.0.1", server.port), 10) as client:
            http2.send(client, [text])


def test_half_open_calls_end_with_their_connection(server: Server) -> None:
    for _ in range(30):
        with http2.connect(server.port) as client:
            http2_calls = opened(500, flags=END_HEADERS)
            client.sendall(b"".join(http2_calls))
            client.sendall(frame(http2.HEADERS, OPEN, 1001, END_HEADERS | END_STREAM))
