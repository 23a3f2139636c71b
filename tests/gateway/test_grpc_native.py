"""What only the native door does with calls: flow control, encodings, who reads and writes them."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from chainfire.api.table import METHODS
from chainfire.proto.kv_pb2 import PutRequest, RangeRequest, RangeResponse, RangeStreamResponse
from tests.api.fake_node import Api
from tests.gateway.doors import EVERY_ROW, GrpcDoor, fill, status_of
from tests.waiting import until

native = pytest.importorskip("chainfire_native", reason="chainfire-native is not installed")

PUT, RANGE = "/etcdserverpb.KV/Put", "/etcdserverpb.KV/Range"
RANGE_STREAM = "/etcdserverpb.KV/RangeStream"
REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"


@pytest.fixture(scope="module")
def door() -> Iterator[GrpcDoor]:
    door = GrpcDoor(kind="native")
    yield door
    door.close()


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
        call = door.channel.unary_stream(RANGE_STREAM)(EVERY_ROW, timeout=30, **options)
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
        assert len(channel.unary_unary(RANGE)(EVERY_ROW, timeout=20)) > 20_000_000
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

    until(is_read_so, seconds=30)
    body = RangeRequest(key=b"a").SerializeToString()
    many = [door.channel.unary_unary(RANGE).future(body, timeout=10) for _ in range(100)]
    assert len({call.result() for call in many}) == 1  # and what comes together, too


def test_a_door_that_is_seldom_asked_looks_for_nothing() -> None:
    door = GrpcDoor(kind="native")  # of its own: it remembers how calls came
    try:
        body = RangeRequest(key=b"a").SerializeToString()
        for _ in range(60):
            door.unary(RANGE, body)
            time.sleep(0.002)  # far longer than anybody is waited for
        assert door.server.statistics()["lingers"] == 0
    finally:
        door.close()


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
    until(is_looked_for, seconds=60)


# ── the server ──────────────────────────────────────────────────────────────


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
