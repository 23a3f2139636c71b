"""Streams of clients that require a leader end once there has been none for a while."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator

import grpc
import pytest

from chainfire.api.services import Limits
from chainfire.proto.election_pb2 import LeaderRequest
from chainfire.proto.kv_pb2 import PutRequest
from chainfire.proto.lease_pb2 import LeaseGrantRequest, LeaseKeepAliveRequest
from chainfire.proto.watch_pb2 import WatchRequest
from tests.api.fake_node import Api
from tests.gateway.doors import GrpcDoor, status_of

REQUIRES_LEADER = (("hasleader", "true"),)
NO_LEADER = (grpc.StatusCode.UNAVAILABLE, "etcdserver: no leader")

# A first message for each kind of stream, which is answered at once.
STREAMS = {
    "/etcdserverpb.Watch/Watch": WatchRequest(create_request={"key": b"k"}),
    "/etcdserverpb.Lease/LeaseKeepAlive": LeaseKeepAliveRequest(ID=7),
    "/v3electionpb.Election/Observe": LeaderRequest(name=b"e"),
}


@pytest.fixture
def opened(kind: str) -> Iterator[Callable[[float], GrpcDoor]]:
    """A door of a member that lets streams go on so long without a leader."""
    doors: list[GrpcDoor] = []

    def make(seconds: float) -> GrpcDoor:
        api = Api()
        api.services.__init__(api.node, Limits(leaderless_seconds=seconds))  # type: ignore[misc]
        door = GrpcDoor(api, kind=kind)
        doors.append(door)
        door.unary("/etcdserverpb.Lease/LeaseGrant", LeaseGrantRequest(ID=7).SerializeToString())
        put = PutRequest(key=b"e/1", value=b"v")
        door.unary("/etcdserverpb.KV/Put", put.SerializeToString())
        return door

    yield make
    for door in doors:
        door.close()


def open_stream(door: GrpcDoor, path: str, metadata: tuple[tuple[str, str], ...]) -> grpc.Call:
    """It has been answered once."""
    requests: queue.Queue[bytes | None] = queue.Queue()
    requests.put(STREAMS[path].SerializeToString())
    if path.endswith("Observe"):
        requests.put(None)
    call = door.channel.stream_stream(path)(iter(requests.get, None), timeout=20, metadata=metadata)
    next(call)
    return call


@pytest.mark.parametrize("path", STREAMS)
def test_only_streams_that_require_a_leader_end_without_one(
    opened: Callable[[float], GrpcDoor], path: str
) -> None:
    door = opened(0.05)
    requiring, other = (open_stream(door, path, wish) for wish in (REQUIRES_LEADER, ()))
    door.thread.call(lambda: setattr(door.api.node, "leader_id", 0))
    assert status_of(lambda: requiring) == NO_LEADER
    assert other.is_active()
    first = iter((STREAMS[path].SerializeToString(),))
    late = door.channel.stream_stream(path)(first, timeout=10, metadata=REQUIRES_LEADER)
    assert status_of(lambda: late) == NO_LEADER
    other.cancel()


@pytest.mark.parametrize("path", STREAMS)
def test_a_leader_that_is_back_in_time_ends_nothing(
    opened: Callable[[float], GrpcDoor], path: str
) -> None:
    door = opened(60)
    streaming = open_stream(door, path, REQUIRES_LEADER)
    leader = door.api.node.leader_id
    leaderless = door.api.services.leaderless

    def blink() -> None:
        door.api.node.leader_id = 0
        leaderless._look_for_leader()
        door.api.node.leader_id = leader
        leaderless._look_for_leader()

    door.thread.call(blink)
    assert streaming.is_active()
    streaming.cancel()


@pytest.mark.parametrize("path", STREAMS)
def test_a_stream_that_is_opened_while_a_leader_is_elected_goes_on(
    opened: Callable[[float], GrpcDoor], path: str
) -> None:
    """Its client's member led, and is gone; or etcdctl would give its watch up."""
    door = opened(60)
    leader = door.api.node.leader_id
    door.thread.call(lambda: setattr(door.api.node, "leader_id", 0))
    streaming = open_stream(door, path, REQUIRES_LEADER)
    door.thread.call(lambda: setattr(door.api.node, "leader_id", leader))
    assert streaming.is_active()
    streaming.cancel()


def test_a_stream_is_refused_where_there_has_been_no_leader_for_long(
    opened: Callable[[float], GrpcDoor],
) -> None:
    door = opened(60)
    path = "/etcdserverpb.Watch/Watch"
    first = open_stream(door, path, REQUIRES_LEADER)

    def lose() -> None:
        door.api.node.leader_id = 0
        door.api.services.leaderless._leader_seen -= 60

    door.thread.call(lose)
    late = door.channel.stream_stream(path)(
        iter((STREAMS[path].SerializeToString(),)), timeout=10, metadata=REQUIRES_LEADER
    )
    assert status_of(lambda: late) == NO_LEADER
    first.cancel()
