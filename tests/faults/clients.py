"""What clients of a cluster do while faults strike: a record of everything for the checkers.

Registers, compare-and-set, lists that grow, transactions and scans over several keys, deletes,
reads of the past; watches that resume where they broke off; leases that are kept and dropped;
locks that are queued for. Every client asks any member. An error means that the outcome is unknown,
but for those that say that nothing was done. All keys of one kind share a prefix:

    r/  registers and lists    w/  leases' keys    lock/  lines
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import grpc

from chainfire.proto import lease_pb2, lock_pb2, watch_pb2
from chainfire.sim.history import (
    Compare,
    Delete,
    History,
    Kv,
    LeaseCall,
    Level,
    Operation,
    Put,
    PutDone,
    Range,
    RangeDone,
    Refused,
    Request,
    Response,
    Txn,
    TxnDone,
    Watch,
    WatchResponse,
)
from tests.cluster.wire import ask, event_of
from tests.clusters import REDIALLING

CALL_SECONDS: Final = 1.0  # what hangs on a member that is cut off is given up soon, as unknown
REGISTERS: Final = 24
MEMBERS_MAX: Final = 16
LEASE_SECONDS: Final = (2, 3, 5)
_NANOSECONDS: Final = 1_000_000_000


@dataclass(slots=True, frozen=True)
class LockHeld:
    """An answer of the Lock service."""

    prefix: bytes
    key: bytes
    revision: int  # the header's: the key was first in its line then


@dataclass(slots=True)
class Record:
    history: History = field(default_factory=History)
    locks: list[LockHeld] = field(default_factory=list)
    lease_keys_gone: dict[int, int] = field(default_factory=dict)  # lease -> when a watch heard it
    acknowledged: int = 0  # writes that were answered
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1


class Clients:
    """`run` until `stop`; `targets` are all members' addresses, those of joiners come later."""

    def __init__(self, targets: Sequence[str], seed: int) -> None:
        self.record = Record()
        self._targets = list(targets)
        self._seed = seed
        self._running = True
        self._channels: list[list[grpc.aio.Channel]] = []
        self._numbers = itertools.count()
        self._values = (b"v%d-%d" % (seed, count) for count in itertools.count())
        self.highest = 1  # revision in any answer

    def stop(self) -> None:
        self._running = False

    def add_target(self, target: str) -> None:
        """From now on new calls may go there, too. Called from any thread."""
        self._targets.append(target)

    async def run(self) -> None:
        kinds: list[tuple[Callable[[_Client], Awaitable[None]], int]] = [
            (_Client.use_registers, 5),
            (_Client.use_lists, 2),
            (_Client.use_leases, 3),
            (_Client.use_locks, 3),
            (_Client.watch, 4),
        ]
        clients = [
            _Client(self, next(self._numbers), self._seed) for _, n in kinds for _ in range(n)
        ]
        works = [work for work, n in kinds for _ in range(n)]
        try:
            async with asyncio.TaskGroup() as group:
                for client, work in zip(clients, works, strict=True):
                    group.create_task(work(client))
        finally:
            for client in clients:
                await client.aclose()

    @property
    def running(self) -> bool:
        return self._running

    def new_value(self) -> bytes:
        return next(self._values)

    @property
    def targets(self) -> list[str]:
        return self._targets


class _Client:
    def __init__(self, clients: Clients, number: int, seed: int) -> None:
        self._all = clients
        self._record = clients.record
        self._number = number
        self._random = random.Random(f"{seed}/{number}")
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._seen: dict[bytes, Kv] = {}  # of lists, as last read

    async def aclose(self) -> None:
        for channel in self._channels.values():
            await channel.close(None)

    # ── registers, lists ────────────────────────────────────────────────────

    async def use_registers(self) -> None:
        choices = (self._put, self._put, self._put_if, self._several, self._delete, self._read)
        choices += (self._read, self._scan, self._past)
        while self._all.running:
            request = self._random.choice(choices)()
            if await self._operate(request) is None:
                await asyncio.sleep(0.01)

    async def use_lists(self) -> None:
        """Append to what was read: one that overlooks another's element is noticed."""
        while self._all.running:
            key = b"r/list%d" % self._random.randrange(3)
            found = await self._operate(Range(key))
            if not isinstance(found, RangeDone):
                await asyncio.sleep(0.01)
                continue
            kv = found.rows[0] if found.rows else Kv(key, b"", 0, 0, 0)
            value = (kv.value + b"," if kv.value else b"") + self._all.new_value()
            if len(value) > 2000:
                value = self._all.new_value()
            await self._operate(
                Txn((Compare(key, "mod", "=", kv.mod),), (Put(key, value),), (Range(key),))
            )

    def _key(self) -> bytes:
        return b"r/%02d" % self._random.randrange(REGISTERS)

    def _put(self) -> Request:
        return Put(self._key(), self._all.new_value(), want_prev=self._random.random() < 0.3)

    def _put_if(self) -> Request:
        """On some version of the key, most often a wrong one."""
        key = self._key()
        compare = Compare(key, "version", ">", self._random.randrange(1, 40))
        return Txn((compare,), (Put(key, self._all.new_value()), Range(key)), (Range(key),))

    def _several(self) -> Request:
        """Two keys that change together, and one that goes, whatever was there."""
        first, second, third = self._random.sample(range(REGISTERS), 3)
        value = self._all.new_value()
        return Txn(
            (Compare(b"r/%02d" % first, "mod", "<", self._all.highest + 1000),),
            (
                Put(b"r/%02d" % first, value + b"a"),
                Put(b"r/%02d" % second, value + b"b"),
                Delete(b"r/%02d" % third),
                Range(b"r/", b"r0", limit=3),
            ),
        )

    def _delete(self) -> Request:
        if self._random.random() < 0.2:
            low = self._random.randrange(REGISTERS)
            return Delete(b"r/%02d" % low, b"r/%02d" % (low + 3), want_prev=True)
        return Delete(self._key())

    def _read(self) -> Request:
        return Range(self._key(), level=self._random.choice(tuple(Level)))

    def _scan(self) -> Request:
        limit = self._random.choice((0, 0, 5))
        return Range(b"r/", b"r0", limit=limit, level=self._random.choice(tuple(Level)))

    def _past(self) -> Request:
        revision = max(1, self._all.highest - self._random.randrange(200))
        return Range(b"r/", b"r0", revision=revision)

    async def _operate(self, request: Request) -> Response | None:
        """None: the outcome is unknown."""
        member, channel = self._any()
        session = self._number * MEMBERS_MAX + member
        operation = Operation(self._number, member, session, time.monotonic_ns(), request)
        self._record.history.operations.append(operation)
        operation.response = response = await ask(channel, request, CALL_SECONDS)
        if response is None:
            return None
        operation.ret = time.monotonic_ns()
        if isinstance(response, Refused):
            return response
        self._all.highest = max(self._all.highest, response.revision)
        if isinstance(response, PutDone) or (isinstance(response, TxnDone) and response.succeeded):
            self._record.acknowledged += 1
        self._record.count(type(request).__name__)
        return response

    # ── leases ──────────────────────────────────────────────────────────────

    async def use_leases(self) -> None:
        """Grant, hang a key on it, keep it for a while, then revoke it or let it end."""
        while self._all.running:
            lease = await self._grant(self._random.choice(LEASE_SECONDS))
            if lease is None:
                await asyncio.sleep(0.05)
                continue
            await self._operate(Put(b"w/%d" % lease, self._all.new_value(), lease))
            for _ in range(self._random.randrange(6)):
                await asyncio.sleep(self._random.uniform(0.1, 0.8))
                if not self._all.running or not await self._keep(lease):
                    break
            if self._random.random() < 0.3:
                await self._revoke(lease)

    async def _grant(self, seconds: int) -> int | None:
        lease = self._random.getrandbits(62) | 1
        call = LeaseCall(lease, time.monotonic_ns(), ttl=seconds * _NANOSECONDS)
        self._record.history.leases.append(call)
        request = lease_pb2.LeaseGrantRequest(ID=lease, TTL=seconds)
        try:
            answer = await self._call(
                self._any()[1], "Lease/LeaseGrant", request, lease_pb2.LeaseGrantResponse
            )
        except grpc.aio.AioRpcError:
            return None
        call.ret, call.ok, call.ttl = time.monotonic_ns(), True, answer.TTL * _NANOSECONDS
        self._record.count("lease granted")
        return lease

    async def _keep(self, lease: int) -> bool:
        """False: it is not there any more."""
        call = LeaseCall(lease, time.monotonic_ns(), ttl=max(LEASE_SECONDS) * _NANOSECONDS)
        call.renews = True
        self._record.history.leases.append(call)
        stream = self._any()[1].stream_stream(
            "/etcdserverpb.Lease/LeaseKeepAlive",
            request_serializer=lambda body: body.SerializeToString(),
            response_deserializer=lease_pb2.LeaseKeepAliveResponse.FromString,
        )(timeout=CALL_SECONDS)
        try:
            await stream.write(lease_pb2.LeaseKeepAliveRequest(ID=lease))
            answer = await stream.read()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return True
        finally:
            stream.cancel()
        if answer is grpc.aio.EOF:
            return True
        call.ret, call.ok = time.monotonic_ns(), answer.TTL > 0
        call.ttl = answer.TTL * _NANOSECONDS or call.ttl
        self._record.count("lease kept")
        return bool(call.ok)

    async def _revoke(self, lease: int) -> None:
        call = LeaseCall(lease, time.monotonic_ns())
        self._record.history.leases.append(call)
        request = lease_pb2.LeaseRevokeRequest(ID=lease)
        try:
            await self._call(
                self._any()[1], "Lease/LeaseRevoke", request, lease_pb2.LeaseRevokeResponse
            )
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                return
            call.ok = False
        else:
            call.ok = True
            self._record.count("lease revoked")
        call.ret = time.monotonic_ns()

    # ── locks ───────────────────────────────────────────────────────────────

    async def use_locks(self) -> None:
        """Stand in line by hand, as etcd's recipes do, and let the server say when to go on."""
        while self._all.running:
            prefix = b"lock/%d" % self._random.randrange(2)
            lease = await self._grant(max(LEASE_SECONDS))
            if lease is None:
                await asyncio.sleep(0.05)
                continue
            key = line_key(prefix, lease)
            entry = Put(key, self._all.new_value(), lease)
            if isinstance(
                await self._operate(Txn((Compare(key, "create", "=", 0),), (entry,))), TxnDone
            ):
                await self._hold(prefix, entry)
                await self._operate(Delete(key))
            await self._revoke(lease)

    async def _hold(self, prefix: bytes, entry: Put) -> None:
        request = lock_pb2.LockRequest(name=prefix, lease=entry.lease)
        member, channel = self._any()
        called = time.monotonic_ns()
        session = self._number * MEMBERS_MAX + member
        operations = self._record.history.operations
        # A Lock writes the key that it finds there once more, before it tells that it has won.
        operations.append(Operation(self._number, member, session, called, entry))
        lock = channel.unary_unary(
            "/v3lockpb.Lock/Lock",
            request_serializer=lambda body: body.SerializeToString(),
            response_deserializer=lock_pb2.LockResponse.FromString,
        )
        try:
            answer = await lock(request, timeout=4 * CALL_SECONDS)
        except grpc.aio.AioRpcError:
            operations += [
                Operation(self._number, member, session, called, request)
                for request in left_by_lock(entry.key, entry.lease)
            ]
            return
        self._record.locks.append(LockHeld(prefix, answer.key, answer.header.revision))
        self._record.count("lock held")
        await asyncio.sleep(self._random.uniform(0, 0.1))

    # ── watches ─────────────────────────────────────────────────────────────

    async def watch(self) -> None:
        """Each stream goes on where the last one broke off; now and then it is read slowly."""
        key, end = self._random.choice(((b"r/", b"r0"), (b"\0", b"\0"), (b"w/", b"w0")))
        if self._number % 4 == 0:
            key, end = b"w/", b"w0"  # somebody always looks at the leases
        start = 0
        while self._all.running:
            member, channel = self._any()
            seen = Watch(self._number, member, key, end, start)
            seen.want_prev = self._random.random() < 0.5
            self._record.history.watches.append(seen)
            try:
                await self._read_watch(seen, channel)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await asyncio.sleep(0.02)
            start = _next_start(seen) or start

    async def _read_watch(self, seen: Watch, channel: grpc.aio.Channel) -> None:
        stream = channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=lambda body: body.SerializeToString(),
            response_deserializer=watch_pb2.WatchResponse.FromString,
        )()
        give_up = time.monotonic() + self._random.uniform(1, 6)
        try:
            create = watch_pb2.WatchCreateRequest(
                key=seen.key, range_end=seen.end, start_revision=seen.start, prev_kv=seen.want_prev
            )
            await stream.write(watch_pb2.WatchRequest(create_request=create))
            while self._all.running and time.monotonic() < give_up:
                if self._random.random() < 0.02:
                    await asyncio.sleep(0.5)
                if self._random.random() < 0.05:
                    progress = watch_pb2.WatchRequest(
                        progress_request=watch_pb2.WatchProgressRequest()
                    )
                    await stream.write(progress)
                try:
                    response = await asyncio.wait_for(stream.read(), CALL_SECONDS)
                except TimeoutError:
                    return  # a member that is cut off says nothing, and the stream is cancelled
                if response is grpc.aio.EOF or not self._take(seen, response):
                    return
        finally:
            stream.cancel()

    def _take(self, seen: Watch, response: Any) -> bool:
        """False: it was cancelled."""
        now, revision = time.monotonic_ns(), response.header.revision
        if response.created and not response.canceled:
            seen.created = revision
            return True
        if response.canceled:
            if response.compact_revision:
                seen.responses.append(
                    WatchResponse(now, revision, compacted=response.compact_revision)
                )
            return False
        events = tuple(map(event_of, response.events))
        seen.responses.append(WatchResponse(now, revision, events))
        for event in events:
            self._record.count("event seen")
            if event.deleted and event.kv.key.startswith(b"w/"):
                lease = int(event.kv.key[2:])
                self._record.lease_keys_gone.setdefault(lease, now)
        return True

    # ── calls ───────────────────────────────────────────────────────────────

    def _any(self) -> tuple[int, grpc.aio.Channel]:
        targets = self._all.targets
        member = self._random.randrange(len(targets))
        target = targets[member]
        if target not in self._channels:
            self._channels[target] = grpc.aio.insecure_channel(target, REDIALLING)
        return member, self._channels[target]

    async def _call(self, channel: grpc.aio.Channel, path: str, message: Any, reply: Any) -> Any:
        method = channel.unary_unary(
            f"/etcdserverpb.{path}",
            request_serializer=lambda body: body.SerializeToString(),
            response_deserializer=reply.FromString,
        )
        return await method(message, timeout=CALL_SECONDS)


def line_key(prefix: bytes, lease: int) -> bytes:
    return b"%s/%x" % (prefix, lease)


def left_by_lock(key: bytes, lease: int) -> tuple[Txn, Txn]:
    """What a Lock without an answer may do, late: enter the line, if the key is not there; leave.

    What it enters has no value, and it takes away nothing else.
    """
    enter = Txn((Compare(key, "create", "=", 0),), (Put(key, b"", lease),))
    leave = Txn((Compare(key, "value", "=", b""),), (Delete(key),))
    return enter, leave


def _next_start(seen: Watch) -> int:
    """The revision that a stream which goes on from here must ask for."""
    last = seen.responses[-1] if seen.responses else None
    if last is not None and last.compacted:
        return last.compacted
    events = [event for response in seen.responses for event in response.events]
    if events:
        return events[-1].kv.mod + 1
    return seen.created + 1 if seen.created and not seen.start else 0
