"""Leases through both doors of gRPC: many keep-alives on one stream, in order."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import grpc
import pytest

from chainfire.proto.lease_pb2 import (
    LeaseGrantRequest,
    LeaseGrantResponse,
    LeaseKeepAliveRequest,
    LeaseKeepAliveResponse,
)
from tests import http2
from tests.gateway.doors import HAS_NATIVE, KINDS, GrpcDoor

LEASE = "/etcdserverpb.Lease/"


@pytest.fixture(params=KINDS)
def door(request: pytest.FixtureRequest) -> Iterator[GrpcDoor]:
    if request.param == "native" and not HAS_NATIVE:
        pytest.skip("the native door is not installed")
    opened = GrpcDoor(kind=request.param)
    try:
        yield opened
    finally:
        opened.close()


def test_one_answer_per_keep_alive_in_order(door: GrpcDoor) -> None:
    grant = LeaseGrantRequest(ID=5, TTL=60)
    body = door.unary(LEASE + "LeaseGrant", grant.SerializeToString())
    assert LeaseGrantResponse.FromString(body).TTL == 60
    ids = [5 if n % 3 else n + 100 for n in range(2000)]
    requests = (LeaseKeepAliveRequest(ID=lease).SerializeToString() for lease in ids)
    replies = door.channel.stream_stream(LEASE + "LeaseKeepAlive")(requests, timeout=30)
    found = [LeaseKeepAliveResponse.FromString(body) for body in replies]
    assert [(reply.ID, reply.TTL) for reply in found] == [
        (lease, 60 if lease == 5 else 0) for lease in ids
    ]


def test_a_stream_that_asks_nothing_ends_in_peace(door: GrpcDoor) -> None:
    stream = door.channel.stream_stream(LEASE + "LeaseKeepAlive")(iter(()), timeout=10)
    assert list(stream) == []


def test_a_keep_alive_that_is_no_message_ends_the_stream_with_its_reason(door: GrpcDoor) -> None:
    requests = iter([LeaseKeepAliveRequest(ID=5).SerializeToString(), b"\xff\xff"])
    stream = door.channel.stream_stream(LEASE + "LeaseKeepAlive")(requests, timeout=10)
    with pytest.raises(grpc.RpcError) as refused:
        list(stream)
    assert refused.value.code() is grpc.StatusCode.INTERNAL
    assert "unmarshalling" in refused.value.details()


def test_what_precedes_a_keep_alive_that_is_no_message_is_answered(door: GrpcDoor) -> None:
    """All of it in one write: heard in one turn."""
    grant = LeaseGrantRequest(ID=5, TTL=60)
    door.unary(LEASE + "LeaseGrant", grant.SerializeToString())
    good = LeaseKeepAliveRequest(ID=5).SerializeToString()
    bodies = [good, good, b"\x08\x81", good]
    with http2.connect(door.port) as client:
        client.sendall(
            http2.frame(http2.HEADERS, http2.call(LEASE + "LeaseKeepAlive"), 1, http2.END_HEADERS)
            + http2.frame(http2.DATA, b"".join(map(http2.message, bodies)), 1)
        )
        told = told_until_the_end(client)
    kept = LeaseKeepAliveResponse(ID=5, TTL=60).SerializeToString()
    assert told.count(kept) == 2


def told_until_the_end(client: socket.socket) -> bytes:
    """The bytes of stream 1, once it has ended."""
    told = b""
    for kind, flags, payload in http2.frames(client):
        if kind == http2.DATA:
            told += payload
        if kind == http2.HEADERS and flags & http2.END_STREAM:
            return told
    raise AssertionError("closed")
