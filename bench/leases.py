"""How a crowd of leases ends: python -m bench.leases [--leases 20000] [--rounds 3].

So many leases with a key each get the same deadline, by a keep-alive; puts go on at a fixed rate
before and meanwhile. Chainfire and etcd in turns, one member each, both on the same disk.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from chainfire.proto import kv_pb2, lease_pb2
from tests.servers import Kind, Server, chainfire, etcd

TTL_SECONDS = 60  # longer than all grants take
PUTS_PER_SECOND = 300
QUIET_SECONDS = 3.0
AT_ONCE = 200
GIVE_UP_SECONDS = 90.0
KEY = b"leased/%d"


@dataclass(frozen=True, slots=True)
class Ended:
    """One crowd."""

    gone_seconds: float  # from the last deadline until no key is left
    quiet_ms: Sequence[float]  # latencies of puts before
    busy_ms: Sequence[float]  # ... and while leases ended


async def measure(server: Server, leases: int) -> Ended:
    async with grpc.aio.insecure_channel(server.target) as channel:
        await _each(leases, lambda lease: _grant(channel, lease))
        async with _puts(channel) as quiet:
            await asyncio.sleep(QUIET_SECONDS)
        begun = time.monotonic()
        await _keep_alive(channel, leases)
        last = time.monotonic() + TTL_SECONDS
        await asyncio.sleep(begun + TTL_SECONDS - 0.2 - time.monotonic())
        if await _count(channel) != leases:
            raise SystemExit(f"{server.kind.name}: leases ended early")
        async with _puts(channel) as busy:
            while await _count(channel):
                if time.monotonic() > last + GIVE_UP_SECONDS:
                    raise SystemExit(f"{server.kind.name}: leases stay")
                await asyncio.sleep(0.05)
            gone = time.monotonic()
        return Ended(gone - last, quiet, busy)


async def _each(count: int, work: Callable[[int], Awaitable[None]]) -> None:
    numbers = iter(range(1, count + 1))

    async def worker() -> None:
        for number in numbers:
            await work(number)

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))


async def _grant(channel: grpc.aio.Channel, lease: int) -> None:
    grant = lease_pb2.LeaseGrantRequest(ID=lease, TTL=TTL_SECONDS)
    await channel.unary_unary("/etcdserverpb.Lease/LeaseGrant")(grant.SerializeToString())
    put = kv_pb2.PutRequest(key=KEY % lease, value=b"v" * 20, lease=lease)
    await channel.unary_unary("/etcdserverpb.KV/Put")(put.SerializeToString())


async def _keep_alive(channel: grpc.aio.Channel, leases: int) -> None:
    stream = channel.stream_stream("/etcdserverpb.Lease/LeaseKeepAlive")()

    async def ask() -> None:
        for lease in range(1, leases + 1):
            await stream.write(lease_pb2.LeaseKeepAliveRequest(ID=lease).SerializeToString())
        await stream.done_writing()

    asking = asyncio.create_task(ask())
    async for body in stream:
        if lease_pb2.LeaseKeepAliveResponse.FromString(body).TTL != TTL_SECONDS:
            raise SystemExit("a lease has ended before it was kept")
    await asking


async def _count(channel: grpc.aio.Channel) -> int:
    request = kv_pb2.RangeRequest(key=b"leased/", range_end=b"leased0", count_only=True)
    body = await channel.unary_unary("/etcdserverpb.KV/Range")(request.SerializeToString())
    return kv_pb2.RangeResponse.FromString(body).count


@contextlib.asynccontextmanager
async def _puts(channel: grpc.aio.Channel) -> AsyncIterator[list[float]]:
    """Latencies in ms of puts at a fixed rate, for as long as the block lasts."""
    put = channel.unary_unary("/etcdserverpb.KV/Put")
    latencies: list[float] = []
    under_way: set[asyncio.Task[None]] = set()

    async def one(number: int, due: float) -> None:
        body = kv_pb2.PutRequest(key=b"other/%d" % (number % 1000), value=b"v" * 100)
        await put(body.SerializeToString())
        latencies.append((time.monotonic() - due) * 1000)

    async def pace() -> None:
        begun, number = time.monotonic(), 0
        while True:
            due = begun + number / PUTS_PER_SECOND
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            task = asyncio.create_task(one(number, due))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            number += 1

    pacing = asyncio.create_task(pace())
    try:
        yield latencies
    finally:
        pacing.cancel()
        await asyncio.gather(*under_way)


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[int(len(values) * share)]


def line(name: str, ended: Ended) -> str:
    quiet, busy = percentile(ended.quiet_ms, 0.99), percentile(ended.busy_ms, 0.99)
    return (
        f"{name:12} gone after {ended.gone_seconds:5.1f} s, "
        f"put p50 {statistics.median(ended.quiet_ms):.1f} → {statistics.median(ended.busy_ms):.1f} "
        f"ms, p99 {quiet:.1f} → {busy:.1f} ms (× {busy / quiet:.1f})"
    )


def kinds() -> list[Kind]:
    return [kind for kind in (chainfire(), etcd("3.5")) if kind is not None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--leases", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for _ in range(options.rounds):
        for kind in kinds():
            with (
                tempfile.TemporaryDirectory(prefix="chainfire-bench-") as directory,
                Server(kind, Path(directory) / "data") as server,
            ):
                print(line(kind.name, asyncio.run(measure(server, options.leases))), flush=True)


if __name__ == "__main__":
    main()
