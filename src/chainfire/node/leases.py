"""Renewals on their way into the log, and what the leader does about time: clock and expiry.

    renewals    what callers of this member ask for in one turn is one command of ids
    expiry      the leader names leases that are over, a batch at a time: the next one when
                the last is applied, so that other commands come in between; for no more than
                half of the time, and no more than `EXPIRED_PER_TICK_MAX` per tick
    clock       at least one stamp a second while there are leases, so that a change of
                leader or a restart costs no more than that

A turn's renewals go into the log before its expiry: after a stall, what
arrived meanwhile comes first. The machine judges every expiry once more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from chainfire.command import CommandKind
from chainfire.errors import RequestError
from chainfire.lease import Lessor
from chainfire.node.effects import Answer
from chainfire.node.leaseclock import LeaseClock
from chainfire.proto.command_pb2 import LeaseExpire, LeaseRenew
from chainfire.types import Pending, RenewResult, Result

RENEWED_PER_COMMAND_MAX: Final = 5000
EXPIRED_PER_COMMAND_MAX: Final = 50  # with a key each: about 2 ms of a turn
EXPIRED_PER_TICK_MAX: Final = 1500
EXPIRY_GRACE_MS: Final = 250  # a caller counts its TTL from the answer, the clock from the stamp
CLOCK_STAMP_MS: Final = 900
LATE_TICK_MS: Final = 500  # after such a stall renewals may lie unread: judge a tick later
REFUSED_PAUSE_MS: Final = 1000

# Queue a command: kind, body, who waits, keyspace.
Propose = Callable[[int, bytes, Pending, int], None]


class _Renewals:
    """One command's ids, and who asked for which of them; its Pending."""

    __slots__ = ("_askers", "ids", "keyspace")

    def __init__(self, keyspace: int) -> None:
        self.keyspace = keyspace
        self.ids: list[int] = []
        self._askers: list[tuple[int, Pending]] = []  # how many of the ids are whose, in order

    def add(self, ids: Sequence[int], pending: Pending) -> None:
        self.ids += ids
        self._askers.append((len(ids), pending))

    def done(self, result: Result) -> None:
        assert isinstance(result, RenewResult), result
        at = 0
        for count, pending in self._askers:
            pending.done(RenewResult(result.revision, result.ttls_ms[at : at + count]))
            at += count

    def refused(self, error: RequestError) -> None:
        for _, pending in self._askers:
            pending.refused(error)


class LeaseKeeper:
    """Part of the driver, which calls `tick` and `turn`. It is the Pending of its own expiries."""

    def __init__(self, lessor: Lessor, clock: LeaseClock, propose: Propose) -> None:
        self._lessor = lessor
        self._clock = clock
        self._propose = propose
        self._renewals: list[_Renewals] = []  # of this turn, in order
        self._open: dict[int, _Renewals] = {}  # those that take more, by keyspace
        self._now_ms = 0  # of the last tick
        self._expiry_is_out = False  # a LEASE_EXPIRE of ours has no answer yet
        self._stamp_due = False
        self._allowance = 0  # leases that may be named before the next tick
        self._expire_until_ms = 0  # then other work comes first, until the next tick
        self._not_before_ms = 0

    def reopened(self, lessor: Lessor) -> None:
        """The state was replaced by a snapshot, and the leases with it."""
        self._lessor = lessor

    def renew(self, keyspace: int, ids: Sequence[int], pending: Pending) -> None:
        """Let these TTLs begin anew; `pending` gets a RenewResult in the order of `ids`."""
        renewals = self._open.get(keyspace)
        if renewals is None or len(renewals.ids) + len(ids) > RENEWED_PER_COMMAND_MAX:
            renewals = self._open[keyspace] = _Renewals(keyspace)
            self._renewals.append(renewals)
        renewals.add(ids, pending)

    def tick(self, now_ms: int, *, leading: bool) -> None:
        passed_ms = now_ms - self._now_ms
        is_late = passed_ms > LATE_TICK_MS
        self._now_ms = now_ms
        self._stamp_due, self._allowance = False, 0
        if not len(self._lessor):
            return
        reading_ms = self._clock.reading(now_ms)
        self._lessor.look(reading_ms - EXPIRY_GRACE_MS)
        if leading and not is_late and now_ms >= self._not_before_ms:
            self._stamp_due = reading_ms - self._lessor.clock_ms >= CLOCK_STAMP_MS
            self._allowance = EXPIRED_PER_TICK_MAX
            self._expire_until_ms = now_ms + passed_ms // 2

    def turn(self, now_ms: int, *, leading: bool) -> None:
        """Propose what is due."""
        renewals, self._renewals = self._renewals, []
        self._open.clear()
        for one in renewals:
            body = LeaseRenew(ids=one.ids).SerializeToString()
            self._propose(CommandKind.LEASE_RENEW, body, one, one.keyspace)
        if 0 < self._allowance < EXPIRED_PER_TICK_MAX and now_ms >= self._expire_until_ms:
            self._allowance = 0
        if leading and not self._expiry_is_out and (self._allowance or self._stamp_due):
            self._expire(now_ms)

    def _expire(self, now_ms: int) -> None:
        keyspace, ids = 0, list[int]()
        if self._lessor.overdue_count:
            until_ms = self._clock.reading(now_ms) - EXPIRY_GRACE_MS
            count = min(self._allowance, EXPIRED_PER_COMMAND_MAX)
            keyspace, ids = self._lessor.overdue(until_ms, count)
        if ids or self._stamp_due:
            self._stamp_due = False
            self._allowance -= len(ids)
            self._expiry_is_out = True
            body = LeaseExpire(ids=ids).SerializeToString()
            self._propose(CommandKind.LEASE_EXPIRE, body, self, keyspace)

    def goes_on(self, answers: Sequence[Answer]) -> bool:
        """Whether these answers let the next expiry go: then there should be another turn."""
        return (
            self._expiry_is_out
            and self._allowance > 0
            and self._lessor.overdue_count > 0
            and any(answer.pending is self for answer in answers)
        )

    def done(self, result: Result) -> None:
        self._expiry_is_out = False

    def refused(self, error: RequestError) -> None:
        self._expiry_is_out = False
        self._allowance = 0
        self._not_before_ms = self._now_ms + REFUSED_PAUSE_MS

    def stop(self, error: RequestError) -> None:
        """Renewals that were not proposed yet end with this error."""
        renewals, self._renewals = self._renewals, []
        self._open.clear()
        for one in renewals:
            one.refused(error)
