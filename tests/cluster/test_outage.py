"""Nobody leads for a while: what is done afterwards is what somebody still waits for."""

from __future__ import annotations

import asyncio
import re
import urllib.request
from pathlib import Path

import grpc
import pytest

from chainfire.proto.kv_pb2 import PutRequest, RangeRequest, RangeResponse
from tests.clusters import Cluster, Member
from tests.peers import need_chainfire
from tests.servers import READY_SECONDS, free_port

CALLS = 200
METRICS = "--listen-metrics-urls="
HANDLED_PUTS = r'^grpc_server_handled_total{.*grpc_method="Put".*} (\d+)'


async def put_in_vain(member: Member, calls: int, seconds: float) -> set[grpc.StatusCode]:
    """How these puts end."""
    async with grpc.aio.insecure_channel(member.target) as channel:
        put = channel.unary_unary("/etcdserverpb.KV/Put")
        bodies = [
            PutRequest(key=b"late/%d" % number).SerializeToString() for number in range(calls)
        ]
        ends = await asyncio.gather(
            *(put(body, timeout=seconds) for body in bodies), return_exceptions=True
        )
    return {
        end.code() if isinstance(end, grpc.aio.AioRpcError) else grpc.StatusCode.OK for end in ends
    }


@pytest.mark.timeout(180)
@pytest.mark.parametrize("door", ["native", "grpcio"])
def test_puts_whose_callers_have_gone_are_not_made_once_there_is_a_leader(
    tmp_path: Path, door: str
) -> None:
    with Cluster(need_chainfire(), tmp_path, flags=(f"--door={door}",)) as cluster:
        for member in cluster.members:
            member.flags += (f"{METRICS}http://127.0.0.1:{free_port()}",)
        cluster.start()
        leader = cluster.leader()
        alone, other = cluster.followers()
        other.pause()  # first: else it would lead at once
        leader.kill()
        ends = asyncio.run(put_in_vain(alone, CALLS, seconds=2.0))
        assert ends == {grpc.StatusCode.DEADLINE_EXCEEDED}
        cluster.wait(lambda: ended_puts(alone) == CALLS, "not told that callers go", READY_SECONDS)
        other.resume()
        cluster.wait(lambda: is_written(alone), "no leader", READY_SECONDS)
        late = RangeRequest(key=b"late/", range_end=b"late0", count_only=True)
        assert alone.call("KV/Range", late, RangeResponse, READY_SECONDS).count == 0


def ended_puts(member: Member) -> int:
    """How many puts have ended for the server, in whatever way."""
    url = member.flags[-1].removeprefix(METRICS)
    with urllib.request.urlopen(f"{url}/metrics", timeout=READY_SECONDS) as answer:
        counts = re.findall(HANDLED_PUTS, answer.read().decode(), re.MULTILINE)
    return sum(map(int, counts))


def is_written(member: Member) -> bool:
    try:
        return member.put(b"after", b"", READY_SECONDS) > 0
    except grpc.RpcError:
        return False
