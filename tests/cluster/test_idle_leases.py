"""A lease of three real members of which nobody writes, while their leaders are killed.

An idle leader stamps the lease clock into the log about once a second. Each kill comes as late
after a stamp as it can: a successor that knew only of stamps would be late by most of a second
more. Lateness is judged as in `judging`: the time in which no read was answered does not count,
whether nobody led or the machine stood still.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import grpc
import pytest

from chainfire.client import connect_sync
from chainfire.proto import kv_pb2
from tests import report
from tests.cluster.judging import LATE_NS_MAX, NS, standstill
from tests.clusters import REDIALLING, Cluster, Member
from tests.peers import need_chainfire

TTL_SECONDS = 10
KILLS = 2
AFTER_STAMP_SECONDS = 0.7
SLACK_NS = NS // 2  # pauses of a busy machine that are too short to be told from work
KEY = b"held"


class Reader(threading.Thread):
    """Asks one member for the key, over and over, with linearizable reads, which write nothing."""

    def __init__(self, member: Member) -> None:
        super().__init__(daemon=True)
        self.answered_at: list[int] = []
        self.gone_at: int | None = None
        self.is_over = False
        self._target = member.target

    def run(self) -> None:
        request = kv_pb2.RangeRequest(key=KEY).SerializeToString()
        with grpc.insecure_channel(self._target, REDIALLING) as channel:
            ask = channel.unary_unary("/etcdserverpb.KV/Range")
            while not self.is_over:
                with suppress(grpc.RpcError):
                    answer = kv_pb2.RangeResponse.FromString(ask(request, timeout=1))
                    self.answered_at.append(time.monotonic_ns())
                    if not answer.kvs and self.gone_at is None:
                        self.gone_at = self.answered_at[-1]
                time.sleep(0.01)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(need_chainfire(), tmp_path_factory.mktemp("idle")) as made:
        yield made.start()


def wait_long_after_a_stamp(cluster: Cluster, leader: Member) -> None:
    """Or any other entry."""
    seen = leader.status().raftAppliedIndex
    since: float | None = None

    def is_long_after() -> bool:
        nonlocal seen, since
        index = leader.status().raftAppliedIndex
        if index != seen:
            seen, since = index, time.monotonic()
        return since is not None and time.monotonic() - since >= AFTER_STAMP_SECONDS

    cluster.wait(is_long_after, "the lease clock is not stamped", 30)


def test_a_lease_of_an_idle_cluster_ends_in_time_though_its_leaders_are_killed(
    cluster: Cluster,
) -> None:
    with connect_sync(",".join(m.url for m in cluster.members), timeout=30) as client:
        asked_at = time.monotonic_ns()
        lease = client.grant(TTL_SECONDS).id
        client.put(KEY, "v", lease=lease)
        granted_at = time.monotonic_ns()
    readers = [Reader(member) for member in cluster.members]
    for reader in readers:
        reader.start()
    for _ in range(KILLS):
        leader = cluster.leader()
        wait_long_after_a_stamp(cluster, leader)
        leader.kill()
        cluster.leader()
        leader.spawn()
        leader.wait_ready()
    cluster.wait(lambda: any(r.gone_at for r in readers), "the lease stays", 120)
    gone_at = min(reader.gone_at for reader in readers if reader.gone_at is not None)
    for reader in readers:
        reader.is_over = True
    for reader in readers:
        reader.join()
    assert gone_at >= asked_at + TTL_SECONDS * NS
    answered_at = sorted(at for reader in readers for at in reader.answered_at)
    late = gone_at - granted_at - TTL_SECONDS * NS - standstill(answered_at, granted_at, gone_at)
    assert late <= LATE_NS_MAX + SLACK_NS
    report.count("leases of idle clusters judged")
