"""Watches and leases asked for what makes no sense: answered as by etcd, on either door."""

from __future__ import annotations

import re
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any

import grpc
import pytest

from chainfire.proto import kv_pb2, lease_pb2
from chainfire.proto.watch_pb2 import WatchRequest, WatchResponse
from tests import peers, report
from tests.gateway.doors import HAS_NATIVE, KINDS
from tests.servers import Server, free_port

WATCH = "/etcdserverpb.Watch/Watch"
KEEP_ALIVE = "/etcdserverpb.Lease/LeaseKeepAlive"
INT64_MAX, INT64_MIN = 2**63 - 1, -(2**63)
SECONDS = 20
MARKER = 777
ABANDONED = 1000  # of each kind
WATCHERS = re.compile(r"^etcd_debugging_mvcc_(watch_stream|watcher)_total (\S+)", re.MULTILINE)


def create(**fields: Any) -> WatchRequest:
    return WatchRequest(create_request=fields)


def cancel(watch_id: int) -> WatchRequest:
    return WatchRequest(cancel_request={"watch_id": watch_id})


WATCHES: dict[str, list[WatchRequest]] = {
    "ids that nobody has": [cancel(5), cancel(0), cancel(-1), cancel(INT64_MAX), cancel(INT64_MIN)],
    "an id twice": [create(key=b"k", watch_id=5), create(key=b"l", watch_id=5)],
    "chosen and counted ids": [
        create(key=b"k", watch_id=1),
        *(create(key=b"k") for _ in range(3)),
        cancel(1),
        create(key=b"k", watch_id=1),
    ],
    "strange ids": [create(key=b"k", watch_id=number) for number in (INT64_MAX, -2, INT64_MIN)],
    "cancelled twice": [create(key=b"k", watch_id=5), cancel(5), cancel(5)],
    "the far future": [create(key=b"k", start_revision=INT64_MAX)],
    "ranges of nothing": [
        create(key=b"b", range_end=b"a"),
        create(key=b"b", range_end=b"b"),
        create(range_end=b"\0"),
        create(),
    ],
    "filters of everything": [create(key=b"k", filters=[0, 1])],
    "no request at all": [WatchRequest(), create(key=b"k")],
}
NEGATIVE = [create(key=b"k", start_revision=revision) for revision in (-1, -7, INT64_MIN)]

LEASES = (0, 1, -1, INT64_MAX, INT64_MIN)
TTLS = (0, -1, INT64_MIN, 9_000_000_000, 9_000_000_001, INT64_MAX)


@pytest.fixture(scope="module", params=KINDS)
def door(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    if request.param == "native" and not HAS_NATIVE:
        pytest.skip("the native wheel is not installed")
    directory = tmp_path_factory.mktemp("door")
    flags = (f"--door={request.param}", f"--listen-metrics-urls=http://127.0.0.1:{free_port()}")
    with Server(peers.need_chainfire(), directory / "data", flags) as server:
        yield server


def put(channel: grpc.Channel, key: bytes) -> None:
    body = kv_pb2.PutRequest(key=key).SerializeToString()
    channel.unary_unary("/etcdserverpb.KV/Put")(body, timeout=SECONDS)


def watched(server: Server, requests: Sequence[WatchRequest]) -> list[WatchResponse]:
    """What the stream answers but for events; after its client has half-closed, it ends with an
    event of a last watch.
    """
    bodies = [*requests, create(key=b"marker", watch_id=MARKER)]
    answers = []
    with grpc.insecure_channel(server.target) as channel:
        sent = iter([request.SerializeToString() for request in bodies])
        call = channel.stream_stream(WATCH)(sent, timeout=SECONDS)
        for body in call:
            answer = WatchResponse.FromString(body)
            if answer.watch_id == MARKER:
                if answer.events:
                    call.cancel()
                    break
                put(channel, b"marker")
                continue
            answer.ClearField("header")
            if not answer.events:
                answers.append(answer)
    return answers


@pytest.mark.parametrize("name", WATCHES)
def test_watches_that_make_no_sense_are_answered_as_by_etcd(
    name: str, door: Server, theirs: Server
) -> None:
    assert watched(door, WATCHES[name]) == watched(theirs, WATCHES[name])
    report.count("strange watch requests compared with etcd", len(WATCHES[name]))


def test_a_watch_from_a_negative_revision_is_refused(door: Server) -> None:
    """As by today's etcd; 3.5.1 makes the watch and cancels it, or has it begin now."""
    refused = watched(door, NEGATIVE)
    assert len(refused) == len(NEGATIVE)
    for answer in refused:
        assert (answer.watch_id, answer.created, answer.canceled) == (-1, True, True)


def kept_alive(server: Server, leases: Sequence[int]) -> list[tuple[int, int]]:
    """After which the client half-closes: answers still come, then the end."""
    with grpc.insecure_channel(server.target) as channel:
        bodies = (lease_pb2.LeaseKeepAliveRequest(ID=lease).SerializeToString() for lease in leases)
        answers = channel.stream_stream(KEEP_ALIVE)(bodies, timeout=SECONDS)
        found = [lease_pb2.LeaseKeepAliveResponse.FromString(body) for body in answers]
    return [(answer.ID, answer.TTL) for answer in found]


def test_keep_alives_of_dead_leases_are_answered_as_by_etcd(door: Server, theirs: Server) -> None:
    assert kept_alive(door, LEASES) == kept_alive(theirs, LEASES)
    assert kept_alive(door, ()) == kept_alive(theirs, ()) == []


@pytest.mark.parametrize("ttl", TTLS)
def test_strange_ttls_are_answered_as_by_etcd(ttl: int, door: Server, theirs: Server) -> None:
    assert granted(door, ttl) == granted(theirs, ttl)


def granted(server: Server, ttl: int) -> object:
    with grpc.insecure_channel(server.target) as channel:
        body = lease_pb2.LeaseGrantRequest(TTL=ttl).SerializeToString()
        try:
            answer = channel.unary_unary("/etcdserverpb.Lease/LeaseGrant")(body, timeout=SECONDS)
        except grpc.RpcError as error:
            return error.code(), error.details()
    return lease_pb2.LeaseGrantResponse.FromString(answer).TTL


@pytest.mark.parametrize("path", [WATCH, KEEP_ALIVE])
def test_bytes_that_are_no_request_end_the_stream_as_etcds_do(
    path: str, door: Server, theirs: Server
) -> None:
    assert status(door, path, b"\xff\xff") == status(theirs, path, b"\xff\xff")


def status(server: Server, path: str, body: bytes) -> grpc.StatusCode:
    return ended(server, path, body)[0]


def ended(server: Server, path: str, body: bytes) -> tuple[grpc.StatusCode, str]:
    """How a stream of this one message ends."""
    with grpc.insecure_channel(server.target) as channel:
        try:
            for _ in channel.stream_stream(path)(iter([body]), timeout=SECONDS):
                pass
        except grpc.RpcError as error:
            return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""


@pytest.mark.parametrize(
    "body", ["0a026162", "090101010101010101", "0d01010101", "0a01610805", "0b0c"]
)
def test_a_keep_alive_whose_id_is_no_number_is_refused_as_by_etcd(
    body: str, door: Server, theirs: Server
) -> None:
    """Or its holder would hear that the lease is gone. Before "proto:" grpc-go says what it does,
    otherwise in each release."""
    ours, wanted = [ended(server, KEEP_ALIVE, bytes.fromhex(body)) for server in (door, theirs)]
    assert ours[0] is wanted[0] is grpc.StatusCode.INTERNAL
    assert ours[1].partition("proto:")[2] == wanted[1].partition("proto:")[2] != ""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_streams_that_are_abandoned_by_the_thousand_leave_nothing(door: Server) -> None:
    before = door.memory_bytes()["RssAnon"]
    watch = create(key=b"a", range_end=b"b").SerializeToString()
    keep_alive = lease_pb2.LeaseKeepAliveRequest(ID=5).SerializeToString()
    for path, body in ((WATCH, watch), (KEEP_ALIVE, keep_alive), (WATCH, None)):
        abandon(door, path, body)
    give_up = time.monotonic() + SECONDS
    while any(left := watchers(door)):
        assert time.monotonic() < give_up, left
    assert door.memory_bytes()["RssAnon"] - before < 60 << 20
    with grpc.insecure_channel(door.target) as channel:
        put(channel, b"alive")
    report.count("streams abandoned", 3 * ABANDONED)


def abandon(server: Server, path: str, body: bytes | None) -> None:
    """Open streams, each of which is answered if it asks something, and drop the connection."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    over = threading.Event()

    def requests() -> Iterator[bytes]:
        if body is not None:
            yield body
        over.wait(SECONDS)

    with grpc.insecure_channel(server.target, options) as channel:
        calls = [channel.stream_stream(path)(requests()) for _ in range(ABANDONED)]
        for call in calls if body is not None else ():
            next(call)
    over.set()


def watchers(server: Server) -> list[float]:
    [flag] = [flag for flag in server.flags if flag.startswith("--listen-metrics-urls")]
    url = flag.split("=", 1)[1]
    with urllib.request.urlopen(f"{url}/metrics", timeout=SECONDS) as page:
        found = WATCHERS.findall(page.read().decode())
    assert len(found) == 2, found
    return [float(number) for _, number in found]
