"""How the log becomes durable: inline in the loop where that is quickest, else on a thread.

Inline while recent syncs were short, this member is the sole voter and its
door hands over calls in batches (measured faster: no hand-over of the GIL).
On a thread otherwise: so heartbeats and reads go on while a disk stalls, and
a door that brings one call at a time fills the next batch meanwhile (grpcio,
100 puts in flight: 0.6 syncs per put instead of 1).

That thread is the native wheel's, which never wants the GIL, while the backend
knows a file whose fdatasync is enough (`sync_descriptor`), and a Python thread,
which lets the engine do it, when it does not or the door is the portable one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from chainfire.errors import FatalError
from chainfire.node.status import Durations, Times
from chainfire.node.worker import Worker, fatal
from chainfire.storage.backend import LogBackend
from chainfire.wheel import FAULT

if FAULT is None:
    from chainfire_native import Syncer

INLINE_SECONDS_MAX = 0.005  # one sync slower than this, and the next ones use the thread
THREAD_SYNCS_AFTER_SLOW = 20


class LogSync:
    """At most one sync at a time. A failed one stops the member."""

    def __init__(
        self,
        backend: LogBackend,
        *,
        natively: bool,
        synced: Callable[[int], None],
        die: Callable[[FatalError], None],
    ) -> None:
        """`synced` hears, on the loop, the number of each sync that a thread has done."""
        self._backend = backend
        self._synced = synced
        self._die = die
        self._loop = asyncio.get_running_loop()
        self._worker = Worker("log-sync", die)
        self._syncer: Syncer | None = None
        if natively and FAULT is None:
            self._syncer = Syncer()
            self._loop.add_reader(self._syncer.fileno(), self._heard)
        self._times = Times()
        self._thread_syncs_left = 0
        self._number = 0  # of the sync that is under way
        self._started = 0.0
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
        """Sync on a thread; all that is written by now will be durable."""
        assert not self.running
        self.running = True
        self._number = number
        self._thread_syncs_left = max(0, self._thread_syncs_left - 1)
        self._started = self._loop.time()
        if not self._start_natively():
            self._worker.run(self._backend.sync, self._done)

    def _start_natively(self) -> bool:
        descriptor = None if self._syncer is None else self._backend.sync_descriptor()
        if self._syncer is None or descriptor is None:
            return False
        try:
            self._syncer.start(descriptor)
        except OSError:  # this process may open no more files; the engine need not
            return False
        return True

    def _heard(self) -> None:
        """The native thread may have an outcome."""
        outcome = None if self._syncer is None else self._syncer.take()
        if outcome is not None:
            try:
                self._backend.synced_outside(*outcome)
                self._done()
            except Exception as exc:
                self._die(fatal(exc))

    def _done(self) -> None:
        self.running = False
        self._times.observe(self._loop.time() - self._started)
        self._synced(self._number)

    async def aclose(self) -> None:
        """Wait for a sync that is under way; its outcome is heard of first."""
        await self._worker.aclose()
        if self._syncer is not None:
            await asyncio.to_thread(self._syncer.close)
            self._loop.remove_reader(self._syncer.fileno())
            self._heard()
            self._syncer = None
