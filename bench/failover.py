"""`python -m bench.failover`: how long writes stand still when the leader is killed, or goes.

Three real members of each system on loopback with default timers. A client of the two others sends
a fresh key every 5 ms, each with a deadline of 1 s, whatever became of those before (open loop).
What happens to the leader (or to a follower) is chosen by --event:

    kill, pause                   kill -9 or SIGSTOP
    stop, move                    SIGTERM, or leadership is moved to another member: both planned
    stall-leader, stall-follower  its disk stands still for 10 s (bench/disks.py)
    stall-alone                   so does that of a member without others, whose client it is then

Counted is the time to the first answer to a put that was sent after it; of planned events the
longest time without any answer. Then every acknowledged put is looked for, and the member comes
back: the next round begins once it answers a linearizable read. Rounds of both systems alternate:
a slow minute hits both.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import grpc

from bench.disks import StallingDisk
from chainfire.proto import kv_pb2, maintenance_pb2
from tests.clusters import Cluster, Member
from tests.servers import Kind, chainfire, etcd, etcds

INTERVAL_SECONDS = 0.005
DEADLINE_SECONDS = 1.0
STEADY_PUTS = 60  # acknowledged before it happens
AFTER_SECONDS = 0.2
PLANNED_SECONDS = 0.5  # looked at after a planned event
STALL_SECONDS = 10.0
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
    gaps: list[float] = field(default_factory=list)  # seconds, one per event
    puts: int = 0
    failed: int = 0
    lost: int = 0

    def row(self) -> str:
        gaps = sorted(self.gaps)

        def at(share: float) -> str:
            return f"{gaps[min(len(gaps) - 1, int(share * len(gaps)))]:.3f}"

        return (
            f"| {self.system} | {len(gaps)} | {at(0.5)} | {at(0.9)} | {at(0.99)} | "
            f"{gaps[-1]:.3f} | {self.failed} of {self.puts} | {self.lost} |"
        )


@dataclass(frozen=True, slots=True)
class Event:
    """What happens to a member; `strike` is given who it is and who may lead instead."""

    name: str
    strike: Callable[[Member, Member], None] = lambda _, __: None
    mend: Callable[[Member], object] = lambda member: member.wait_ready()
    planned: bool = False
    stalls: bool = False
    of_follower: bool = False
    alone: bool = False


def _signal(signum: signal.Signals) -> Callable[[Member, Member], None]:
    return lambda member, _: os.kill(member.pid, signum)


def _move(leader: Member, target: Member) -> None:
    request = maintenance_pb2.MoveLeaderRequest(targetID=target.id)
    leader.call("Maintenance/MoveLeader", request, maintenance_pb2.MoveLeaderResponse, seconds=10)


def _start_again(member: Member) -> None:
    member.wait_exit()
    member.start()


def _resume(member: Member) -> None:
    member.resume()
    member.wait_ready()


EVENTS = {
    event.name: event
    for event in (
        Event("kill", _signal(signal.SIGKILL), _start_again),
        Event("pause", _signal(signal.SIGSTOP), _resume),
        Event("stop", _signal(signal.SIGTERM), _start_again, planned=True),
        Event("move", _move, planned=True),
        Event("stall-leader", stalls=True),
        Event("stall-follower", stalls=True, of_follower=True),
        Event("stall-alone", stalls=True, alone=True),
    )
}
HEAD = """\
| system | {event} | p50 s | p90 s | p99 s | max s | puts without success | acknowledged and lost |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.failover", description=__doc__)
    parser.add_argument("--event", choices=list(EVENTS), default="kill")
    parser.add_argument("--kills", type=int, default=200, help="or other events, of Chainfire")
    parser.add_argument("--peer-kills", type=int, default=40, help="of etcd; 0: without etcd")
    parser.add_argument("--peer", default="", help='an etcd by its minor version, such as "3.4"')
    options = parser.parse_args(arguments)
    event = EVENTS[options.event]
    mine = chainfire()
    assert mine is not None
    peer = etcd(options.peer) if options.peer else next(iter(etcds()), None)
    with ExitStack() as stack:
        made = stack.enter_context(tempfile.TemporaryDirectory(prefix="failover-"))
        plan: list[tuple[Kind, int]] = [(mine, options.kills)]
        if peer is not None and options.peer_kills:
            plan.append((peer, options.peer_kills))
        runs = []
        for kind, rounds in plan:
            directory = Path(made) / kind.name.replace(" ", "-")
            directory.mkdir()
            disks = _Disks(stack)
            prepare = disks.give if event.stalls else None
            size = 1 if event.alone else 3
            cluster = stack.enter_context(Cluster(kind, directory, size, prepare=prepare))
            runs.append((cluster.start(), Figures(kind.name), rounds, disks))
        for cluster, figures, disks in interleaved(runs):
            strike(event, cluster, figures, disks)
            print(
                f"{figures.system}: {event.name} {len(figures.gaps)}: {figures.gaps[-1]:.3f} s",
                flush=True,
            )
    print(HEAD.format(event=event.name))
    for _, figures, _, _ in runs:
        print(figures.row())


class _Disks(dict[str, StallingDisk]):
    """By the name of the member that has it."""

    def __init__(self, stack: ExitStack) -> None:
        super().__init__()
        self._stack = stack  # which ends a member before its disk

    def give(self, member: Member) -> None:
        place = member.data_dir.with_name(f"{member.name}.disk")
        disk = self[member.name] = self._stack.enter_context(StallingDisk(place))
        member.log_to = member.log_path
        member.data_dir = disk.path / "data"


Disks = Mapping[str, StallingDisk]
Run = tuple[Cluster, Figures, int, Disks]


def interleaved(runs: Sequence[Run]) -> Iterator[tuple[Cluster, Figures, Disks]]:
    """Each as often as it is planned, spread evenly."""
    total = max(rounds for _, _, rounds, _ in runs)
    for turn in range(total):
        for cluster, figures, rounds, disks in runs:
            if (turn + 1) * rounds // total > turn * rounds // total:
                yield cluster, figures, disks


def strike(event: Event, cluster: Cluster, figures: Figures, disks: Disks) -> None:
    leader = cluster.leader()
    others = [member for member in cluster.members if member is not leader]
    struck, clients_of = leader, others
    if event.of_follower:
        struck, clients_of = others[0], [leader, others[1]]
    elif event.alone:
        clients_of = [leader]
    disk = disks.get(struck.name)

    def cause() -> None:
        if disk is not None:
            disk.stall(STALL_SECONDS)
        else:
            event.strike(struck, others[0])

    puts, struck_at = asyncio.run(scene(cause, clients_of, planned=event.planned))
    figures.gaps.append(
        silence(puts, struck_at) if event.planned else first_answer(puts, struck_at) - struck_at
    )
    figures.puts += len(puts)
    figures.failed += sum(put.answered is None for put in puts)
    if disk is not None:
        disk.heal()
    event.mend(struck)
    figures.lost += lost(clients_of[0], puts)


def first_answer(puts: Sequence[Put], since: float) -> float:
    """When a put was first answered that was sent after this."""
    return min(put.answered for put in puts if put.answered is not None and put.sent >= since)


def silence(puts: Sequence[Put], since: float) -> float:
    """The longest time without an answer, seconds."""
    answers = sorted(put.answered for put in puts if put.answered is not None)
    moments = [since, *(answered for answered in answers if answered >= since)]
    return max(b - a for a, b in pairwise(moments))


def lost(member: Member, puts: Sequence[Put]) -> int:
    """How many acknowledged puts a linearizable read does not find."""
    keys = [put.key for put in puts if put.answered is not None]
    request = kv_pb2.RangeRequest(key=keys[0], range_end=keys[-1] + b"\0", keys_only=True)
    reply = member.call("KV/Range", request, kv_pb2.RangeResponse, seconds=20)
    return len(set(keys) - {row.key for row in reply.kvs})


async def scene(
    cause: Callable[[], None], clients_of: Sequence[Member], *, planned: bool
) -> tuple[list[Put], float]:
    """Every put that was sent, and when it happened."""
    loop = asyncio.get_running_loop()
    channels = [grpc.aio.insecure_channel(member.target, _OPTIONS) for member in clients_of]
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

    struck = 0.0
    happening: asyncio.Future[None] | None = None
    patience = PLANNED_SECONDS if planned else AFTER_SECONDS
    give_up = time.monotonic() + GIVE_UP_SECONDS
    due = loop.time()
    for number in itertools.count():
        put = Put(next(_keys), time.monotonic())
        puts.append(put)
        task = loop.create_task(send(put, number))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        answered = [p.answered for p in puts[-400:] if p.answered is not None and p.sent >= struck]
        if not struck and len(answered) >= STEADY_PUTS:
            if planned:  # it takes its time, which counts
                struck = time.monotonic()
                happening = loop.run_in_executor(None, cause)
            else:
                cause()
                struck = time.monotonic()
        elif struck and answered and time.monotonic() > min(answered) + patience:
            break
        assert time.monotonic() < give_up, "writes did not go on"
        due = max(due + INTERVAL_SECONDS, loop.time() - 1)
        await asyncio.sleep(due - loop.time())
    await asyncio.gather(*tasks)
    if happening is not None:
        await happening
    for channel in channels:
        await channel.close(None)
    return puts, struck


if __name__ == "__main__":
    main()
