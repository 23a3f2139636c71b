"""What the leader does about time: the clock and the expiry of leases.

    expiry      the leader names leases that are over, a batch at a time: the next one when
                the last is applied, so that other commands come in between; for no more than
                half of the time, and no more than `EXPIRED_PER_TICK_MAX` per tick
    clock       at least one stamp a second while there are leases, so that a restart costs
                no more than that (a change of leader less: `leaseclock`)

A turn's renewals go into the log before its expiry: after a stall, what
arrived meanwhile comes first. The machine judges every expiry once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from chainfire.command import CommandKind
from chainfire.errors import RequestError
from chainfire.lease import Lessor
from chainfire.node.effects import Answer
from chainfire.node.leaseclock import LeaseClock
from chainfire.node.renewals import Propose
from chainfire.proto.command_pb2 import LeaseExpire
from chainfire.types import Result

EXPIRED_PER_COMMAND_MAX: Final = 20  # with a key each: a turn of 1 to 1.5 ms
EXPIRED_PER_TICK_MAX: Final = 1000
CLOCK_STAMP_MS: Final = 900
LATE_TICK_MS: Final = 500  # after such a stall renewals may lie unread: judge what was over before
REFUSED_PAUSE_MS: Final = 1000


class LeaseKeeper:
    """Part of the driver, which calls `tick` and `turn`. It is the Pending of its own expiries."""

    def __init__(self, lessor: Lessor, clock: LeaseClock, propose: Propose) -> None:
        self._lessor = lessor
        self._clock = clock
        self._propose = propose
        self._now_ms = 0  # of the last tick
        self._reading_ms = 0  # of the clock, then
        self._expiry_is_out = False  # a LEASE_EXPIRE of ours has no answer yet
        self._stamp_due = False
        self._allowance = 0  # leases that may be named before the next tick
        self._expire_until_ms = 0  # then other work comes first, until the next tick
        self._not_before_ms = 0

    def reopened(self, lessor: Lessor) -> None:
        """The state was replaced by a snapshot, and the leases with it."""
        self._lessor = lessor

    def tick(self, now_ms: int, *, leading: bool) -> None:
        passed_ms, before_ms = now_ms - self._now_ms, self._reading_ms
        self._now_ms = now_ms
        self._stamp_due, self._allowance = False, 0
        if not len(self._lessor):
            return
        reading_ms = self._reading_ms = self._clock.reading(now_ms)
        # By now is read what came before the last tick. Where no tick is in time, leases end, too.
        self._lessor.look(reading_ms if passed_ms <= LATE_TICK_MS else before_ms)
        if leading and now_ms >= self._not_before_ms:
            self._stamp_due = reading_ms - self._lessor.clock_ms >= CLOCK_STAMP_MS
            self._allowance = EXPIRED_PER_TICK_MAX
            self._expire_until_ms = now_ms + min(passed_ms, LATE_TICK_MS) // 2

    def turn(self, now_ms: int, *, leading: bool) -> None:
        """Propose what is due."""
        if 0 < self._allowance < EXPIRED_PER_TICK_MAX and now_ms >= self._expire_until_ms:
            self._allowance = 0
        if leading and not self._expiry_is_out and (self._allowance or self._stamp_due):
            self._expire(now_ms)

    def _expire(self, now_ms: int) -> None:
        keyspace, ids = 0, list[int]()
        if self._lessor.overdue_count:
            until_ms = self._clock.reading(now_ms)
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

    @property
    def finished(self) -> bool:
        return False

    def done(self, result: Result) -> None:
        self._expiry_is_out = False

    def refused(self, error: RequestError) -> None:
        self._expiry_is_out = False
        self._allowance = 0
        self._not_before_ms = self._now_ms + REFUSED_PAUSE_MS
