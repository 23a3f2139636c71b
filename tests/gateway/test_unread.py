"""Long answers wait while clients do not read those before them, by every door and as JSON too."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from chainfire.gateway import unread
from chainfire.proto.kv_pb2 import PutRequest, RangeRequest, RangeResponse
from tests import http2
from tests.api.fake_node import Api
from tests.gateway.doors import GrpcDoor, HttpDoor
from tests.waiting import until

RANGE = "/etcdserverpb.KV/Range"
KEYS, VALUE = 24, bytes(1 << 20)  # more than sockets take in, and than is made at once
ALL = RangeRequest(key=b"a", range_end=b"b")
JSON_ALL = b'{"key":"YQ==","range_end":"Yg=="}'


def fill(api: Api) -> None:
    for number in range(KEYS):
        api.do("KV.Put", PutRequest(key=b"a%02d" % number, value=VALUE))


@contextmanager
def in_background(work: Any) -> Iterator[threading.Event]:
    """Set once the work has ended."""
    ended = threading.Event()

    def run() -> None:
        work()
        ended.set()

    thread = threading.Thread(target=run)
    thread.start()
    yield ended
    thread.join(30)
    assert ended.is_set()


def test_the_portable_door_makes_no_long_answer_while_others_are_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unread, "UNREAD_BYTES_MAX", KEYS << 19)
    door = GrpcDoor()
    try:
        door.thread.call(lambda: fill(door.api))
        client = http2.connect(door.port)
        body = ALL.SerializeToString()
        client.sendall(http2.unary(RANGE, body))
        until(lambda: door.server._unread.bytes > KEYS << 20)
        options = (("grpc.max_receive_message_length", -1),)
        with grpc.insecure_channel(door.target, options) as channel:
            ask = lambda: channel.unary_unary(RANGE)(body, timeout=30)  # noqa: E731
            with in_background(ask) as answered:
                until(lambda: door.api.services.long_replies.waiting == 1)
                small = RangeRequest(key=b"a00", keys_only=True).SerializeToString()
                assert RangeResponse.FromString(door.unary(RANGE, small)).count == 1
                assert not answered.is_set()
                client.close()
        until(lambda: door.server._unread.bytes == 0)
    finally:
        door.close()


@pytest.mark.parametrize("kind", ["uvicorn", "native", "direct"])
def test_json_makes_no_long_answer_while_others_are_not_read(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind != "uvicorn":
        pytest.importorskip("chainfire_native")
    monkeypatch.setattr(unread, "UNREAD_BYTES_MAX", KEYS << 19)
    door = HttpDoor(kind=kind)
    try:
        door.thread.call(lambda: fill(door.api))
        if kind == "direct":
            monkeypatch.setattr(door.server, "has_room", lambda _: unsent() < KEYS << 19)

        def unsent() -> int:
            if kind == "direct":
                return int(door.server.statistics()["unsent_bytes"])
            return door.app._unread.bytes

        head = b"POST /v3/kv/range HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n"
        client = socket.create_connection(("127.0.0.1", door.port), 5)
        client.sendall(head % len(JSON_ALL) + JSON_ALL)
        until(lambda: unsent() > KEYS << 20)
        ask = lambda: door.post("/v3/kv/range", JSON_ALL.decode())  # noqa: E731
        with in_background(ask) as answered:
            until(lambda: door.api.services.long_replies.waiting == 1)
            small = '{"key":"YTAw","keys_only":true}'
            assert door.post("/v3/kv/range", small)[0] == 200
            assert not answered.is_set()
            client.close()
        until(lambda: unsent() == 0)
    finally:
        door.close()
