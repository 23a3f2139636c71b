"""Everything that goes on at once in a run of watchers and lease holders, on one event loop.

Writers, compaction every 100 ms, watchers of all tastes, lessees, and somebody who notes who
leads; faults come from a thread of the test. In the end writers stop, all watchers hear the rest,
all leases run out, and the record is judged.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any

import grpc

from chainfire.proto import lease_pb2, maintenance_pb2
from chainfire.proto.watch_pb2 import WatchCreateRequest
from chainfire.sim.history import (
    Compact,
    CompactDone,
    Compare,
    Delete,
    Level,
    Operation,
    Put,
    Range,
    RangeDone,
    Response,
    Revision,
    Txn,
    Violation,
)
from tests.cluster.judging import Led, Record
from tests.cluster.lessees import SERVICE, Lessee
from tests.cluster.watching import ALL, Tally, Taste, Watcher
from tests.cluster.wire import Request, ask
from tests.clusters import REDIALLING, Cluster
from tests.servers import ServerFailed

ASK_SECONDS = 1.5
PATIENCE_SECONDS = 200.0  # on a machine that twenty others use
COMPACTION_SECONDS = 0.1
COMPACTIONS_MAX = 20  # under way at once
WRITERS, LESSEES = 6, 16
KEYS, BIG_KEYS = 48, 12
BIG_BYTES = 100_000
LAGS = (20, 20, 4000)  # revisions that compaction leaves, each for a while
LAG_SECONDS = 4.0
NOPUT, NODELETE = WatchCreateRequest.NOPUT, WatchCreateRequest.NODELETE
_OPTIONS = (*REDIALLING, ("grpc.max_receive_message_length", -1))
_SMALL_WINDOWS = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1 << 16))

SOME, HALF, ONE, BIG = (b"k", b"l"), (b"k", b"k24"), (b"k07", b""), (b"big/", b"big0")
TASTES = (
    Taste([SOME, ONE, HALF], patient=True, progress_notify=True),
    Taste([SOME, HALF, (b"k05", b"k09")], prev_kv=True, requires_leader=True),
    Taste([SOME, ONE], looks_back=3000),
    Taste([SOME, HALF], looks_back=300, prev_kv=True),
    Taste([SOME, ONE], filters=(NOPUT,)),
    Taste([SOME, (b"l/", b"l0")], filters=(NODELETE,), requires_leader=True),
    Taste([SOME, HALF], slow=True, patient=True),
    Taste([SOME, HALF], slow=True, looks_back=1000),
    Taste([SOME], slow=True, progress_notify=True),
    Taste([BIG], fragment=True, prev_kv=True, patient=True),
    Taste([BIG, ONE], fragment=True, looks_back=500),
    Taste([(b"l/", b"l0")], prev_kv=True),
    Taste([SOME, HALF, ONE]),
    Taste([(b"%s%02d" % (b"k", number), b"") for number in range(40)], patient=True),
)


class Scene:
    def __init__(self, cluster: Cluster, rates: Sequence[float], seed: int = 1) -> None:
        self.record = Record(rates=tuple(rates))
        self.tally = Tally()
        self.is_ending = False  # nobody writes any more, no fault strikes
        self.is_over = False
        self.top = 1  # the feed has everything up to here
        self.compactions = 0
        self._cluster = cluster
        self._rates = rates
        self._values = (b"v%d" % number for number in itertools.count())
        self._seed = seed
        self._watchers: list[Watcher] = []
        self._newest = 1 << 62  # revision, as far as is known
        self._leads: tuple[int, int] = (0, -1)  # the newest term, and who leads in it

    async def run(self, faults: Callable[[Scene], None]) -> Record:
        """`faults` runs on a thread; when it returns, the scene comes to its end."""
        self.channels = self._open(_OPTIONS)
        self.slow_channels = self._open((*_OPTIONS, *_SMALL_WINDOWS))
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(each) for each in self._workers()]
                for number, taste in enumerate((*self._recorders(), *TASTES)):
                    watcher = Watcher(self, number, taste, self.tally)
                    self._watchers.append(watcher)
                    group.create_task(watcher.run())
                await asyncio.to_thread(faults, self)
                self.is_ending = True
                await asyncio.wait(tasks)
                await self._end()
                self.is_over = True
        finally:
            self.is_ending = self.is_over = True
            for channel in (*self.channels, *self.slow_channels):
                await channel.close(None)
        return self.record

    def _open(self, options: Sequence[tuple[str, int]]) -> list[grpc.aio.Channel]:
        targets = self._cluster.endpoints
        return [grpc.aio.insecure_channel(target, options) for target in targets]

    def _recorders(self) -> Iterator[Taste]:
        """One at each member: they say what the truth is."""
        for number in range(len(self.channels)):
            yield Taste([ALL], patient=True, member=number)

    def _workers(self) -> Iterator[Coroutine[Any, Any, None]]:
        for number in range(WRITERS):
            yield self._write(number)
        for number in range(LESSEES):
            yield Lessee(self, number).run()
        yield self._compact()
        for number in range(len(self.channels)):
            yield self._look_who_leads(number)

    async def _end(self) -> None:
        """Until everybody has heard of everything, and all leases have run out."""
        await self._until(lambda: not self.record.alive, self._list_leases, "leases stay")
        self.record.ended_at = time.monotonic_ns()
        await self._until(self._all_is_heard, self._ask_newest, "watchers do not hear all")

    def _all_is_heard(self) -> bool:
        everybody = all(watcher.has_heard_all for watcher in self._watchers)
        return everybody and self.top >= self._newest

    async def _until(
        self,
        done: Callable[[], bool],
        look: Callable[[], Awaitable[None]],
        what: str,
    ) -> None:
        give_up = time.monotonic() + PATIENCE_SECONDS
        while True:
            await look()
            if done():
                return
            if time.monotonic() > give_up:
                raise Violation(f"{what}: {self.record.alive}; {self.behind()}")
            await asyncio.sleep(0.1)

    def behind(self) -> str:
        late = [w for w in self._watchers if not w.has_heard_all]
        return f"top {self.top}, " + ", ".join(f"{w._number} at {w.bookmark}" for w in late)

    async def _list_leases(self) -> None:
        try:
            body = await self.channels[0].unary_unary(SERVICE + "LeaseLeases")(b"", timeout=5)
        except grpc.aio.AioRpcError:
            self.record.alive = [-1]
            return
        answer = lease_pb2.LeaseLeasesResponse.FromString(body)
        self.record.alive = [status.ID for status in answer.leases]

    async def _ask_newest(self) -> None:
        """A linearizable read says up to where the feed must come."""
        answer = await self.carry_out(0, Range(b"k00"), random.Random(0))
        if isinstance(answer, RangeDone):
            self._newest = answer.revision

    # ── what others need ────────────────────────────────────────────────────

    def any_channel(self, dice: random.Random) -> grpc.aio.Channel:
        return self.channels[dice.randrange(len(self.channels))]

    def value(self) -> bytes:
        return next(self._values)

    def acknowledged(self) -> None:
        self.record.acknowledged_at.append(time.monotonic_ns())

    async def carry_out(
        self, client: int, request: Request, dice: random.Random
    ) -> Response | None:
        member = dice.randrange(len(self.channels))
        operation = Operation(client, member, client * 64 + member, time.monotonic_ns(), request)
        self.record.operations.append(operation)
        answer = await ask(self.channels[member], request, ASK_SECONDS)
        if answer is not None:
            operation.ret, operation.response = time.monotonic_ns(), answer
        return answer

    def record_feed(self, revisions: Sequence[Revision]) -> None:
        record, now = self.record, time.monotonic_ns()
        for revision in revisions:
            known = record.feed.setdefault(revision.main, revision)
            if known != revision:
                raise Violation(f"members tell different things: {known} and {revision}")
            record.first_heard_at.setdefault(revision.main, now)
        while self.top + 1 in record.feed:
            self.top += 1

    # ── the load ────────────────────────────────────────────────────────────

    async def _write(self, number: int) -> None:
        dice = random.Random(self._seed * 100 + number)
        while not self.is_ending:
            answer = await self.carry_out(number, self._request(dice), dice)
            if answer is None:
                await asyncio.sleep(0.01)
            else:
                self.acknowledged()

    def _request(self, dice: random.Random) -> Request:
        roll, key = dice.random(), self._key(dice)
        if roll < 0.1:
            return Put(key, self.value() + b" " * dice.randrange(300), want_prev=roll < 0.02)
        if roll < 0.15:
            return Delete(key, self._key(dice) if roll < 0.11 else b"", want_prev=roll < 0.12)
        if roll < 0.2:
            level = dice.choice(tuple(Level))
            return Range(b"k", b"l", limit=5, level=level)
        if roll < 0.203:
            keys = [b"big/%d" % n for n in range(BIG_KEYS)]
            filler = b"x" * BIG_BYTES
            return Txn((), tuple(Put(key, self.value() + filler) for key in keys))
        keys = dice.sample(range(KEYS), dice.randint(2, 14))
        puts = tuple(Put(b"k%02d" % k, self.value() + b" " * dice.randrange(80)) for k in keys)
        compare = Compare(key, "version", dice.choice("><"), dice.randrange(3))
        return Txn((compare,) if roll < 0.4 else (), puts, (Put(key, self.value()),))

    def _key(self, dice: random.Random) -> bytes:
        return b"k%02d" % dice.randrange(KEYS)

    async def _compact(self) -> None:
        """One after the other, however long each takes: some are asked for at once."""
        dice = random.Random(self._seed)
        started = time.monotonic()
        under_way: set[asyncio.Task[None]] = set()
        while not self.is_ending:
            await asyncio.sleep(COMPACTION_SECONDS)
            lag = LAGS[int((time.monotonic() - started) / LAG_SECONDS) % len(LAGS)]
            revision = self.top - dice.randrange(lag)
            if revision > 1 and len(under_way) < COMPACTIONS_MAX:
                task = asyncio.create_task(self._compact_to(revision, dice))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
        if under_way:
            await asyncio.wait(under_way)

    async def _compact_to(self, revision: int, dice: random.Random) -> None:
        answer = await self.carry_out(99, Compact(revision), dice)
        self.compactions += isinstance(answer, CompactDone)

    # ── who leads ───────────────────────────────────────────────────────────

    async def _look_who_leads(self, number: int) -> None:
        ask_status = self.channels[number].unary_unary("/etcdserverpb.Maintenance/Status")
        while not self.is_ending:
            await asyncio.sleep(0.1)
            try:
                body = await ask_status(b"", timeout=0.5)
            except grpc.aio.AioRpcError:
                continue
            status = maintenance_pb2.StatusResponse.FromString(body)
            self._saw(status.raftTerm, status.leader)

    def _saw(self, term: int, leader: int) -> None:
        names = [member.id for member in self._cluster.members]
        if leader in names and term >= self._leads[0]:
            at = names.index(leader)
            self._leads = term, at
            self.record.led.append(Led(time.monotonic_ns(), term, self._rates[at]))

    # ── for the thread of faults ────────────────────────────────────────────

    @property
    def leads(self) -> tuple[int, int]:
        """The newest term, and the number of the member that leads in it."""
        return self._leads

    def go_on(self, writes: int = 100, seconds: float = PATIENCE_SECONDS) -> None:
        """Returns when so many more calls were acknowledged."""
        wanted = len(self.record.acknowledged_at) + writes
        self.until(lambda: len(self.record.acknowledged_at) >= wanted, "no progress", seconds)

    def until(self, done: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
        give_up = time.monotonic() + seconds
        while not done():
            if self.is_over:
                raise ServerFailed("the scene has ended", "")
            if time.monotonic() > give_up:
                raise ServerFailed(f"{what} within {seconds} s", self._cluster.log())
            time.sleep(0.02)
