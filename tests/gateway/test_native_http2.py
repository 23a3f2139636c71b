"""HTTP/2 by the native door, frame by frame: floods, pings, broken frames, answers not read."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from chainfire.proto.kv_pb2 import RangeRequest
from tests import http2
from tests.gateway.doors import EVERY_ROW, GrpcDoor, fill
from tests.http2 import CONTINUATION, DATA, GOAWAY, HEADERS, PING, SETTINGS, WINDOW_UPDATE, frame
from tests.waiting import until

pytest.importorskip("chainfire_native", reason="chainfire-native is not installed")

RANGE = "/etcdserverpb.KV/Range"
ENHANCE_YOUR_CALM = 11


@pytest.fixture(scope="module")
def door() -> Iterator[GrpcDoor]:
    door = GrpcDoor(kind="native")
    yield door
    door.close()


def goaway(client: socket.socket) -> tuple[int, bytes] | None:
    """Error code and debug data of the GOAWAY that ends the connection, if one comes."""
    found = None
    with suppress(ConnectionResetError):
        for kind, _, payload in http2.frames(client):
            if kind == GOAWAY and found is None:
                found = int.from_bytes(payload[4:8], "big"), payload[8:]
    return found


@pytest.mark.parametrize(
    ("flood", "text"),
    [
        (frame(PING, bytes(8)) * 20, b"too_many_pings"),
        (frame(SETTINGS) * 1500, b"too_many_control_frames"),
    ],
)
def test_floods_are_sent_away_with_the_reason(door: GrpcDoor, flood: bytes, text: bytes) -> None:
    with http2.connect(door.port) as client:
        client.sendall(flood)
        assert goaway(client) == (ENHANCE_YOUR_CALM, text)


def test_who_is_sent_away_may_send_on_until_it_has_read_the_reason(door: GrpcDoor) -> None:
    """A socket that is closed at once answers by a reset, which takes back what is on its way."""
    with http2.connect(door.port) as client:
        client.sendall(frame(PING, bytes(8)) * 20)
        assert goaway(client) == (ENHANCE_YOUR_CALM, b"too_many_pings")
        for _ in range(3):
            client.sendall(frame(PING, bytes(8)))


def test_a_client_may_measure_the_line_with_pings_while_an_answer_comes_in(door: GrpcDoor) -> None:
    """As grpc's own do, once per round trip: a minute of it is no reason to break it off."""
    fill(door, 20, 1_000_000)
    size, may_ping = 0, True
    with http2.connect(door.port) as client:
        client.sendall(http2.unary(RANGE, EVERY_ROW))
        for kind, _, payload in http2.frames(client):
            assert kind != GOAWAY, payload[8:]
            may_ping |= kind == PING
            if kind == DATA:
                size += len(payload)
                if size >= 20_000_000:
                    break
                more = len(payload).to_bytes(4, "big")
                client.sendall(frame(WINDOW_UPDATE, more) + frame(WINDOW_UPDATE, more, stream=1))
                if may_ping:
                    client.sendall(frame(PING, bytes(8)))
                    may_ping = False
    assert size >= 20_000_000


def test_a_client_that_does_not_read_its_answers_is_held_up_and_no_other(door: GrpcDoor) -> None:
    fill(door, 20, 1_000_000)
    started = door.api.services.counters.methods[RANGE]
    unsent = lambda: door.server.statistics()["unsent_bytes"]  # noqa: E731
    with http2.connect(door.port) as client:
        for stream in (1, 3, 5, 7):
            client.sendall(http2.unary(RANGE, EVERY_ROW, stream))
        until(lambda: unsent() > 64 << 20)
        before = started.started
        client.sendall(
            b"".join(http2.unary(RANGE, EVERY_ROW, stream) for stream in range(9, 49, 2))
        )
        for n in range(20):
            door.unary(RANGE, RangeRequest(key=b"%d" % n).SerializeToString(), timeout=5)
        assert started.started == before + 20
    until(lambda: unsent() == 0)


def test_broken_http2_ends_only_its_own_connection(door: GrpcDoor) -> None:
    for garbage in (
        b"\xff" * 100,
        frame(DATA, b"x", 1),
        frame(HEADERS, b"\xff" * 50, 1),
        frame(CONTINUATION),
    ):
        with http2.connect(door.port) as client:
            client.sendall(garbage)
            assert goaway(client) is not None
    door.unary(RANGE, RangeRequest(key=b"a").SerializeToString())
