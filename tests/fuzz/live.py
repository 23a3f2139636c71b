"""Random calls of every method against a live cluster, by many clients at once.

    python -m tests.fuzz.live --calls=200000 --seed=1

Valid and odd requests, damaged bytes, unknown methods, streams that are fed, half-closed,
abandoned and cancelled. What must hold: every member lives on and serves, every call ends, no
answer is an internal error that is not etcd's own word for a broken request, no log shows a
traceback, all members hold the same to the byte, and memory stays bounded.

Left out: what would take the cluster apart by request (a member's removal, addition or new URL,
authentication), and CORRUPT alarms, which stop a member until an operator has looked at it.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from chainfire.api.table import METHODS, Kind, Method
from chainfire.proto import maintenance_pb2
from chainfire.proto.kv_pb2 import RangeRequest, TxnRequest
from tests import peers
from tests.clusters import Cluster
from tests.fuzz.messages import Facts, Messages

CLIENTS = 24
ROUNDS = 8  # after each, everything that must hold is looked at
SPARED = {"MemberRemove", "MemberAdd", "MemberUpdate", "MemberPromote", "AuthEnable"}
OFTEN = {"etcdserverpb.KV", "etcdserverpb.Lease", "etcdserverpb.Watch"}
# These wait for others, by their nature: they may still wait when their deadline comes.
WAITING = {"Lock", "Campaign"}
PATIENCE_SECONDS = 60.0  # for what must end by itself
WAIT_SECONDS = 0.3  # for what need not
GROWTH_BYTES = 96 << 20  # of a member's own memory, beyond what a quarter of the calls left
# etcd's own words for what it answers with INTERNAL or UNKNOWN; the last are the client library's.
PROMISED = (
    "grpc: error unmarshalling request",
    '"leader" field must be provided',
    "election: no leader",
    "election: not leader",
    "mutex: session is expired",
    "election: session is expired",
    "etcdserver: unknown method",
    "Internal error from Core",
)
FAULTS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS}


class Found(AssertionError):
    """What must not happen did; the text tells the request, and the seed to send it again."""


@dataclass(slots=True)
class Totals:
    calls: int = 0
    streamed: int = 0  # messages received on streams
    codes: Counter[str] = field(default_factory=Counter)
    odd: list[str] = field(default_factory=list)  # requests with an answer that nobody promised


def run(cluster: Cluster, calls: int, seed: int, *, progress: bool = False) -> Totals:
    """Raises Found."""
    totals, facts = Totals(), Facts(members=[member.id for member in cluster.members])
    pids = [member.pid for member in cluster.members]
    memory: list[list[int]] = []
    with asyncio.Runner() as clients:
        for number in range(ROUNDS):
            rng = random.Random(seed * 1000 + number)
            clients.run(_round(cluster, facts, totals, calls // ROUNDS, rng))
            _mend(cluster)
            if [member.pid for member in cluster.running] != pids:
                raise Found(f"seed {seed}: a member died\n{cluster.log()[-6000:]}")
            facts.revision = cluster.wait_equal(seconds=PATIENCE_SECONDS)
            memory.append([member.memory_bytes()["RssAnon"] for member in cluster.members])
            if progress:
                sizes = ", ".join(f"{size >> 20}" for size in memory[-1])
                print(
                    f"{totals.calls:>10,} calls, revision {facts.revision:,}, MiB {sizes}",
                    flush=True,
                )
            if totals.odd:
                raise Found(f"seed {seed}:\n" + "\n".join(totals.odd[:20]))
    settled = memory[ROUNDS // 4]
    grown = max(now - then for now, then in zip(memory[-1], settled, strict=True))
    if grown > GROWTH_BYTES:
        raise Found(f"seed {seed}: a member grew by {grown >> 20} MiB")
    for member in cluster.members:
        if "Traceback" in member.log():
            raise Found(f"seed {seed}: {member.name} logged\n{_around(member.log(), 'Traceback')}")
    return totals


def _around(text: str, word: str) -> str:
    at = text.index(word)
    return text[max(0, at - 1000) : at + 3000]


def _mend(cluster: Cluster) -> None:
    """Clear alarms that calls have raised, as an operator would, and see that all members write."""
    asked = maintenance_pb2.AlarmRequest(action=maintenance_pb2.AlarmRequest.GET)
    held = cluster.leader(PATIENCE_SECONDS).call(
        "Maintenance/Alarm", asked, maintenance_pb2.AlarmResponse, PATIENCE_SECONDS
    )
    for alarm in held.alarms:
        cleared = maintenance_pb2.AlarmRequest(
            action=maintenance_pb2.AlarmRequest.DEACTIVATE,
            memberID=alarm.memberID,
            alarm=alarm.alarm,
        )
        cluster.members[0].call(
            "Maintenance/Alarm", cleared, maintenance_pb2.AlarmResponse, PATIENCE_SECONDS
        )
    for member in cluster.members:
        member.put(b"probe", member.name.encode(), PATIENCE_SECONDS)


async def _round(
    cluster: Cluster, facts: Facts, totals: Totals, calls: int, rng: random.Random
) -> None:
    left = iter(range(calls))
    async with asyncio.TaskGroup() as clients:
        for number in range(CLIENTS):
            target = cluster.endpoints[number % len(cluster.members)]
            client = _Client(target, random.Random(rng.random()), facts, totals)
            clients.create_task(client.go(left))


class _Client:
    def __init__(self, target: str, rng: random.Random, facts: Facts, totals: Totals) -> None:
        self._target = target
        self._rng = rng
        self._messages = Messages(rng, facts)
        self._facts = facts
        self._totals = totals
        self._methods = [method for method in METHODS.values() if method.name not in SPARED]
        self._weights = [5 if method.service in OFTEN else 1 for method in self._methods]

    async def go(self, left: Any) -> None:
        async with grpc.aio.insecure_channel(self._target) as channel:
            for _ in left:
                self._totals.calls += 1
                [method] = self._rng.choices(self._methods, self._weights)
                if method.kind is Kind.UNARY:
                    await self._unary(channel, method)
                else:
                    await self._stream(channel, method)

    def _body(self, method: Method) -> bytes:
        message = self._messages.fill(method.request_type())
        if isinstance(message, maintenance_pb2.AlarmRequest):
            message.alarm = maintenance_pb2.NOSPACE
            if self._rng.random() < 0.9:  # or nobody would write any more
                message.action = maintenance_pb2.AlarmRequest.DEACTIVATE
        body = bytes(message.SerializeToString())
        return self._messages.damaged(body) if self._rng.random() < 0.1 else body

    async def _unary(self, channel: grpc.aio.Channel, method: Method) -> None:
        body, path = self._body(method), method.path
        if method.name == "Alarm" and _raises_corrupt(body):
            return
        if self._rng.random() < 0.01:
            path += "x"
        waits = method.name in WAITING or self._is_of_later(method, body)
        call = channel.unary_unary(path)(body, timeout=WAIT_SECONDS if waits else PATIENCE_SECONDS)
        if self._rng.random() < 0.03:
            await asyncio.sleep(self._rng.random() * 0.01)
            call.cancel()
        self._judge(method, body, await call.code(), await call.details(), may_wait=waits)

    def _is_of_later(self, method: Method, body: bytes) -> bool:
        """Has a read that waits for a revision which may never come."""
        try:
            request = method.request_type.FromString(body)
        except DecodeError:
            return False
        return any(one.min_revision > self._facts.revision for one in _ranges(request))

    async def _stream(self, channel: grpc.aio.Channel, method: Method) -> None:
        bodies = [self._body(method) for _ in range(self._rng.randint(0, 8))]
        if method.kind is Kind.BIDI:
            call = channel.stream_stream(method.path)(self._feed(bodies), timeout=WAIT_SECONDS)
        else:
            bodies = bodies[:1] or [b""]
            call = channel.unary_stream(method.path)(bodies[0], timeout=PATIENCE_SECONDS)
        wanted = self._rng.randint(0, 20)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while wanted and (await call.read()) is not grpc.aio.EOF:
                    wanted -= 1
                    self._totals.streamed += 1
        except (TimeoutError, grpc.RpcError):
            pass
        call.cancel()
        self._judge(
            method, b"|".join(bodies), await call.code(), await call.details(), may_wait=True
        )

    async def _feed(self, bodies: Sequence[bytes]) -> AsyncIterator[bytes]:
        for body in bodies:
            yield body
            if self._rng.random() < 0.2:
                await asyncio.sleep(0.005)
        if self._rng.random() < 0.5:
            await asyncio.sleep(WAIT_SECONDS)

    def _judge(
        self,
        method: Method,
        body: bytes,
        code: grpc.StatusCode,
        details: str | None,
        *,
        may_wait: bool,
    ) -> None:
        self._totals.codes[code.name] += 1
        words = details or ""
        unpromised = code in FAULTS and not any(word in words for word in PROMISED)
        hung = code is grpc.StatusCode.DEADLINE_EXCEEDED and not may_wait
        if unpromised or hung:
            request = f"{method.path} {body.hex()[:4000]}"
            self._totals.odd.append(f"{request} -> {code.name} {words[:200]}")


def _ranges(request: Any) -> Iterator[RangeRequest]:
    if isinstance(request, RangeRequest):
        yield request
    elif isinstance(request, TxnRequest):
        for op in (*request.success, *request.failure):
            yield from _ranges(op.request_txn if op.HasField("request_txn") else op.request_range)


def _raises_corrupt(body: bytes) -> bool:
    try:
        return bool(maintenance_pb2.AlarmRequest.FromString(body).alarm == maintenance_pb2.CORRUPT)
    except DecodeError:
        return False


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz.live",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--calls", type=int, default=40_000, help="default: 40,000")
    parser.add_argument("--seed", type=int, default=1, help="default: 1")
    options = parser.parse_args()
    began = time.monotonic()
    with (
        TemporaryDirectory(prefix="fuzz-live-") as directory,
        Cluster(peers.need_chainfire(), Path(directory)) as cluster,
    ):
        try:
            totals = run(cluster.start(), options.calls, options.seed, progress=True)
        except Found as exc:
            print(f"FAILED {exc}")
            return 1
    codes = ", ".join(f"{name} {count:,}" for name, count in totals.codes.most_common())
    print(f"{totals.calls:,} calls answered ({codes}), {totals.streamed:,} messages of streams")
    print(f"all members live, serve and hold the same; {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
