"""How a member goes that a membership change has removed: its callers hear of it at once, then
other members, then it ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from chainfire.errors import FatalError
from chainfire.node.driver import Driver
from chainfire.node.peering import REMOVAL_SECONDS, removed
from chainfire.node.waiter import Waiter

log = logging.getLogger(__name__)


class Leaving:
    """`refuse` answers all who wait and whoever comes, `wake` orders a turn of the driver, `die`
    stops the member.

    While nobody else leads, nobody else may know: of two members the one that is left may have
    crashed with the entry in its log and without the word that it is committed. It needs the vote
    of the one that was removed, who therefore stays, be it for ever. (Simulator, seed 2010144.)
    """

    def __init__(
        self,
        driver: Driver,
        *,
        refuse: Callable[[], None],
        wake: Callable[[], None],
        die: Callable[[FatalError], None],
    ) -> None:
        self._driver = driver
        self._machine = driver.machine
        self._refuse = refuse
        self._wake = wake
        self._die = die
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def membership_changed(self) -> None:
        """Leave, if this member is none any more."""
        mine = self._driver.member_id
        if mine in self._machine.members or self._timer is not None:
            return
        self._refuse()  # no entry of theirs would be applied here, no round be answered
        # A leader that removed itself lets another one lead first; the rest is told by peers.
        best = self._driver.best_successor
        if best:
            self._driver.move_leader(best, Waiter())
            self._wake()
        if not self._driver.knows_other_leader:
            log.info("removed, and stays until another member leads")
        self._look()

    def _look(self) -> None:
        if self._driver.knows_other_leader:
            leave = removed(self._driver.member_id)
            self._timer = self._loop.call_later(REMOVAL_SECONDS, self._die, leave)
        else:
            self._timer = self._loop.call_later(REMOVAL_SECONDS, self._look)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
