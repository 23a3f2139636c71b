"""Concurrent writers on one member until somebody kills it; every answer is written down.

The writers keep rules that a reader can check without knowing the order of things: the keys of a
group always carry the same value, of two token keys exactly one exists, a counter is put by one
writer only, with one more each time. Values are never used twice.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from chainfire.proto import kv_pb2

KEYS, GROUPS, TOKENS, COUNTERS = 120, 12, 6, 8
GROUP_PARTS = (b"/a", b"/b", b"/c")
COMPACT_BEHIND = 80


@dataclass(slots=True)
class Write:
    """One change to one key. `revision` None: no answer came, it may have happened or not."""

    key: bytes
    value: bytes | None  # None: deleted
    revision: int | None = None


@dataclass(slots=True)
class History:
    """What was sent since the directory was empty, and the most that was ever answered."""

    writes: dict[bytes, list[Write]] = field(default_factory=dict)
    seen_revision: int = 1
    compacted: int = 0  # highest acknowledged compaction
    asked_compaction: int = 0  # highest one sent
    acknowledged: int = 0
    counters: dict[bytes, int] = field(default_factory=dict)

    def add(self, *writes: Write) -> None:
        for write in writes:
            self.writes.setdefault(write.key, []).append(write)


class Kv:
    """etcd's KV service on one channel; messages in and out."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        def method(name: str, reply: Any) -> Callable[[Any], Awaitable[Any]]:
            call = channel.unary_unary(
                f"/etcdserverpb.{name}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=reply.FromString,
            )
            return lambda message: call(message, timeout=20)

        self.range = method("KV/Range", kv_pb2.RangeResponse)
        self.put = method("KV/Put", kv_pb2.PutResponse)
        self.delete = method("KV/DeleteRange", kv_pb2.DeleteRangeResponse)
        self.txn = method("KV/Txn", kv_pb2.TxnResponse)
        self.compact = method("KV/Compact", kv_pb2.CompactionResponse)


def put_op(key: bytes, value: bytes) -> Any:
    return kv_pb2.RequestOp(request_put=kv_pb2.PutRequest(key=key, value=value))


def delete_op(key: bytes) -> Any:
    return kv_pb2.RequestOp(request_delete_range=kv_pb2.DeleteRangeRequest(key=key))


def group_keys(number: int) -> list[bytes]:
    return [b"group/%d" % number + part for part in GROUP_PARTS]


def token_keys(number: int) -> tuple[bytes, bytes]:
    return b"token/%d/x" % number, b"token/%d/y" % number


class Load:
    """Runs until `stop()` or until the server is gone."""

    def __init__(self, history: History, rng: random.Random, name: str) -> None:
        self.history = history
        self.random = rng
        self.values = (b"%s-%d" % (name.encode(), i) for i in itertools.count())
        self.running = True
        self.acknowledged = 0
        self.kill_after = 0
        self.enough = asyncio.Event()  # so many acknowledged, or the server is gone

    async def run(self, target: str, writers: int, kill: Callable[[], None], after: int) -> None:
        """Load until `after` acknowledged writes, then call `kill` with calls in flight."""
        self.kill_after = after
        async with grpc.aio.insecure_channel(target) as channel:
            kv = Kv(channel)
            makers = [self._puts, self._puts, self._groups, self._tokens, self._deletes]
            jobs = [self._loop(kv, makers[i % len(makers)]) for i in range(writers)]
            jobs += [self._counter(kv, b"counter/%d" % i) for i in range(COUNTERS)]
            jobs += [self._compactions(kv), self._killer(kill)]
            await asyncio.wait_for(asyncio.gather(*jobs), 60)

    async def _killer(self, kill: Callable[[], None]) -> None:
        await self.enough.wait()
        kill()

    async def _loop(self, kv: Kv, step: Callable[[Kv], Awaitable[None]]) -> None:
        while self.running:
            await step(kv)

    async def _send(self, call: Awaitable[Any], writes: Sequence[Write]) -> Any:
        """Await an answer and settle `writes` with its revision; None when the server is gone."""
        self.history.add(*writes)
        try:
            reply = await call
        except grpc.aio.AioRpcError as error:
            if error.details() == "etcdserver: too many requests":
                return None
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                raise
            self.running = False
            self.enough.set()
            return None
        revision = reply.header.revision
        self.history.seen_revision = max(self.history.seen_revision, revision)
        self.history.acknowledged += 1
        self.acknowledged += 1
        if self.acknowledged >= self.kill_after:
            self.enough.set()
        for write in writes:
            write.revision = revision
        return reply

    async def _puts(self, kv: Kv) -> None:
        write = Write(b"key/%d" % self.random.randrange(KEYS), next(self.values))
        await self._send(kv.put(kv_pb2.PutRequest(key=write.key, value=write.value)), [write])

    async def _deletes(self, kv: Kv) -> None:
        write = Write(b"key/%d" % self.random.randrange(KEYS), None)
        await self._send(kv.delete(kv_pb2.DeleteRangeRequest(key=write.key)), [write])

    async def _groups(self, kv: Kv) -> None:
        value = next(self.values)
        writes = [Write(key, value) for key in group_keys(self.random.randrange(GROUPS))]
        request = kv_pb2.TxnRequest(success=[put_op(w.key, value) for w in writes])
        await self._send(kv.txn(request), writes)

    async def _tokens(self, kv: Kv) -> None:
        """Whichever of the two exists goes, the other comes; the state decides, not the client."""
        x, y = token_keys(self.random.randrange(TOKENS))
        value = next(self.values)
        there = kv_pb2.Compare(key=x, target="VERSION", result="GREATER", version=0)
        request = kv_pb2.TxnRequest(
            compare=[there],
            success=[delete_op(x), put_op(y, value)],
            failure=[delete_op(y), put_op(x, value)],
        )
        await self._send(kv.txn(request), [])

    async def _counter(self, kv: Kv, key: bytes) -> None:
        while self.running:
            number = self.history.counters.get(key, 0) + 1
            self.history.counters[key] = number
            write = Write(key, b"%d" % number)
            await self._send(kv.put(kv_pb2.PutRequest(key=key, value=write.value)), [write])

    async def _compactions(self, kv: Kv) -> None:
        while self.running:
            await asyncio.sleep(0.05)
            revision = self.history.seen_revision - COMPACT_BEHIND
            if not self.running or revision <= self.history.asked_compaction:
                continue
            self.history.asked_compaction = revision
            physical = self.random.random() < 0.3
            request = kv_pb2.CompactionRequest(revision=revision, physical=physical)
            if await self._send(kv.compact(request), []) is not None:
                self.history.compacted = revision
