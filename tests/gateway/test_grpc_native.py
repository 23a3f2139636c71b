"""What only the native door does: HTTP on the same port, flow control, limits, TLS."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import grpc
import pytest

from chainfire.api.table import METHODS
from chainfire.proto.kv_pb2 import PutRequest, RangeRequest, RangeResponse, RangeStreamResponse
from tests.api.fake_node import Api
from tests.gateway.doors import GrpcDoor, status_of
from tests.pki import Pki

native = pytest.importorskip("chainfire_native", reason="chainfire-native is not installed")

PUT, RANGE = "/etcdserverpb.KV/Put", "/etcdserverpb.KV/Range"
RANGE_STREAM = "/etcdserverpb.KV/RangeStream"
REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
GOAWAY, PING, SETTINGS = 7, 6, 4
ENHANCE_YOUR_CALM = 11

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


def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.002)


def fill(door: GrpcDoor, rows: int, row_bytes: int) -> None:
    for n in range(rows):
        door.unary(PUT, PutRequest(key=b"row%04d" % n, value=bytes(row_bytes)).SerializeToString())


ALL = RangeRequest(key=b"row", range_end=b"rox").SerializeToString()


# ── HTTP on the same port ───────────────────────────────────────────────────


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
    with socket.create_connection(("127.0.0.1", door.server.ports[0]), 5) as client:
        for n in range(10):
            client.sendall(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\n%d" % n)
        client.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        data = b"".join(iter(lambda: client.recv(65536), b""))
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
    with socket.create_connection(("127.0.0.1", door.server.ports[0]), 5) as client:
        client.sendall(head)
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer[9:12] in (b"400", b"431", b"505")
    assert answer.endswith(b"\r\n\r\n" + answer.partition(b"\r\n")[0][9:])


@pytest.mark.parametrize("lines", [b"a: b\r\n" * 900, b"a: " + b"b" * 1_000_000 + b"\r\n"])
def test_heads_may_be_as_large_as_etcd_takes_them(door: GrpcDoor, lines: bytes) -> None:
    head = b"GET / HTTP/1.1\r\nhost: a\r\n" + lines + b"\r\n"
    with socket.create_connection(("127.0.0.1", door.server.ports[0]), 5) as client:
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
    with socket.create_connection(("127.0.0.1", door.server.ports[0]), 5) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert answer.endswith(b"\r\n\r\n400 Bad Request")


def test_broken_chunks_are_refused_in_an_answer(door: GrpcDoor) -> None:
    with socket.create_connection(("127.0.0.1", door.server.ports[0]), 5) as client:
        client.sendall(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n")
        data = b"".join(iter(lambda: client.recv(4096), b""))
    assert data.startswith(b"HTTP/1.1 400 ")


def test_who_closes_only_its_own_side_is_answered(door: GrpcDoor) -> None:
    request_ = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\n%d"
    with socket.create_connection(("127.0.0.1", door.server.ports[0]), 5) as client:
        client.sendall(request_ % 1 + request_ % 2)
        client.shutdown(socket.SHUT_WR)
        data = b"".join(iter(lambda: client.recv(4096), b""))
    assert re.findall(rb"\r\n\r\n1\r\n(.)\r\n", data) == [b"1", b"2"]


def test_an_application_s_mistake_is_500_and_later_breaks_the_answer_off(door: GrpcDoor) -> None:
    assert request(door, "GET", "/fail")[0] == 500
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        request(door, "GET", "/late")


def test_a_client_that_goes_cancels_its_request(door: GrpcDoor) -> None:
    waited.clear()
    with socket.create_connection(("127.0.0.1", door.server.ports[0]), 5) as client:
        client.sendall(b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n")
        until(lambda: door.server.streams)
    assert waited.wait(5)


# ── streams ─────────────────────────────────────────────────────────────────


def test_a_bidirectional_stream_answers_each_message_and_ends_with_the_client(
    door: GrpcDoor,
) -> None:
    list_services = b"\x3a\x00"
    go_on = threading.Event()

    def requests() -> Iterator[bytes]:
        for _ in range(500):
            yield list_services
        go_on.wait(5)

    call = door.channel.stream_stream(REFLECTION)(requests(), timeout=20)
    answers = [next(call) for _ in range(500)]
    go_on.set()
    assert len(set(answers)) == 1
    assert list(call) == []
    assert call.code() is grpc.StatusCode.OK


def test_a_cancelled_stream_ends_its_handler(door: GrpcDoor) -> None:
    counters = door.api.services.counters.methods["/grpc.health.v1.Health/Watch"]
    before = counters.handled[1]
    call = door.channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
    next(call)
    call.cancel()
    until(lambda: counters.handled[1] == before + 1)
    assert not door.server.streams


def test_a_stream_past_its_deadline_ends_its_handler(door: GrpcDoor) -> None:
    call = door.channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=0.1)
    assert status_of(lambda: call)[0] is grpc.StatusCode.DEADLINE_EXCEEDED
    until(lambda: not door.server.streams)


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip])
def test_a_reader_that_stops_stops_the_handler_until_it_reads(compression: Any) -> None:
    door = GrpcDoor(kind="native")
    try:
        fill(door, 60, 300_000)
        options = {"compression": compression} if compression else {}
        call = door.channel.unary_stream(RANGE_STREAM)(ALL, timeout=30, **options)
        sizes = [len(next(call))]
        if compression is None:  # packed, it all fits into one window
            until(lambda: any(s._credit <= 0 for s in list(door.server.streams.values())))
            time.sleep(0.05)
            (stream,) = door.server.streams.values()
            assert stream._credit > -10_000_000
        chunks = [RangeStreamResponse.FromString(chunk) for chunk in call]
        rows = sum(len(chunk.range_response.kvs) for chunk in chunks)
        assert sizes[0] > 0
        assert 50 <= rows < 60
    finally:
        door.close()


# ── encodings ───────────────────────────────────────────────────────────────


def test_gzip_is_taken_and_given(door: GrpcDoor) -> None:
    value = b"abc" * 100_000
    with grpc.insecure_channel(door.target, compression=grpc.Compression.Gzip) as channel:
        channel.unary_unary(PUT)(PutRequest(key=b"zip", value=value).SerializeToString())
        reply = channel.unary_unary(RANGE)(RangeRequest(key=b"zip").SerializeToString())
    assert RangeResponse.FromString(reply).kvs[0].value == value


def test_an_unknown_encoding_is_unimplemented(door: GrpcDoor) -> None:
    with grpc.insecure_channel(door.target, compression=grpc.Compression.Deflate) as channel:
        call = lambda: channel.unary_unary(RANGE)(b"\x0a\x01a" + bytes(0), timeout=5)  # noqa: E731
        assert status_of(call)[0] is grpc.StatusCode.UNIMPLEMENTED


def test_large_answers_are_not_copied_and_are_given_back(door: GrpcDoor) -> None:
    fill(door, 20, 1_000_000)
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(door.target, options=options) as channel:
        assert len(channel.unary_unary(RANGE)(ALL, timeout=20)) > 20_000_000
    until(lambda: door.server.statistics()["unsent_bytes"] == 0)


def test_few_answers_are_written_by_the_thread_that_made_them(door: GrpcDoor) -> None:
    before = door.server.statistics()["direct"]
    for _ in range(50):
        door.unary(RANGE, RangeRequest(key=b"a").SerializeToString())
    assert door.server.statistics()["direct"] > before + 25


def test_calls_that_come_alone_are_read_by_pythons_own_thread(door: GrpcDoor) -> None:
    before = door.server.statistics()["near"]

    def is_read_so() -> bool:
        door.unary(RANGE, RangeRequest(key=b"a").SerializeToString())
        return door.server.statistics()["near"] > before

    until(is_read_so, 30)
    body = RangeRequest(key=b"a").SerializeToString()
    many = [door.channel.unary_unary(RANGE).future(body, timeout=10) for _ in range(100)]
    assert len({call.result() for call in many}) == 1  # and what comes together, too


def test_a_door_that_is_seldom_asked_looks_for_nothing(door: GrpcDoor) -> None:
    body = RangeRequest(key=b"a").SerializeToString()
    for _ in range(60):
        door.unary(RANGE, body)
        time.sleep(0.002)  # far longer than anybody is waited for
    assert door.server.statistics()["lingers"] == 0


def test_calls_that_follow_at_once_are_looked_for_and_all_answered(door: GrpcDoor) -> None:
    fill(door, 1, 100)
    get = native.LoadOperation(RANGE, RangeRequest(key=b"row0000").SerializeToString(), expects=2)

    def is_looked_for() -> bool:
        load = native.Load(
            [native.LoadTarget(door.target, door.target)],
            [get],
            connections=1,
            in_flight=1,
            keys=1,
            key_digits=1,
            total=1000,
        )
        outcome = load.outcome()
        assert not outcome.failures and outcome.operations[0].empty == 0
        return door.server.statistics()["lingers"] > 0

    # Only where the machine lets two threads run side by side for a while.
    until(is_looked_for, 60)


# ── limits ──────────────────────────────────────────────────────────────────


def frame(kind: int, payload: bytes = b"", stream: int = 0, flags: int = 0) -> bytes:
    return (
        struct.pack(">I", len(payload))[1:]
        + bytes([kind, flags])
        + struct.pack(">I", stream)
        + payload
    )


def goaway(client: socket.socket) -> tuple[int, bytes] | None:
    """Error code and debug data of the GOAWAY that ends the connection, if one comes."""
    data = b""
    try:
        while piece := client.recv(65536):
            data += piece
    except ConnectionResetError:
        pass
    while len(data) >= 9:
        length = int.from_bytes(data[:3], "big")
        payload = data[9 : 9 + length]
        if data[3] == GOAWAY:
            return int.from_bytes(payload[4:8], "big"), payload[8:]
        data = data[9 + length :]
    return None


@pytest.mark.parametrize(
    ("flood", "text"),
    [
        (frame(PING, bytes(8)) * 20, b"too_many_pings"),
        (frame(SETTINGS) * 1500, b"too_many_control_frames"),
    ],
)
def test_floods_are_sent_away_with_the_reason(door: GrpcDoor, flood: bytes, text: bytes) -> None:
    with socket.create_connection(("127.0.0.1", door.server.ports[0]), 5) as client:
        client.sendall(PREFACE + frame(SETTINGS) + flood)
        assert goaway(client) == (ENHANCE_YOUR_CALM, text)


def test_who_is_sent_away_may_send_on_until_it_has_read_the_reason(door: GrpcDoor) -> None:
    """A socket that is closed at once answers by a reset, which takes back what is on its way."""
    with socket.create_connection(("127.0.0.1", door.server.ports[0]), 5) as client:
        client.sendall(PREFACE + frame(SETTINGS) + frame(PING, bytes(8)) * 20)
        assert goaway(client) == (ENHANCE_YOUR_CALM, b"too_many_pings")
        for _ in range(3):
            client.sendall(frame(PING, bytes(8)))


def test_a_client_may_measure_the_line_with_pings_while_an_answer_comes_in(door: GrpcDoor) -> None:
    """As grpc's own do, once per round trip: a minute of it is no reason to break it off."""
    fill(door, 20, 1_000_000)
    size, may_ping = 0, True
    with socket.create_connection(("127.0.0.1", door.server.ports[0]), 5) as client:
        client.sendall(PREFACE + frame(SETTINGS) + call_frames(RANGE, ALL, 1))
        while size < 20_000_000:
            head = receive(client, 9)
            body = receive(client, int.from_bytes(head[:3], "big"))
            assert head[3] != GOAWAY, body[8:]
            may_ping |= head[3] == PING
            if head[3] == 0:
                size += len(body)
                more = struct.pack(">I", len(body))
                client.sendall(frame(8, more) + frame(8, more, stream=1))
                if may_ping:
                    client.sendall(frame(PING, bytes(8)))
                    may_ping = False


def receive(client: socket.socket, length: int) -> bytes:
    """Exactly so many bytes."""
    data = bytearray()
    while len(data) < length:
        piece = client.recv(length - len(data))
        assert piece, "closed"
        data += piece
    return bytes(data)


def call_frames(path: str, body: bytes, stream: int) -> bytes:
    """A unary call as frames, its headers as literals."""
    headers = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "a"}
    headers |= {"content-type": "application/grpc", "te": "trailers"}
    block = b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in headers.items()
    )
    message = b"\0" + struct.pack(">I", len(body)) + body
    return frame(1, block, stream, flags=4) + frame(0, message, stream, flags=1)


def test_a_client_that_does_not_read_its_answers_is_held_up_and_no_other(door: GrpcDoor) -> None:
    fill(door, 20, 1_000_000)
    started = door.api.services.counters.methods[RANGE]
    unsent = lambda: door.server.statistics()["unsent_bytes"]  # noqa: E731
    with socket.create_connection(("127.0.0.1", door.server.ports[0]), 5) as client:
        client.sendall(PREFACE + frame(SETTINGS))
        for stream in (1, 3, 5, 7):
            client.sendall(call_frames(RANGE, ALL, stream))
        until(lambda: unsent() > 64 << 20)
        before = started.started
        client.sendall(b"".join(call_frames(RANGE, ALL, stream) for stream in range(9, 49, 2)))
        for n in range(20):
            door.unary(RANGE, RangeRequest(key=b"%d" % n).SerializeToString(), timeout=5)
        assert started.started == before + 20
    until(lambda: unsent() == 0)


def test_broken_http2_ends_only_its_own_connection(door: GrpcDoor) -> None:
    for garbage in (b"\xff" * 100, frame(0, b"x", 1), frame(1, b"\xff" * 50, 1), frame(9)):
        with socket.create_connection(("127.0.0.1", door.server.ports[0]), 5) as client:
            client.sendall(PREFACE + frame(SETTINGS) + garbage)
            assert goaway(client) is not None
    door.unary(RANGE, RangeRequest(key=b"a").SerializeToString())


# ── the border alone: TLS, ids, options ─────────────────────────────────────


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
            data = b"".join(iter(lambda: client.recv(4096), b""))
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
            answer = b"".join(iter(lambda: third.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"\r\nconnection: close\r\n" in answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["message"] == "too many connections"
        with socket.create_connection((host, int(port)), 5) as fourth:
            fourth.sendall(PREFACE + frame(SETTINGS) + frame(PING, bytes(8)))
            answer = b"".join(iter(lambda: fourth.recv(4096), b""))
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
            data = b"".join(iter(lambda: client.recv(65536), b""))
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


def test_the_door_was_made_with_the_whole_table(door: GrpcDoor) -> None:
    assert [served.path for served in door.server._served] == list(METHODS)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_ipv6_is_served_and_the_wildcard_takes_both() -> None:
    door = GrpcDoor(Api(), "http://[::]:0", kind="native")
    try:
        for host in ("127.0.0.1", "[::1]"):
            with grpc.insecure_channel(f"{host}:{door.server.ports[0]}") as channel:
                channel.unary_unary(RANGE)(RangeRequest(key=b"a").SerializeToString(), timeout=5)
    finally:
        door.close()


def test_close_is_idempotent_and_a_door_that_never_started_closes() -> None:
    door = GrpcDoor(Api(), kind="native")
    door.close()
    asyncio.run(_unstarted())


async def _unstarted() -> None:
    from chainfire.gateway.grpc_native import NativeServer

    await NativeServer(Api().services, ["http://127.0.0.1:0"]).aclose()
