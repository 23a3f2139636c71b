"""Watch streams over both doors: what only a real connection shows."""

from __future__ import annotations

import os
import queue
from collections.abc import Iterator

import grpc
import pytest

from chainfire.api.services import Limits
from chainfire.proto.kv_pb2 import Event, PutRequest, PutResponse
from chainfire.proto.watch_pb2 import WatchRequest, WatchResponse
from tests.api.fake_node import Api
from tests.gateway.doors import HAS_NATIVE, KINDS, GrpcDoor, status_of
from tests.waiting import until

PATH = "/etcdserverpb.Watch/Watch"


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "native" and not HAS_NATIVE:
        pytest.skip("the native wheel is not installed")
    return str(request.param)


@pytest.fixture
def door(kind: str) -> Iterator[GrpcDoor]:
    made = GrpcDoor(kind=kind)
    yield made
    made.close()


class Watching:
    """One stream: requests by `ask`, responses by `next`; nothing is read before that."""

    def __init__(
        self,
        door: GrpcDoor,
        path: str = PATH,
        metadata: tuple[tuple[str, str], ...] = (),
        channel: grpc.Channel | None = None,
    ) -> None:
        self._requests: queue.Queue[bytes | None] = queue.Queue()
        self.call = (channel or door.channel).stream_stream(path)(
            iter(self._requests.get, None), timeout=60, metadata=metadata
        )

    def ask(self, **fields: object) -> None:
        self._requests.put(WatchRequest(**fields).SerializeToString())  # type: ignore[arg-type]

    def watch(self, key: bytes, range_end: bytes = b"", **fields: object) -> WatchResponse:
        self.ask(create_request={"key": key, "range_end": range_end, **fields})
        return self.next()

    def half_close(self) -> None:
        self._requests.put(None)

    def next(self) -> WatchResponse:
        return WatchResponse.FromString(next(self.call))

    def revisions(self, count: int) -> list[int]:
        return [event.kv.mod_revision for event in self.events(count)]

    def events(self, count: int) -> list[Event]:
        """So many, however they are joined."""
        found: list[Event] = []
        while len(found) < count:
            found += self.next().events
        return found


def put(door: GrpcDoor, key: bytes, value: bytes = b"") -> int:
    reply = door.unary("/etcdserverpb.KV/Put", PutRequest(key=key, value=value).SerializeToString())
    return PutResponse.FromString(reply).header.revision


@pytest.mark.parametrize("name", ["etcdserverpb", "chainfire.v1"])
def test_a_stream_tells_what_is_created_changed_and_cancelled(door: GrpcDoor, name: str) -> None:
    watching = Watching(door, f"/{name}.Watch/Watch")
    created = watching.watch(b"k", prev_kv=True)
    assert (created.created, created.watch_id) == (True, 0)
    put(door, b"k", b"1")
    put(door, b"k", b"2")
    assert [watching.next().events[0].prev_kv.value for _ in range(2)] == [b"", b"1"]
    watching.ask(progress_request={})
    progress = watching.next()
    assert (progress.watch_id, progress.header.revision) == (-1, 3)
    watching.ask(cancel_request={"watch_id": 0})
    assert watching.next().canceled
    assert door.api.services.watches.statistics().watchers == 0
    watching.call.cancel()


def test_a_half_closed_stream_is_told_on(door: GrpcDoor) -> None:
    watching = Watching(door)
    watching.watch(b"k")
    watching.half_close()
    put(door, b"k")
    assert watching.revisions(1) == [2]
    watching.call.cancel()


def test_a_client_that_goes_leaves_nothing_behind(door: GrpcDoor) -> None:
    streams = [Watching(door) for _ in range(10)]
    for stream in streams:
        stream.watch(b"k")
    statistics = door.api.services.watches.statistics
    assert (statistics().streams, statistics().watchers) == (10, 10)
    for stream in streams:
        stream.call.cancel()
    until(lambda: statistics().streams == 0)
    assert statistics().watchers == 0


def test_a_client_that_does_not_read_holds_up_nobody_and_misses_nothing(door: GrpcDoor) -> None:
    slow, quick = Watching(door), Watching(door)
    for watching in (slow, quick):
        watching.watch(b"k")
    for _ in range(60):
        put(door, b"k", bytes(200_000))
        assert len(quick.revisions(1)) == 1
    assert door.api.services.watches.statistics().slow_watchers == 1
    assert slow.revisions(60) == list(range(2, 62))
    until(lambda: door.api.services.watches.statistics().slow_watchers == 0)
    put(door, b"k")
    assert slow.revisions(1) == [62]
    for watching in (slow, quick):
        watching.call.cancel()


def test_many_watchers_of_a_key_on_one_stream_and_on_many_are_all_told(door: GrpcDoor) -> None:
    one, many = Watching(door), [Watching(door) for _ in range(20)]
    for _ in range(50):
        one.watch(b"k")
    for watching in many:
        watching.watch(b"k", watch_id=300)
    for size in (10, 100_000):
        revision = put(door, b"k", bytes(size))
        told = [one.next() for _ in range(50)]
        assert sorted(r.watch_id for r in told) == list(range(50))
        told += [watching.next() for watching in many]
        assert {r.watch_id for r in told[50:]} == {300}
        assert {r.events[0].kv.mod_revision for r in told} == {revision}
        assert {len(r.events[0].kv.value) for r in told} == {size}
    for watching in (one, *many):
        watching.call.cancel()


def test_of_many_watchers_told_together_the_slow_ones_miss_nothing(door: GrpcDoor) -> None:
    slow, quick = [Watching(door) for _ in range(3)], [Watching(door) for _ in range(3)]
    for watching in (*slow, *quick):
        watching.watch(b"k", watch_id=7)
        watching.watch(b"k")
    for _ in range(60):
        put(door, b"k", bytes(100_000))
        for watching in quick:
            assert len(watching.revisions(2)) == 2
    statistics = door.api.services.watches.statistics
    until(lambda: statistics().slow_watchers == 6)
    for watching in slow:
        told: dict[int, list[int]] = {0: [], 7: []}
        while min(map(len, told.values())) < 60:
            response = watching.next()
            told[response.watch_id] += [event.kv.mod_revision for event in response.events]
        assert told == {0: list(range(2, 62)), 7: list(range(2, 62))}
    until(lambda: statistics().slow_watchers == 0)
    put(door, b"k")
    for watching in (*slow, *quick):
        assert watching.revisions(2) == [62, 62]
        watching.call.cancel()


def test_a_stopping_member_says_so(door: GrpcDoor) -> None:
    watching = Watching(door)
    watching.watch(b"k")
    door.stop()
    with pytest.raises(grpc.RpcError) as ended:
        watching.next()
    assert ended.value.details() == "etcdserver: server stopped"


def test_a_malformed_request_ends_the_stream(door: GrpcDoor) -> None:
    call = door.channel.stream_stream(PATH)(iter([b"\xff\xff"]), timeout=10)
    assert status_of(lambda: call)[0] == grpc.StatusCode.INTERNAL


def test_what_precedes_a_malformed_request_is_answered(door: GrpcDoor) -> None:
    create = WatchRequest(create_request={"key": b"k"}).SerializeToString()
    stream = door.channel.stream_stream(PATH)(iter([create] * 50 + [b"\xff"]), timeout=10)
    told = [WatchResponse.FromString(next(stream)).watch_id for _ in range(50)]
    assert told == list(range(50))
    with pytest.raises(grpc.RpcError) as refused:
        next(stream)
    assert refused.value.code() is grpc.StatusCode.INTERNAL


def test_progress_is_told_from_time_to_time_to_who_asked(kind: str) -> None:
    api = Api()
    api.services.__init__(api.node, Limits(progress_seconds=0.02))  # type: ignore[misc]
    door = GrpcDoor(api, kind=kind)
    try:
        asked, silent = Watching(door), Watching(door)
        asked.watch(b"k", progress_notify=True)
        silent.watch(b"k")
        for _ in range(3):
            told = asked.next()
            assert (told.watch_id, told.header.revision, len(told.events)) == (0, 1, 0)
        put(door, b"k")
        assert silent.next().events
        asked.call.cancel()
    finally:
        door.close()


@pytest.mark.parametrize("value", [b"v" * 100, os.urandom(20_000)], ids=["small", "large"])
def test_streams_that_ask_for_gzip_are_told_what_others_are(door: GrpcDoor, value: bytes) -> None:
    with grpc.insecure_channel(door.target, compression=grpc.Compression.Gzip) as channel:
        watching = [
            Watching(door),
            Watching(door, channel=channel),
            Watching(door, channel=channel),
        ]
        for number, one in enumerate(watching):
            assert one.watch(b"k", watch_id=number + 1).created
        for _ in range(3):
            put(door, b"k", value)
        told = [one.events(3) for one in watching]
        assert told[0] == told[1] == told[2]
        assert [(event.kv.mod_revision, event.kv.value) for event in told[0]] == [
            (revision, value) for revision in (2, 3, 4)
        ]
        for one in watching:
            one.call.cancel()
