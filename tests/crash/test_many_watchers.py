"""A hundred thousand idle watchers on one member, a key each: what they take of its memory."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from chainfire.proto.watch_pb2 import WatchCreateRequest, WatchRequest, WatchResponse
from tests import peers, report
from tests.servers import Server

WATCHERS = 100_000
STREAMS = 100
BYTES_MAX = 900  # of each; etcd 3.7.1 takes 940
SETTLED_SECONDS = 60.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Stream:
    """Watchers of keys that nobody writes; they stay until it is garbage."""

    def __init__(self, channel: grpc.Channel, numbers: range) -> None:
        self._over: queue.SimpleQueue[None] = queue.SimpleQueue()

        def requests() -> Iterator[bytes]:
            for number in numbers:
                create = WatchCreateRequest(key=b"/registry/pods/%08d" % number)
                yield WatchRequest(create_request=create).SerializeToString()
            self._over.get()

        call = channel.stream_stream("/etcdserverpb.Watch/Watch")
        self._answers = call(requests(), timeout=500)
        for _ in numbers:
            assert WatchResponse.FromString(next(self._answers)).created

    def close(self) -> None:
        self._over.put(None)
        self._answers.cancel()


def settled(server: Server) -> int:
    """Anonymous memory, once it has stopped to change."""
    deadline, before = time.monotonic() + SETTLED_SECONDS, 0
    while (now := server.memory_bytes()["RssAnon"]) != before and time.monotonic() < deadline:
        before = now
        time.sleep(1)
    return now


def test_idle_watchers_take_less_than_900_bytes_each(tmp_path: Path) -> None:
    with (
        Server(peers.need_chainfire(), tmp_path / "data") as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        streams = [Stream(channel, range(WATCHERS, WATCHERS + 1))]  # what the first of all costs
        before = settled(server)
        each = WATCHERS // STREAMS
        streams += [Stream(channel, range(i * each, (i + 1) * each)) for i in range(STREAMS)]
        taken = (settled(server) - before) / WATCHERS
        report.count("bytes for each of 100,000 idle watchers", round(taken))
        for stream in streams:
            stream.close()
    assert taken < BYTES_MAX
