"""The native door's border alone: TLS, the limits of connections, and replies that fit no call."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from typing import Any

import grpc
import pytest

from tests.gateway.doors import rest, status_of
from tests.http2 import GOAWAY, PING, PREFACE, SETTINGS, frame
from tests.pki import Pki
from tests.waiting import until

native = pytest.importorskip("chainfire_native", reason="chainfire-native is not installed")

ENHANCE_YOUR_CALM = 11
HUGE = 32 << 20  # more than sockets take in


class Echo:
    """A bare `Door`: unary calls get peer certificate and body, HTTP requests something huge."""

    def __init__(self, tls: bool, **options: Any) -> None:
        self.door = native.Door([("/t.T/Echo", False)], **options)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.target = f"localhost:{self._listener.getsockname()[1]}"
        self._tls = tls
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> Echo:
        self.door.listen(self._listener.detach(), False, self._tls)
        self._thread.start()
        return self

    def _run(self) -> None:
        certificates: dict[int, bytes] = {}
        while not self._stop.is_set():
            events, _ = self.door.drain(100)
            replies = []
            for id_, what, body, metadata, _timeout in events:
                if what == native.OPENED and metadata:
                    certificates[id_ >> 30] = metadata[0][1]
                elif what == native.HTTP_REQUEST:
                    replies.append((id_, native.HEAD, (200, [])))
                    replies.append((id_, native.MESSAGE, bytes(HUGE)))
                elif what == 0:
                    replies.append((id_, 0, body + certificates.get(id_ >> 30, b"")))
            self.door.send(replies)
            time.sleep(0.001)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self.door.close()


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki")).make_all()


def test_tls_serves_both_protocols_and_hands_the_client_s_certificate_over(pki: Pki) -> None:
    read = pki.read
    echo = Echo(tls=True)
    echo.door.set_tls(read("server.pem"), read("server.key"), read("ca.pem"))
    echo.start()
    try:
        with_client = grpc.ssl_channel_credentials(
            read("ca.pem"), read("client.key"), read("client.pem")
        )
        with grpc.secure_channel(echo.target, with_client) as channel:
            reply = channel.unary_unary("/t.T/Echo")(b"<", timeout=5)
        assert reply == b"<" + ssl.PEM_cert_to_DER_cert(read("client.pem").decode())
        with grpc.secure_channel(
            echo.target, grpc.ssl_channel_credentials(read("ca.pem"))
        ) as channel:
            code, _ = status_of(lambda: channel.unary_unary("/t.T/Echo")(b"", timeout=5))
        assert code is grpc.StatusCode.UNAVAILABLE
    finally:
        echo.close()


@pytest.mark.parametrize("part", ["certificate", "key", "client CA"])
def test_bad_pem_is_refused_by_name(pki: Pki, part: str) -> None:
    read = pki.read
    given = {
        "certificate": read("server.pem"),
        "key": read("server.key"),
        "client CA": read("ca.pem"),
    }
    given[part] = b"-----BEGIN CERTIFICATE-----\nnonsense\n"
    door = native.Door([])
    with pytest.raises(ValueError, match=part):
        door.set_tls(given["certificate"], given["key"], given["client CA"])
    door.close()


def test_a_head_that_does_not_come_whole_is_told_so() -> None:
    echo = Echo(tls=False, handshake_seconds=0.3).start()
    host, port = echo.target.split(":")
    try:
        with socket.create_connection((host, int(port)), 5) as client:
            client.sendall(b"POST /v3/kv/range HTTP/1.1\r\nhost: a\r\ncontent-")
            data = rest(client)
        assert data.startswith(b"HTTP/1.1 408 ")
    finally:
        echo.close()


def test_connections_over_the_limit_and_late_handshakes_are_closed() -> None:
    echo = Echo(tls=False, connections_max=2, handshake_seconds=0.3).start()
    host, port = echo.target.split(":")
    try:
        first, second = (socket.create_connection((host, int(port)), 5) for _ in range(2))
        until(lambda: echo.door.statistics()["connections"] == 2)
        with socket.create_connection((host, int(port)), 5) as third:
            third.sendall(b"POST /v3/kv/range HTTP/1.1\r\nhost: a\r\n\r\n")
            answer = rest(third)
        assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"\r\nconnection: close\r\n" in answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["message"] == "too many connections"
        with socket.create_connection((host, int(port)), 5) as fourth:
            fourth.sendall(PREFACE + frame(SETTINGS) + frame(PING, bytes(8)))
            answer = rest(fourth)
        reason = bytes(4) + ENHANCE_YOUR_CALM.to_bytes(4, "big") + b"too many connections"
        assert answer == frame(SETTINGS) + frame(GOAWAY, reason)
        assert echo.door.statistics()["refused"] == 2
        started = time.monotonic()
        assert (first.recv(1), second.recv(1)) == (b"", b"")  # they never said a word
        assert time.monotonic() - started < 3
        first.close()
        second.close()
    finally:
        echo.close()


def test_who_reads_nothing_of_an_http_1_answer_is_given_up() -> None:
    echo = Echo(tls=False, write_seconds=0.3).start()
    host, port = echo.target.split(":")
    try:
        with socket.create_connection((host, int(port)), 5) as client:
            client.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            assert client.recv(12) == b"HTTP/1.1 200"
            until(lambda: echo.door.statistics()["connections"] == 0)
        until(lambda: echo.door.statistics()["unsent_bytes"] == 0)
    finally:
        echo.close()


def test_a_peer_that_stays_silent_is_pinged_and_then_given_up() -> None:
    echo = Echo(tls=False, keepalive_interval_seconds=0.1, keepalive_timeout_seconds=0.2).start()
    host, port = echo.target.split(":")
    try:
        with socket.create_connection((host, int(port)), 5) as client:
            client.sendall(PREFACE + frame(SETTINGS))
            started = time.monotonic()
            data = rest(client)
            assert time.monotonic() - started < 3
        assert frame(PING)[3:4] + b"\0\0\0\0\0" in data
        with grpc.insecure_channel(echo.target) as channel:  # one that answers pings stays
            call = channel.unary_unary("/t.T/Echo")
            assert call(b"a", timeout=5) == b"a"
            time.sleep(0.5)
            assert call(b"b", timeout=5) == b"b"
        assert echo.door.statistics()["accepted"] == 2
    finally:
        echo.close()


def test_replies_to_calls_that_never_were_go_nowhere() -> None:
    door = native.Door([])
    replies: list[tuple[Any, ...]] = [(id_, 0, b"x") for id_ in (0, 1, 2**30, 2**63)]
    door.send(
        [*replies, (5, 7, "text", [("a", "b")]), (5, native.CREDIT, 5), (5, native.RESET, None)]
    )
    assert door.drain(10) == ([], True)
    door.close()


@pytest.mark.parametrize("reply", [(1, 0), (1, -9, b""), (1, 3, b"bytes"), (-1, 0, b""), (1, 0, 5)])
def test_a_malformed_reply_is_an_error(reply: tuple[Any, ...]) -> None:
    door = native.Door([])
    with pytest.raises((ValueError, TypeError, IndexError, OverflowError)):
        door.send([reply])
    door.close()


def test_an_unknown_option_is_an_error() -> None:
    with pytest.raises(ValueError, match="no such setting: nope"):
        native.Door([], nope=1)
