"""Clients: they call, wait or give up, note what they saw, and call again.

Each call is an Operation of the history. Bursts arrive together, so that
turns carry several; a client that gives up never learns the outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final, Protocol

from chainfire.errors import ChainfireError, RequestError
from chainfire.mvcc.read import range_steps, run
from chainfire.sim.history import (
    NEVER,
    Compact,
    Compare,
    Delete,
    DeleteDone,
    History,
    Kv,
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
)
from chainfire.sim.member import SimMember
from chainfire.sim.schedule import MS, SECOND, Schedule, below, dice, pick
from chainfire.sim.shape import Shape
from chainfire.sim.wire import LEVELS, command_of, range_of, response_of
from chainfire.types import Result

# Errors that leave no trace; with any other one the outcome of a write is unknown.
WITHOUT_A_TRACE: Final = frozenset(
    {"Compacted", "FutureRevision", "KeyNotFound", "NoSpace", "TooManyRequests", "LeaseNotFound"}
)
_LEVELS: Final = (Level.LINEARIZABLE, Level.LINEARIZABLE, *Level)  # the first one most often
WIRE_US: Final = 200  # to a member or back, at least


class World(Protocol):
    schedule: Schedule
    shape: Shape
    history: History

    @property
    def committed(self) -> int:
        """As far as any member has known."""
        ...

    def leader(self) -> SimMember | None: ...

    def member_for(self, client: int, dice: Random) -> SimMember | None: ...


class Call:
    """A Pending and a ReadPending of the driver: one operation on its way."""

    __slots__ = ("_client", "_committed", "finished", "life", "member", "operation")

    def __init__(
        self, client: Client, operation: Operation, member: SimMember, committed: int
    ) -> None:
        """`committed`: what some member knew to be committed when it was called."""
        self._client = client
        self._committed = committed
        self.operation = operation
        self.member = member
        self.life = member.life
        self.finished = False

    def arrive(self) -> None:
        """At the member: a step of it."""
        member, operation = self.member, self.operation
        driver = member.driver
        if driver is None or member.life != self.life or self.finished:
            return
        request = operation.request
        if isinstance(request, Range):
            level = LEVELS[Level(request.level)]
            if driver.read(level, request.min_revision, None, self):
                self.ready()
            elif driver.awaits_round:
                member.begin_round()
        else:
            driver.propose(*command_of(request), self)
        member.wake()

    # ── what the driver says ────────────────────────────────────────────────

    def done(self, result: Result) -> None:
        self.member.shown.answered(result.revision)
        self._answer(response_of(result))

    def ready(self) -> None:
        """The store may be read, here and now."""
        request, member = self.operation.request, self.member
        driver = member.driver
        assert isinstance(request, Range) and driver is not None
        member.shown.may_be_read(driver)
        if request.level == Level.LINEARIZABLE:
            member.must_have_applied(self._committed, "is read")
        steps = range_steps(self.member.disk.state, driver.machine.store, 0, range_of(request))
        try:
            self._answer(response_of(run(steps)))
        except RequestError as error:
            self.refused(error)

    def refused(self, error: RequestError) -> None:
        why = type(error).__name__
        self._client.errors[why] = self._client.errors.get(why, 0) + 1
        self._answer(Refused(why) if why in WITHOUT_A_TRACE else None)

    def _answer(self, response: Response | None) -> None:
        if self.finished:
            return
        self.finished = True
        self._client.heard(self, response)


def _arrive(calls: Sequence[Call]) -> None:
    for call in calls:
        call.arrive()


class Client:
    def __init__(self, world: World, id: int) -> None:
        self.id = id
        self.errors: dict[str, int] = {}
        self.dice = dice(world.shape.seed, f"client {id}")
        self.seen = 1  # the highest revision in any answer
        self._world = world
        self._open: dict[Call, None] = {}
        self._stopped = False
        self._written = 0
        self._versions: dict[bytes, Kv] = {}  # as last seen
        self._round = 0  # counts bursts: what belongs to an earlier one is over

    def stop(self) -> None:
        """Nothing new is asked; what is under way may end."""
        self._stopped = True

    def start(self) -> None:
        self._world.schedule.after(self._pause(), self._burst, self._round)

    def _idle(self) -> None:
        """Nothing is under way any more."""
        self.start()

    def _pause(self) -> int:
        return int(self._world.shape.pause_us * 2 * self.dice.random())

    def started(self, member: SimMember) -> None:
        """Whoever has nothing to do may call it before it has done anything."""
        if self._world.shape.eager and not self._open and self.dice.random() < 0.5:
            self._burst(self._round, member)

    def _burst(self, round: int, member: SimMember | None = None) -> None:
        if round != self._round or self._stopped:
            return
        world, schedule = self._world, self._world.schedule
        self._round += 1
        member = member or world.member_for(self.id, self.dice)
        if member is not None:
            count = 1 + below(self.dice, world.shape.burst)
            self._call(member, [self.request() for _ in range(count)])
        schedule.after(world.shape.client_timeout_ms * MS, self._give_up, self._round)
        if not self._open:
            self.start()

    def _call(self, member: SimMember, requests: Sequence[Request]) -> list[Call]:
        """They arrive together."""
        now, session = self._world.schedule.now, member.id * 100_000 + member.power_losses
        committed = self._world.committed
        calls = [
            Call(self, Operation(self.id, member.id, session, now, request), member, committed)
            for request in requests
        ]
        self._world.history.operations += [call.operation for call in calls]
        self._open.update(dict.fromkeys(calls))
        member.later(WIRE_US + int(self.dice.random() * WIRE_US), _arrive, calls)
        return calls

    def single(self, member: SimMember, request: Request) -> Call:
        """One call, outside of the client's own rhythm."""
        return self._call(member, [request])[0]

    def _give_up(self, round: int) -> None:
        if round != self._round:
            return
        for call in self._open:
            call.finished = True
        self._open.clear()
        self.start()

    def died(self, member: SimMember) -> None:
        """The connection is reset: nobody will answer these."""
        lost = [call for call in self._open if call.member is member]
        for call in lost:
            call.finished = True
            del self._open[call]
        if lost and not self._open:
            self._idle()

    def heard(self, call: Call, response: Response | None) -> None:
        operation = call.operation
        if response is not None:
            operation.ret = self._world.schedule.now + WIRE_US + int(self.dice.random() * WIRE_US)
            operation.response = response
            self._learn(operation.request, response)
        elif operation.ret != NEVER:
            raise ChainfireError(f"answered twice: {operation}")
        if call in self._open:
            del self._open[call]
            if not self._open:
                self._idle()

    def _learn(self, request: Request, response: Response) -> None:
        if isinstance(response, Refused):
            return
        self.seen = max(self.seen, response.revision)
        if isinstance(response, RangeDone):
            for kv in response.rows:
                self._versions[kv.key] = kv
        elif isinstance(response, TxnDone | DeleteDone | PutDone) and isinstance(request, Put):
            self._versions.pop(request.key, None)

    # ── what to ask ─────────────────────────────────────────────────────────

    def key(self) -> bytes:
        return b"k%02d" % below(self.dice, self._world.shape.keys)

    def value(self) -> bytes:
        self._written += 1
        return b"%d.%d" % (self.id, self._written)

    def request(self) -> Request:
        roll, key = self.dice.random(), self.key()
        if roll < 0.40:
            return Put(key, self.value(), want_prev=roll < 0.05)
        if roll < 0.55:
            return self._txn(key)
        if roll < 0.62:
            return Delete(key, want_prev=roll < 0.57)
        if roll < 0.64:
            return Delete(key, self.key() + b"\0")
        level = pick(self.dice, _LEVELS)
        if roll < 0.84:
            return Range(key, level=level, min_revision=self._at_least(level))
        if roll < 0.94:
            limit = pick(self.dice, (0, 0, 2))
            return Range(b"k", b"l", limit=limit, level=level, min_revision=self._at_least(level))
        past = max(1, self.seen - int(self.dice.random() ** 2 * 60))
        return Range(b"k", b"l", revision=past + (roll > 0.99), level=level)

    def _at_least(self, level: Level) -> int:
        return self.seen if level != Level.LINEARIZABLE and self.dice.random() < 0.3 else 0

    def _txn(self, key: bytes) -> Txn:
        known, roll = self._versions.get(key), self.dice.random()
        if known is not None and roll < 0.5:
            compare = Compare(key, "mod", "=", known.mod)
        elif known is not None and roll < 0.7:
            compare = Compare(key, "value", "=", known.value)
        else:
            compare = Compare(key, "version", pick(self.dice, "=!<>"), below(self.dice, 4))
        other = self.key()
        success: tuple[Put | Delete | Range, ...] = (Put(key, self.value()), Range(key))
        if other != key and roll < 0.3:
            success = (Range(other), Put(key, self.value()), Put(other, self.value()))
        elif roll < 0.36:
            past = max(1, self.seen - int(self.dice.random() * 50))
            success = (Put(key, self.value()), Range(b"k", b"l", revision=past))
        elif other != key and roll < 0.45:
            success = (Delete(other), Put(key, self.value()), Range(b"k", b"l"))
        return Txn((compare,), success, (Range(key),))


class Feeder(Client):
    """Writes at a steady rate, many at once, and waits for nobody: under it the log grows."""

    def _pause(self) -> int:
        shape = self._world.shape
        return int(SECOND * shape.feed_batch / shape.feed_per_second * 2 * self.dice.random())

    def _idle(self) -> None:
        pass

    def _burst(self, round: int, member: SimMember | None = None) -> None:
        if self._stopped:
            return
        self.start()
        world = self._world
        member = world.leader() if self.dice.random() < 0.7 else None
        member = member or world.member_for(self.id, self.dice)
        if member is not None:
            self._call(member, [self.request() for _ in range(world.shape.feed_batch)])

    def request(self) -> Request:
        key = self.key()
        return Put(key, self.value()) if self.dice.random() < 0.8 else self._txn(key)


class Compactor(Client):
    """Asks for a compaction now and then."""

    def request(self) -> Request:
        return Compact(max(1, self.seen - below(self.dice, 40)))

    def _pause(self) -> int:
        return int(self._world.shape.compaction_ms * MS * (0.5 + self.dice.random()))
