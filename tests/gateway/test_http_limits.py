"""What the HTTP door tells connections that are too many, and requests too large or too slow."""

from __future__ import annotations

import json
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from chainfire.gateway import descriptors, http_connection
from chainfire.gateway.http_connection import HttpConnection
from tests.gateway.doors import HttpDoor, rest
from tests.waiting import until


@pytest.fixture(scope="module")
def door() -> Iterator[HttpDoor]:
    door = HttpDoor("http://127.0.0.1:0")
    yield door
    door.close()


def test_connections_over_the_limit_are_told_so(
    door: HttpDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HttpConnection, "connections_max", 1)
    with door.connect() as first:
        first.sendall(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n")
        assert first.recv(4096).startswith(b"HTTP/1.1 200 ")
        with door.connect() as second:
            second.sendall(b"POST /v3/kv/range HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}")
            answer = rest(second)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"connection: close" in head
    assert json.loads(body)["message"] == "too many connections"


def test_a_head_that_does_not_come_whole_is_told_so(
    door: HttpDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HttpConnection, "head_seconds_max", 0.2)
    with door.connect() as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nho")
        assert rest(client).startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    with door.connect() as client:  # the second head of a connection
        client.sendall(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\nGE")
        assert b"HTTP/1.1 408 Request Timeout\r\n" in rest(client)
    with door.connect() as silent:
        assert rest(silent) == b""


@pytest.mark.parametrize("size", [100_000, 3_000_000])
def test_a_head_that_is_too_large_is_told_so(door: HttpDoor, size: int) -> None:
    with door.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\na: " + b"b" * size)
        assert rest(client).startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /v3/kv/range HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n{",
        b"POST /v3/watch HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n9\r\n{",
        b"POST /v3/kv/range HTTP/1.1\r\nho",
        b"nonsense\r\n\r\n",
    ],
)
def test_a_request_that_is_broken_or_cut_off_is_told_so(door: HttpDoor, sent: bytes) -> None:
    with door.connect() as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        assert rest(client).startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_a_transfer_coding_that_is_not_there_is_told_so(door: HttpDoor) -> None:
    with door.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n")
        assert rest(client).startswith(b"HTTP/1.1 501 Not Implemented\r\n")


def test_who_asks_to_close_is_heard_beside_an_upgrade(door: HttpDoor) -> None:
    with door.connect() as client:
        client.sendall(
            b"GET /livez HTTP/1.1\r\nhost: a\r\nconnection: upgrade, close\r\nupgrade: h2c\r\n\r\n"
        )
        assert rest(client).endswith(b"ok\n")


def test_who_closes_only_its_own_side_is_answered(door: HttpDoor) -> None:
    request = b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n"
    with door.connect() as client:
        client.sendall(request * 2)
        client.shutdown(socket.SHUT_WR)
        assert rest(client).count(b"HTTP/1.1 200 OK\r\n") == 2


def test_who_waits_for_a_lock_and_closes_leaves_the_line(
    door: HttpDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it may still read: if it is gone, it would have the lock until its lease ends."""
    monkeypatch.setattr(http_connection, "LINGER_SECONDS", 600)
    for lease in (1, 2):
        assert door.post("/chainfire/v1/lease/grant", f'{{"ID":{lease},"TTL":100}}')[0] == 200
    assert door.post("/chainfire/v1/lock/lock", '{"name":"l","lease":1}')[0] == 200

    def in_line() -> int:
        line = '{"key":"l/","range_end":"l0","count_only":true}'
        return int(json.loads(door.post("/chainfire/v1/kv/range", line)[1])["count"])

    body = b'{"name":"l","lease":2}'
    head = b"POST /chainfire/v1/lock/lock HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n"
    with door.connect() as client:
        client.sendall(head % len(body) + body)
        until(lambda: in_line() == 2)
        client.shutdown(socket.SHUT_WR)
        until(lambda: in_line() == 1)
        assert rest(client) == b""


def test_connections_leave_descriptors_for_the_member_s_own_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for limit, connections in ((1024, 512), (20_000, 18_464), (10**6, 65_536), (-1, 65_536)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limit=limit: (limit, limit))
        assert descriptors.connections_max() == connections


def test_a_member_takes_all_descriptors_that_it_may_have() -> None:
    program = (
        "import resource\n"
        "from chainfire.gateway.descriptors import raise_limit\n"
        "_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))\n"
        "raise_limit()\n"
        "assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
