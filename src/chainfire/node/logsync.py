"""How the log becomes durable: inline in the loop where that is quickest, else on a thread.

Inline while recent syncs were short, this member is the sole voter and its
door hands over calls in batches (measured faster: no hand-over of the GIL).
On a thread otherwise: so heartbeats and reads go on while a disk stalls, and
a door that brings one call at a time fills the next batch meanwhile (grpcio,
100 puts in flight: 0.6 syncs per put instead of 1).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from chainfire.errors import FatalError
from chainfire.node.status import Durations, Times
from chainfire.node.worker import Worker
from chainfire.storage.backend import StorageBackend

INLINE_SECONDS_MAX = 0.005  # one sync slower than this, and the next ones use the thread
THREAD_SYNCS_AFTER_SLOW = 100


class LogSync:
    """At most one sync at a time. A failed one stops the member."""

    def __init__(
        self,
        backend: StorageBackend,
        *,
        synced: Callable[[int], None],
        die: Callable[[FatalError], None],
    ) -> None:
        """`synced` hears, on the loop, the number of each sync that the thread has done."""
        self._backend = backend
        self._synced = synced
        self._loop = asyncio.get_running_loop()
        self._worker = Worker("log-sync", die)
        self._times = Times()
        self._thread_syncs_left = 0
        self.running = False

    def times(self) -> Durations:
        return self._times.frozen()

    def begin(self) -> None:
        """A sync of what was just written follows: if inline, let the disk start now.

        What is done until then takes no time of its own.
        """
        if not self._thread_syncs_left:
            self._backend.begin_sync()

    def try_inline(self, meanwhile: Callable[[], None]) -> bool:
        """Sync here and now, if that has been quick lately. False: nothing was done.

        `meanwhile` comes first.
        """
        if self._thread_syncs_left:
            return False
        meanwhile()
        started = self._loop.time()
        self._backend.sync()
        seconds = self._loop.time() - started
        self._times.observe(seconds)
        if seconds > INLINE_SECONDS_MAX:
            self._thread_syncs_left = THREAD_SYNCS_AFTER_SLOW
        return True

    def start(self, number: int) -> None:
        """Sync on the thread; all that is written by now will be durable."""
        assert not self.running
        self.running = True
        self._thread_syncs_left = max(0, self._thread_syncs_left - 1)
        started = self._loop.time()

        def done() -> None:
            self.running = False
            self._times.observe(self._loop.time() - started)
            self._synced(number)

        self._worker.run(self._backend.sync, done)

    async def aclose(self) -> None:
        """Wait for a sync that is under way; its outcome is heard of first."""
        await self._worker.aclose()
