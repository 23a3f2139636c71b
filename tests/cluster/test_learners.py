"""A learner serves watches as any member does: in order, each event once, from any revision."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import grpc

from chainfire.proto import cluster_pb2, kv_pb2
from chainfire.proto.kv_pb2 import Event
from chainfire.proto.watch_pb2 import WatchRequest, WatchResponse
from tests import report
from tests.clusters import Cluster, Member
from tests.peers import need_chainfire

WRITES = 60  # before the learner is there, and again when it watches
KEYS = 7
SECONDS = 60

Told = tuple[int, int, bytes, bytes]  # revision, type, key, value


def write(member: Member, first: int) -> list[Told]:
    """Puts, and now and then a delete, each of a revision of its own."""
    written: list[Told] = []
    for number in range(first, first + WRITES):
        key, value = b"k%d" % (number % KEYS), b"%d" % number
        written.append((member.put(key, value), Event.PUT, key, value))
        if number % 5 == 0:
            request = kv_pb2.DeleteRangeRequest(key=key)
            reply = member.call("KV/DeleteRange", request, kv_pb2.DeleteRangeResponse)
            written.append((reply.header.revision, Event.DELETE, key, b""))
    return written


class Watching:
    """All keys of one member, from a revision on."""

    def __init__(self, channel: grpc.Channel, start_revision: int) -> None:
        create = {"key": b"k", "range_end": b"l", "start_revision": start_revision}
        sent = iter([WatchRequest(create_request=create).SerializeToString()])
        self._call = channel.stream_stream("/etcdserverpb.Watch/Watch")(sent, timeout=SECONDS)
        created = WatchResponse.FromString(next(self._call))
        assert created.created and not created.canceled

    def events(self, count: int) -> list[Told]:
        """The next ones, so many."""
        found = list(itertools.islice(self._events(), count))
        self._call.cancel()
        return found

    def _events(self) -> Iterator[Told]:
        for body in self._call:
            for event in WatchResponse.FromString(body).events:
                kv = event.kv
                yield kv.mod_revision, event.type, kv.key, kv.value


def test_a_learner_tells_its_watchers_all_that_is_written_elsewhere(tmp_path: Path) -> None:
    with Cluster(need_chainfire(), tmp_path, size=1) as cluster:
        [voter] = cluster.start().members
        before = write(voter, 0)
        learner = cluster.joining("learner")
        add = cluster_pb2.MemberAddRequest(peerURLs=[learner.peer_url], isLearner=True)
        voter.call("Cluster/MemberAdd", add, cluster_pb2.MemberAddResponse)
        learner.start()
        assert learner.status().isLearner
        with grpc.insecure_channel(learner.target) as channel:
            now, from_start = Watching(channel, 0), Watching(channel, before[0][0])
            from_later = Watching(channel, before[WRITES // 2][0])
            after = write(voter, WRITES)
            assert now.events(len(after)) == after
            assert from_start.events(len(before + after)) == before + after
            wanted = before[WRITES // 2 :] + after
            assert from_later.events(len(wanted)) == wanted
        assert learner.status().isLearner
        report.count("events told by a learner", 3 * len(after) + 2 * len(before) - WRITES // 2)
