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
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from chainfire.proto import kv_pb2, watch_pb2
from chainfire.sim.check_kv import check_kv
from chainfire.sim.history import (
    Change,
    Compare,
    Kv,
    Level,
    Operation,
    Put,
    PutDone,
    Range,
    RangeDone,
    Revision,
    Txn,
    TxnDone,
)
from tests import report
from tests.clusters import Cluster, Member
from tests.servers import ServerFailed

CALL_SECONDS = 1.0  # what hangs on a member that is cut off is given up soon, as unknown
KEYS = 24
CLIENTS = 6
_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
)


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
        channels = [grpc.aio.insecure_channel(target, _OPTIONS) for target in targets]
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
        path, message, reply, request, read = make(key)
        operation = Operation(client, member, client * 64 + member, time.monotonic_ns(), request)
        self._operations.append(operation)
        method = channel.unary_unary(
            f"/etcdserverpb.KV/{path}",
            request_serializer=lambda body: body.SerializeToString(),
            response_deserializer=reply.FromString,
        )
        try:
            answer = await method(message, timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError:
            return False
        operation.ret = time.monotonic_ns()
        operation.response = response = read(answer)
        if isinstance(response, PutDone) or (isinstance(response, TxnDone) and response.succeeded):
            self.acknowledged += 1
        return True

    def _put(self, key: bytes) -> tuple[Any, ...]:
        value = next(self._values)
        message = kv_pb2.PutRequest(key=key, value=value)
        return "Put", message, kv_pb2.PutResponse, Put(key, value), _put_done

    def _cas(self, key: bytes) -> tuple[Any, ...]:
        """On the newest revision that some client saw of the key; often too old."""
        value, version = next(self._values), self._random.randrange(1, 40)
        message = kv_pb2.TxnRequest(
            compare=[
                kv_pb2.Compare(
                    key=key,
                    target=kv_pb2.Compare.VERSION,
                    result=kv_pb2.Compare.GREATER,
                    version=version,
                )
            ],
            success=[
                kv_pb2.RequestOp(request_put=kv_pb2.PutRequest(key=key, value=value)),
                kv_pb2.RequestOp(request_range=kv_pb2.RangeRequest(key=key)),
            ],
        )
        request = Txn((Compare(key, "version", ">", version),), (Put(key, value), Range(key)))
        return "Txn", message, kv_pb2.TxnResponse, request, _txn_done

    def _read(self, key: bytes) -> tuple[Any, ...]:
        level = self._random.choice(tuple(Level))
        message = kv_pb2.RangeRequest(key=key, consistency=level.value)  # type: ignore[arg-type]
        return "Range", message, kv_pb2.RangeResponse, Range(key, level=level), _range_done


def _put_done(reply: Any) -> PutDone:
    return PutDone(reply.header.revision)


def _range_done(reply: Any) -> RangeDone:
    rows = tuple(map(_kv, reply.kvs))
    return RangeDone(reply.header.revision, rows, reply.more, reply.count)


def _txn_done(reply: Any) -> TxnDone:
    if not reply.succeeded:
        return TxnDone(reply.header.revision, False, ())
    _put, read = reply.responses
    revision = reply.header.revision
    found = tuple(map(_kv, read.response_range.kvs))
    return TxnDone(
        revision,
        True,
        (PutDone(revision), RangeDone(revision, found, False, read.response_range.count)),
    )


def _kv(row: Any) -> Kv:
    return Kv(row.key, row.value, row.create_revision, row.mod_revision, row.version, row.lease)


# ── judging ─────────────────────────────────────────────────────────────────


def feed(member: Member, until: int) -> Iterator[Revision]:
    """All that happened, revision by revision, by a watch on one member."""
    with grpc.insecure_channel(member.target) as channel:
        watch = channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=lambda body: body.SerializeToString(),
            response_deserializer=watch_pb2.WatchResponse.FromString,
        )
        create = watch_pb2.WatchCreateRequest(key=b"\0", range_end=b"\0", start_revision=1)
        responses = watch(iter([watch_pb2.WatchRequest(create_request=create)]), timeout=60)
        for response in responses:  # which never splits a revision
            for main, group in itertools.groupby(
                response.events, lambda event: event.kv.mod_revision
            ):
                yield Revision(main, tuple(Change(_kv(e.kv), e.type == 1) for e in group))
                if main >= until:
                    return


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
        check_kv(self._operations, list(feed(self.cluster.running[0], revision)))
        report.count("writes acknowledged by clusters under faults", load.acknowledged)
