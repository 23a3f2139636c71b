"""A client that holds leases: grants one, hangs keys on it, renews it for a while, and lets it go.

Some are revoked, some are left to expire, some are renewed when they should
be long gone. What was answered when is noted for `check_lease`.
"""

from __future__ import annotations

from chainfire.command import CommandKind
from chainfire.errors import LeaseNotFound, RequestError
from chainfire.proto.command_pb2 import LeaseGrant
from chainfire.proto.lease_pb2 import LeaseRevokeRequest
from chainfire.sim.clients import WIRE_US, Client, World
from chainfire.sim.history import LeaseCall, Put
from chainfire.sim.member import SimMember
from chainfire.sim.schedule import MS, Schedule, below, pick
from chainfire.types import AckResult, RenewResult, Result


class LeaseAsked:
    """The Pending of one call about a lease."""

    __slots__ = ("_call", "_committed", "_ended", "_life", "_member", "_schedule")

    def __init__(
        self, schedule: Schedule, call: LeaseCall, member: SimMember, committed: int
    ) -> None:
        """`committed`: what some member knew to be committed when it was called."""
        self._schedule = schedule
        self._committed = committed
        self._call = call
        self._member = member
        self._life = member.life
        self._ended = False

    def arrive(self) -> None:
        driver, call = self._member.driver, self._call
        if driver is None or self._member.life != self._life:
            return
        if call.renews:
            now_ms = self._member.clock.read_ms(self._schedule.now)
            driver.renew([call.lease], self, now_ms)
        elif call.ttl:
            grant = LeaseGrant(id=call.lease, ttl_ms=call.ttl // MS)
            driver.propose(CommandKind.LEASE_GRANT, grant.SerializeToString(), self)
        else:
            revoke = LeaseRevokeRequest(ID=call.lease)
            driver.propose(CommandKind.LEASE_REVOKE, revoke.SerializeToString(), self)
        self._member.wake()

    @property
    def finished(self) -> bool:
        return False  # a lease's holder waits, however long it takes

    def done(self, result: Result) -> None:
        if isinstance(result, RenewResult):
            # Written or not: who answers has led, or followed, until after it was asked.
            self._member.must_have_applied(self._committed, "renews")
            self._answer(ok=result.ttls_ms[0] > 0)
        else:
            assert isinstance(result, AckResult), result
            self._answer(ok=True)

    def refused(self, error: RequestError) -> None:
        if isinstance(error, LeaseNotFound):
            self._answer(ok=False)

    def _answer(self, *, ok: bool) -> None:
        self._call.ok = ok
        self._call.ret = self._schedule.now + WIRE_US


class LeaseHolder(Client):
    """One lease after the other."""

    def __init__(self, world: World, id: int) -> None:
        super().__init__(world, id)
        self._lease = 0
        self._ttl = 0
        self._renewals_left = 0
        self._granted = 0

    def _pause(self) -> int:
        return int((self._ttl or 500 * MS) * (0.1 + 0.6 * self.dice.random()))

    def _idle(self) -> None:
        pass

    def _burst(self, round: int, member: SimMember | None = None) -> None:
        if self._stopped:
            return
        member = member or self._world.member_for(self.id, self.dice)
        if member is not None:
            self._step(member)
        self._world.schedule.after(self._pause(), self._burst, round)

    def _step(self, member: SimMember) -> None:
        if not self._lease:
            self._granted += 1
            self._lease = self.id * 1000 + self._granted
            self._ttl = pick(self.dice, (1000, 2000, 4000)) * MS
            self._renewals_left = below(self.dice, 6)
            self._ask(member, self._ttl)
        elif self._renewals_left > 0:
            self._renewals_left -= 1
            self._ask(member, self._ttl, renews=True)
            key = b"l%02d" % below(self.dice, 6)
            self.single(member, Put(key, self.value(), lease=self._lease))
        else:
            if self.dice.random() < 0.3:
                self._ask(member, 0)
                wait = below(self.dice, 300) * MS
                self._world.schedule.after(wait, self._ask_for_the_dead, self._lease, self._ttl)
            self._lease = 0

    def crowd(self, member: SimMember, count: int) -> None:
        """Leases that begin together, and that nobody renews."""
        ttl = self.dice.choice((1000, 1500)) * MS
        for _ in range(count):
            self._granted += 1
            self._ask(member, ttl, lease=self.id * 1000 + self._granted)

    def renew_at(self, member: SimMember) -> None:
        """Out of turn: somebody else may know better."""
        if self._lease and not self._stopped:
            self._ask(member, self._ttl, renews=True)

    def _ask_for_the_dead(self, lease: int, ttl: int) -> None:
        """Who answers that it is renewed has not heard of the revoke, or of its own end."""
        member = self._world.member_for(self.id, self.dice)
        if member is not None:
            self._ask(member, ttl, lease=lease, renews=True)

    def _ask(self, member: SimMember, ttl: int, *, lease: int = 0, renews: bool = False) -> None:
        call = LeaseCall(lease or self._lease, self._world.schedule.now, ttl=ttl, renews=renews)
        self._world.history.leases.append(call)
        asked = LeaseAsked(self._world.schedule, call, member, self._world.committed)
        member.later(WIRE_US, asked.arrive)
