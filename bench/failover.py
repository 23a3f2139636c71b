"""`python -m bench.failover`: how long writes stand still when the leader's process is killed.

Three real members of each system on loopback with default timers. A client of the two survivors
sends a fresh key every 5 ms, each with a deadline of 1 s, whatever became of those before (open
loop). Counted is the time from `kill -9` to the first answer to a put that was sent after it.
Then every acknowledged put is looked for, and the killed member comes back: the next round begins
once it answers a linearizable read. Kills of both systems alternate: a slow minute hits both.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from chainfire.proto import kv_pb2
from tests.clusters import Cluster, Member
from tests.servers import Kind, chainfire, etcd, etcds

INTERVAL_SECONDS = 0.005
DEADLINE_SECONDS = 1.0
STEADY_PUTS = 60  # acknowledged before the kill
AFTER_SECONDS = 0.2
GIVE_UP_SECONDS = 30.0
_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.enable_http_proxy", 0),
)
_keys = (b"failover/%08d" % number for number in itertools.count())


@dataclass(slots=True)
class Put:
    key: bytes
    sent: float
    answered: float | None = None  # with success


@dataclass(slots=True)
class Figures:
    system: str
    gaps: list[float] = field(default_factory=list)  # seconds, one per kill
    puts: int = 0
    failed: int = 0
    lost: int = 0

    def row(self) -> str:
        gaps = sorted(self.gaps)

        def at(share: float) -> str:
            return f"{gaps[min(len(gaps) - 1, int(share * len(gaps)))]:.2f}"

        return (
            f"| {self.system} | {len(gaps)} | {at(0.5)} | {at(0.9)} | {at(0.99)} | "
            f"{gaps[-1]:.2f} | {self.failed} of {self.puts} | {self.lost} |"
        )


HEAD = """\
| system | kills | p50 s | p90 s | p99 s | max s | puts without success | acknowledged and lost |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.failover", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="of Chainfire's leaders")
    parser.add_argument("--peer-kills", type=int, default=40, help="of etcd's; 0: without etcd")
    parser.add_argument("--peer", default="", help='an etcd by its minor version, such as "3.4"')
    options = parser.parse_args(arguments)
    mine = chainfire()
    assert mine is not None
    peer = etcd(options.peer) if options.peer else next(iter(etcds()), None)
    with ExitStack() as stack:
        made = stack.enter_context(tempfile.TemporaryDirectory(prefix="failover-"))
        plan: list[tuple[Kind, int]] = [(mine, options.kills)]
        if peer is not None and options.peer_kills:
            plan.append((peer, options.peer_kills))
        runs = []
        for kind, kills in plan:
            directory = Path(made) / kind.name.replace(" ", "-")
            directory.mkdir()
            cluster = stack.enter_context(Cluster(kind, directory))
            runs.append((cluster.start(), Figures(kind.name), kills))
        for cluster, figures in interleaved(runs):
            kill_the_leader(cluster, figures)
            print(
                f"{figures.system}: kill {len(figures.gaps)}: {figures.gaps[-1]:.2f} s", flush=True
            )
    print(HEAD)
    for _, figures, _ in runs:
        print(figures.row())


def interleaved(
    runs: Sequence[tuple[Cluster, Figures, int]],
) -> Iterator[tuple[Cluster, Figures]]:
    """Each as often as it is planned, spread evenly."""
    total = max(kills for _, _, kills in runs)
    for turn in range(total):
        for cluster, figures, kills in runs:
            if (turn + 1) * kills // total > turn * kills // total:
                yield cluster, figures


def kill_the_leader(cluster: Cluster, figures: Figures) -> None:
    leader = cluster.leader()
    survivors = [member for member in cluster.members if member is not leader]
    puts, killed = asyncio.run(scene(leader, survivors))
    leader.wait_exit()
    answers = [put.answered for put in puts if put.answered is not None and put.sent >= killed]
    figures.gaps.append(min(answers) - killed)
    figures.puts += len(puts)
    figures.failed += sum(put.answered is None for put in puts)
    figures.lost += lost(survivors[0], puts)
    leader.start()


def lost(member: Member, puts: Sequence[Put]) -> int:
    """How many acknowledged puts a linearizable read does not find."""
    keys = [put.key for put in puts if put.answered is not None]
    request = kv_pb2.RangeRequest(key=keys[0], range_end=keys[-1] + b"\0", keys_only=True)
    reply = member.call("KV/Range", request, kv_pb2.RangeResponse, seconds=20)
    return len(set(keys) - {row.key for row in reply.kvs})


async def scene(leader: Member, survivors: Sequence[Member]) -> tuple[list[Put], float]:
    """Every put that was sent, and when the leader was killed."""
    loop = asyncio.get_running_loop()
    channels = [grpc.aio.insecure_channel(member.target, _OPTIONS) for member in survivors]
    for channel in channels:
        await asyncio.wait_for(channel.channel_ready(), 20)
    methods = [channel.unary_unary("/etcdserverpb.KV/Put") for channel in channels]
    puts: list[Put] = []
    tasks: set[asyncio.Task[None]] = set()

    async def send(put: Put, number: int) -> None:
        body = kv_pb2.PutRequest(key=put.key, value=b"x").SerializeToString()
        try:
            await methods[number % len(methods)](body, timeout=DEADLINE_SECONDS)
        except grpc.aio.AioRpcError:
            return
        put.answered = time.monotonic()

    killed = 0.0
    give_up = time.monotonic() + GIVE_UP_SECONDS
    due = loop.time()
    for number in itertools.count():
        put = Put(next(_keys), time.monotonic())
        puts.append(put)
        task = loop.create_task(send(put, number))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        answered = [p.answered for p in puts[-400:] if p.answered is not None and p.sent >= killed]
        if not killed and len(answered) >= STEADY_PUTS:
            assert leader.process is not None
            leader.process.kill()
            killed = time.monotonic()
        elif killed and answered and time.monotonic() > min(answered) + AFTER_SECONDS:
            break
        assert time.monotonic() < give_up, "writes did not go on"
        due = max(due + INTERVAL_SECONDS, loop.time() - 1)
        await asyncio.sleep(due - loop.time())
    await asyncio.gather(*tasks)
    for channel in channels:
        await channel.close(None)
    return puts, killed


if __name__ == "__main__":
    main()
