"""Clients of a whole cluster, under whatever a test does to it; every answer is judged afterwards.

Each client asks any member: puts and compare-and-sets of values that nobody writes twice, reads at
every level. An error means that the outcome is unknown. The record goes to the checker of the
simulator (linearizability by revisions), against what a watch over everything says happened.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable

import grpc

from chainfire.sim.check_kv import check_kv
from chainfire.sim.history import (
    Compare,
    Level,
    Operation,
    Put,
    PutDone,
    Range,
    Txn,
    TxnDone,
)
from tests import report
from tests.cluster.feed import feed
from tests.cluster.wire import Request, ask
from tests.clusters import REDIALLING, Cluster
from tests.servers import ServerFailed

CALL_SECONDS = 1.0  # what hangs on a member that is cut off is given up soon, as unknown
KEYS = 24
CLIENTS = 6


class Load:
    def __init__(self, cluster: Cluster, number: int, operations: list[Operation]) -> None:
        self._cluster = cluster
        self._random = random.Random(number)
        self._clients = range(number * CLIENTS, (number + 1) * CLIENTS)
        self._values = (b"v%d-%d" % (number, count) for count in itertools.count())
        self._operations = operations
        self.acknowledged = 0  # writes that were answered
        self.running = True

    def go_on(self, writes: int = 100, seconds: float = 30.0) -> None:
        """Returns when so many more writes were acknowledged; called on a thread."""
        wanted, give_up = self.acknowledged + writes, time.monotonic() + seconds
        while self.acknowledged < wanted:
            if time.monotonic() > give_up:
                raise ServerFailed("clients got no further", self._cluster.log())
            time.sleep(0.01)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for client in self._clients:
                group.create_task(self._client(client))

    async def _client(self, client: int) -> None:
        targets = self._cluster.endpoints
        channels = [grpc.aio.insecure_channel(target, REDIALLING) for target in targets]
        try:
            while self.running:
                member = self._random.randrange(len(channels))
                if not await self._operation(client, member, channels[member]):
                    await asyncio.sleep(0.01)
        finally:
            for channel in channels:
                await channel.close(None)

    async def _operation(self, client: int, member: int, channel: grpc.aio.Channel) -> bool:
        key = b"k%02d" % self._random.randrange(KEYS)
        make = self._random.choice((self._put, self._put, self._cas, self._read))
        request = make(key)
        operation = Operation(client, member, client * 64 + member, time.monotonic_ns(), request)
        self._operations.append(operation)
        operation.response = response = await ask(channel, request, CALL_SECONDS)
        if response is None:
            return False
        operation.ret = time.monotonic_ns()
        if isinstance(response, PutDone) or (isinstance(response, TxnDone) and response.succeeded):
            self.acknowledged += 1
        return True

    def _put(self, key: bytes) -> Request:
        return Put(key, next(self._values))

    def _cas(self, key: bytes) -> Request:
        """On the newest revision that some client saw of the key; often too old."""
        value, version = next(self._values), self._random.randrange(1, 40)
        return Txn((Compare(key, "version", ">", version),), (Put(key, value), Range(key)))

    def _read(self, key: bytes) -> Request:
        return Range(key, level=self._random.choice(tuple(Level)))


# ── judging ─────────────────────────────────────────────────────────────────


class Arena:
    """A cluster and all that was ever done to it, so that one cluster serves many scenes."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._operations: list[Operation] = []
        self._loads = 0

    def under_load(self, faults: Callable[[Load], None]) -> None:
        """Load the cluster while `faults` runs on a thread, then judge everything there was."""
        self._loads += 1
        load = Load(self.cluster, self._loads, self._operations)

        async def scene() -> None:
            running = asyncio.create_task(load.run())
            try:
                await asyncio.to_thread(faults, load)
            finally:
                load.running = False
                await running

        asyncio.run(scene())
        revision = self.cluster.wait_equal()
        check_kv(self._operations, list(feed(self.cluster.running[0], 2, revision)))
        report.count("writes acknowledged by clusters under faults", load.acknowledged)
