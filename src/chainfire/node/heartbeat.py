"""The member's beat: the driver's ticks, and what is looked at with each of them.

Whatever was missed while the loop was busy, a late beat ticks once, and only
after all sockets were read: word of a leader may be among what came meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from chainfire.errors import Diverged, FatalError
from chainfire.node.driver import Driver
from chainfire.node.journal import Journal
from chainfire.node.peering import Peering
from chainfire.node.upkeep import Upkeep
from chainfire.node.worker import fatal
from chainfire.raft.ready import Role

DIVERGED = "its state is not what the majority of the members has made of the same log"


class Heartbeat:
    """`wake` orders a turn of the driver, `die` stops the member, which `is_over` tells."""

    def __init__(
        self,
        *,
        driver: Driver,
        upkeep: Upkeep,
        peering: Peering,
        journal: Journal,
        interval_seconds: float,
        auto_heal: bool,
        is_over: Callable[[], bool],
        wake: Callable[[], None],
        die: Callable[[FatalError], None],
    ) -> None:
        """`auto_heal`: with a state that is not the majority's the member fails with Diverged."""
        self._driver = driver
        self._core = driver.raft.raft  # read, never written
        self._upkeep = upkeep
        self._peering = peering
        self._journal = journal
        self._interval_seconds = interval_seconds
        self._auto_heal = auto_heal
        self._is_over = is_over
        self._wake = wake
        self._die = die
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self.lateness_seconds_max = 0.0
        self.late = 0  # beats of a leader that came an interval late, or more

    def start(self) -> None:
        self._due = self._loop.time() + self._interval_seconds
        self._timer = self._loop.call_at(self._due, self._beat)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self) -> None:
        now = self._loop.time()
        late = now - self._due
        self.lateness_seconds_max = max(self.lateness_seconds_max, late)
        self._due = max(now, self._due) + self._interval_seconds
        self._timer = self._loop.call_at(self._due, self._beat)
        if late < self._interval_seconds:
            self._tick()
        else:
            leads_others = self._core.role is Role.LEADER and not self._driver.is_sole_voter
            self.late += leads_others
            # One pass of the loop brings the sockets' bytes, the next one hands them over.
            self._loop.call_soon(self._loop.call_soon, self._tick)

    def _tick(self) -> None:
        if self._is_over():
            return
        try:
            now_ms = int(self._loop.time() * 1000)
            self._driver.tick(now_ms, self._upkeep.look_at_disk())
            self._journal.tick()
            if self._auto_heal and self._driver.soundness.may_heal and self._peering.is_whole:
                self._die(Diverged(DIVERGED))
        except Exception as exc:
            self._die(fatal(exc))
        self._wake()
