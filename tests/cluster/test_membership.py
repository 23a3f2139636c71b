"""Real clusters that grow, shrink and are restarted under load: nothing is lost, nobody notices."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress
from pathlib import Path

import grpc
import pytest

from chainfire.proto import cluster_pb2, kv_pb2
from tests import report
from tests.cluster.load import Arena, Load
from tests.clusters import Cluster, Member
from tests.peers import need_chainfire

CHANGE_SECONDS = 60.0  # refused as "unhealthy" until all have been connected for five, as by etcd
RETRY_SECONDS = 15.0


def change(cluster: Cluster, method: str, request: object, reply: type) -> object:
    """Asked of one member after the other until it is taken."""
    answers: list[object] = []

    def taken() -> bool:
        for member in cluster.running:
            with suppress(grpc.RpcError):
                answers.append(member.call(f"Cluster/{method}", request, reply))
                return True
        return False

    cluster.wait(taken, f"{method} is never taken", CHANGE_SECONDS)
    return answers[0]


def add(cluster: Cluster, member: Member, *, learner: bool) -> None:
    request = cluster_pb2.MemberAddRequest(peerURLs=[member.peer_url], isLearner=learner)
    reply = change(cluster, "MemberAdd", request, cluster_pb2.MemberAddResponse)
    assert isinstance(reply, cluster_pb2.MemberAddResponse)
    member.id = reply.member.ID
    member.start() if not learner else member.spawn()
    if learner:
        promote = cluster_pb2.MemberPromoteRequest(ID=member.id)
        change(cluster, "MemberPromote", promote, cluster_pb2.MemberPromoteResponse)
        member.wait_ready()


def remove(cluster: Cluster, member: Member) -> None:
    request = cluster_pb2.MemberRemoveRequest(ID=member.id)
    change(cluster, "MemberRemove", request, cluster_pb2.MemberRemoveResponse)
    assert member.wait_exit() == 1
    assert "permanently removed" in member.log()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_cluster_grows_from_one_to_five_and_shrinks_to_three_under_load(tmp_path: Path) -> None:
    with Cluster(need_chainfire(), tmp_path, size=1) as cluster:
        cluster.start()
        joiners = [cluster.joining(f"m{number}") for number in range(2, 6)]
        arena = Arena(cluster)

        def faults(load: Load) -> None:
            load.go_on()
            for number, member in enumerate(joiners):
                add(cluster, member, learner=number < 2)
                load.go_on()
            remove(cluster, cluster.leader())
            load.go_on()
            remove(cluster, cluster.followers()[0])
            load.go_on()

        arena.under_load(faults)
        assert len(cluster.running) == 3
        report.count("clusters grown and shrunk under load", 1)


# ── nobody notices ──────────────────────────────────────────────────────────


class Writers:
    """Each writes one key after the other, and asks the next member when one does not answer."""

    def __init__(self, cluster: Cluster) -> None:
        self._targets = cluster.endpoints
        self.running = True
        self.acknowledged: list[bytes] = []

    async def run(self, count: int) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(self._write(number))

    async def _write(self, number: int) -> None:
        channels = [grpc.aio.insecure_channel(target) for target in self._targets]
        member = number
        try:
            for count in itertools.count():
                if not self.running:
                    return
                key = b"w%d-%d" % (number, count)
                body = kv_pb2.PutRequest(key=key, value=b"v").SerializeToString()
                async with asyncio.timeout(RETRY_SECONDS):
                    while True:
                        put = channels[member % len(channels)].unary_unary("/etcdserverpb.KV/Put")
                        try:
                            await put(body, timeout=3)
                            break
                        except grpc.aio.AioRpcError:
                            member += 1
                            await asyncio.sleep(0.02)
                self.acknowledged.append(key)
                await asyncio.sleep(0.01)
        finally:
            for channel in channels:
                await channel.close(None)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_write_fails_for_a_client_that_tries_again_during_a_rolling_restart(
    tmp_path: Path,
) -> None:
    with Cluster(need_chainfire(), tmp_path) as cluster:
        writers = Writers(cluster.start())

        async def scene() -> None:
            writing = asyncio.create_task(writers.run(4))
            for member in cluster.members:
                await asyncio.to_thread(restart, member)
            writers.running = False
            await writing  # raises if a write got nowhere

        def restart(member: Member) -> None:
            before = len(writers.acknowledged)
            assert member.stop() == 0
            member.start(CHANGE_SECONDS)
            cluster.wait(lambda: len(writers.acknowledged) > before + 20, "no writes", 30)

        asyncio.run(scene())
        cluster.wait_equal()
        for key in writers.acknowledged[:: max(1, len(writers.acknowledged) // 200)]:
            assert cluster.members[0].get(key) == b"v", key
        request = kv_pb2.RangeRequest(key=b"w", range_end=b"x", count_only=True)
        reply = cluster.members[0].call("KV/Range", request, kv_pb2.RangeResponse)
        assert reply.count >= len(writers.acknowledged)
