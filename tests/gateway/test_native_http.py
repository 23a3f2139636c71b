"""HTTP/1 by the native door, on the port of gRPC: bodies, heads, pipelines, who goes too early."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from tests.gateway.doors import GrpcDoor, rest
from tests.waiting import until

pytest.importorskip("chainfire_native", reason="chainfire-native is not installed")

Message = dict[str, Any]


async def echo(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """Answers what it got; /fail raises, /late raises after the head, /wait never answers."""
    if scope["path"] == "/fail":
        raise RuntimeError("as asked")
    if scope["path"] == "/wait":
        await receive()
        try:
            await receive()
        finally:
            waited.set()
    await send({"type": "http.response.start", "status": 201, "headers": [(b"x-a", b"b")]})
    if scope["path"] == "/late":
        raise RuntimeError("as asked")
    more = True
    while more:
        message = await receive()
        more = message["more_body"]
        body = message["body"]
        await send({"type": "http.response.body", "body": body, "more_body": more})


waited = threading.Event()


@pytest.fixture(scope="module")
def door() -> Iterator[GrpcDoor]:
    door = GrpcDoor(kind="native", application=lambda: echo)
    yield door
    door.close()


def request(
    door: GrpcDoor, method: str, path: str, body: Any = None
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(door.target, timeout=5)
    with contextlib.closing(connection):
        connection.request(method, path, body)
        with connection.getresponse() as answer:
            return answer.status, dict(answer.getheaders()), answer.read()


@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
def test_http_bodies_pass_both_ways_whole(door: GrpcDoor, size: int) -> None:
    body = os.urandom(size)
    status, headers, answer = request(door, "POST", "/x?y=1", body)
    assert (status, headers["x-a"], answer == body) == (201, "b", True)
    chunked = (body[n : n + 999] for n in range(0, size, 999))
    assert request(door, "POST", "/", chunked)[2] == body


def test_one_connection_carries_many_requests(door: GrpcDoor) -> None:
    connection = http.client.HTTPConnection(door.target, timeout=5)
    for n in range(50):
        connection.request("POST", "/", b"%d" % n)
        assert connection.getresponse().read() == b"%d" % n
    connection.close()


def test_pipelined_requests_are_answered_in_order(door: GrpcDoor) -> None:
    with door.connect() as client:
        for n in range(10):
            client.sendall(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\n%d" % n)
        client.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        data = rest(client)
    bodies = re.findall(rb"\r\n\r\n1\r\n(.)\r\n", data)
    assert bodies == [b"%d" % n for n in range(10)]


@pytest.mark.parametrize(
    "head",
    [
        b"nonsense\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 2000 + b"\r\n",
        b"GET / HTTP/1.1\r\na: " + b"b" * 3_000_000 + b"\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",  # no host
        b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    ],
)
def test_heads_that_cannot_be_trusted_are_refused(door: GrpcDoor, head: bytes) -> None:
    with door.connect() as client:
        client.sendall(head)
        answer = rest(client)
    assert answer[9:12] in (b"400", b"431", b"505")
    assert answer.endswith(b"\r\n\r\n" + answer.partition(b"\r\n")[0][9:])


@pytest.mark.parametrize("lines", [b"a: b\r\n" * 900, b"a: " + b"b" * 1_000_000 + b"\r\n"])
def test_heads_may_be_as_large_as_etcd_takes_them(door: GrpcDoor, lines: bytes) -> None:
    head = b"GET / HTTP/1.1\r\nhost: a\r\n" + lines + b"\r\n"
    with door.connect() as client:
        for _ in range(2):
            client.sendall(head)
            answer = b""
            while not answer.endswith(b"0\r\n\r\n"):
                answer += client.recv(4096)
            assert answer.startswith(b"HTTP/1.1 201 ")


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /wait HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf",
        b"POST /wait HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhalf",
        b"POST /wait HTTP/1.1\r\nho",
    ],
)
def test_a_request_that_ends_too_early_is_told_so(door: GrpcDoor, sent: bytes) -> None:
    with door.connect() as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        answer = rest(client)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert answer.endswith(b"\r\n\r\n400 Bad Request")


def test_broken_chunks_are_refused_in_an_answer(door: GrpcDoor) -> None:
    with door.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n")
        data = rest(client)
    assert data.startswith(b"HTTP/1.1 400 ")


def test_who_closes_only_its_own_side_is_answered(door: GrpcDoor) -> None:
    request_ = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\n%d"
    with door.connect() as client:
        client.sendall(request_ % 1 + request_ % 2)
        client.shutdown(socket.SHUT_WR)
        data = rest(client)
    assert re.findall(rb"\r\n\r\n1\r\n(.)\r\n", data) == [b"1", b"2"]


def test_an_application_s_mistake_is_500_and_later_breaks_the_answer_off(door: GrpcDoor) -> None:
    assert request(door, "GET", "/fail")[0] == 500
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        request(door, "GET", "/late")


def test_a_client_that_goes_cancels_its_request(door: GrpcDoor) -> None:
    waited.clear()
    with door.connect() as client:
        client.sendall(b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n")
        until(lambda: door.server.streams)
    assert waited.wait(5)
