"""What a member does that a membership change has removed: its callers hear of it at once, and
another one leads. It ends when others say so, who do without it (`removal`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from chainfire.node.driver import Driver
from chainfire.node.waiter import Waiter

log = logging.getLogger(__name__)


class Leaving:
    """`refuse` answers all who wait and whoever comes, `wake` orders a turn of the driver."""

    def __init__(
        self, driver: Driver, *, refuse: Callable[[], None], wake: Callable[[], None]
    ) -> None:
        self._driver = driver
        self._machine = driver.machine
        self._refuse = refuse
        self._wake = wake
        self._has_begun = False

    def membership_changed(self) -> None:
        """Leave, if this member is none any more."""
        if self._driver.member_id in self._machine.members or self._has_begun:
            return
        self._has_begun = True
        self._refuse()  # no entry of theirs would be applied here, no round be answered
        log.info("removed: stays until another member leads without it")
        # A leader that removed itself lets another one lead first.
        best = self._driver.best_successor
        if best:
            self._driver.move_leader(best, Waiter())
            self._wake()
