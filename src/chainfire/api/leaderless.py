"""The end of streams whose clients require a leader, once there has been none for a while.

That a leader's process is gone is known here within milliseconds, when its clients are about to
come to the others: a watch that is refused while they elect is over for etcdctl, and for etcd's
client. So a stream is refused only where those that are open would end.

One timer looks for all streams of a member, and runs only while there are any, or no leader.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from chainfire.errors import NoLeader

LOOKS_PER_LIMIT: Final = 10  # for a leader: so exact is the end of the time without one


class Leaderless:
    """Streams of one member that end once no leader was known for `seconds_max`."""

    def __init__(self, seconds_max: float, has_leader: Callable[[], bool]) -> None:
        self._seconds_max = seconds_max
        self._has_leader = has_leader
        self._streams: set[asyncio.Timeout] = set()
        self._look: asyncio.TimerHandle | None = None
        self._leader_seen = 0.0  # on the loop's clock

    @asynccontextmanager
    async def bounded(self) -> AsyncIterator[None]:
        """What is awaited in here ends with NoLeader after `seconds_max` without a leader, which
        may be over already.
        """
        if self._look is None:
            self._leader_seen = asyncio.get_running_loop().time()
            self._look_again()
        if not self._has_leader() and self._is_over:
            raise NoLeader
        limit = asyncio.timeout(None)
        try:
            async with limit:
                self._streams.add(limit)
                try:
                    yield
                finally:
                    self._streams.discard(limit)
        except TimeoutError as exc:
            if limit.expired():
                raise NoLeader from exc
            raise

    @property
    def _is_over(self) -> bool:
        """Whether the last leader that was seen was seen that long ago."""
        return asyncio.get_running_loop().time() - self._leader_seen >= self._seconds_max

    def _look_again(self) -> None:
        pause = self._seconds_max / LOOKS_PER_LIMIT
        self._look = asyncio.get_running_loop().call_later(pause, self._look_for_leader)

    def _look_for_leader(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._has_leader():
            self._leader_seen = now
            if not self._streams:
                self._look = None
                return
        elif self._is_over:
            for limit in self._streams:
                limit.reschedule(now)
            self._streams.clear()
        self._look_again()
