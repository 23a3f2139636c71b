"""When what was answered early, and waits (`applying`), is applied after all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from chainfire.node.applying import HOLD_SECONDS
from chainfire.node.driver import Driver


class Holding:
    """`turn` takes a turn of the driver."""

    def __init__(self, driver: Driver, *, turn: Callable[[], None]) -> None:
        self._driver = driver
        self._turn = turn
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._is_over = False

    def begin(self) -> None:
        """If something waits now, it does not do so for ever."""
        if self._driver.lags and self._timer is None:
            self._timer = self._loop.call_later(HOLD_SECONDS, self._end)

    def use_pause(self) -> None:
        """Our own log has all of it, and said so: it is for others to answer."""
        if self._is_over and self._driver.lags:
            self._let_go()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._is_over = None, False

    def _end(self) -> None:
        """In the next pause, or without one a little later: here and now somebody might be kept
        waiting who has just come.
        """
        if self._is_over or self._driver.is_sole_voter:
            self._let_go()
        else:
            self._is_over = True
            self._timer = self._loop.call_later(HOLD_SECONDS, self._end)

    def _let_go(self) -> None:
        self.stop()
        self._driver.let_go()
        self._turn()
