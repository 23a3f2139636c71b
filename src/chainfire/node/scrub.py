"""The scrub: reads all that lies on this member's disk, a little at a time, over and over.

Bits rot where nobody reads: an old revision, a key asked for once a year. Who
meets them by a client's read meets them late, and on several members at once.
So every row is read now and then, block checksums checked. Damage stops the
member like damage that a read has met: what it cannot trust it does not serve.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from chainfire.errors import FatalError
from chainfire.node.worker import fatal
from chainfire.storage.backend import Backend

log = logging.getLogger(__name__)

# About 1 MiB/s: 1 to 2 ms of a slice, and 80 GiB a day.
SLICE_BYTES: Final = 256 << 10
PAUSE_SECONDS: Final = 0.25
PASS_SECONDS_MIN: Final = 3600.0  # a small database is not read over and over


class Scrub:
    """Begin with `start`. `stop` is final and idempotent."""

    def __init__(
        self,
        backends: Sequence[tuple[Backend, Sequence[str]]],
        die: Callable[[FatalError], None],
    ) -> None:
        """`backends` with the families to be read."""
        self._backends = backends
        self._die = die
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._work: Iterator[None] = iter(())
        self._pass_started = 0.0
        self.passes = 0  # complete ones

    def start(self) -> None:
        self._pass_started = self._loop.time()
        self._work = self._pass()
        self._timer = self._loop.call_later(PAUSE_SECONDS, self._slice)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _slice(self) -> None:
        try:
            next(self._work)
        except StopIteration:
            self.passes += 1
            rest = self._pass_started + PASS_SECONDS_MIN - self._loop.time()
            self._timer = self._loop.call_later(max(PAUSE_SECONDS, rest), self.start)
        except Exception as exc:
            self.stop()
            self._die(fatal(exc))
        else:
            self._timer = self._loop.call_later(PAUSE_SECONDS, self._slice)

    def _pass(self) -> Iterator[None]:
        for backend, families in self._backends:
            for family in families:
                at: bytes | None = b""
                while at is not None:
                    at = backend.scrub(family, at, SLICE_BYTES)
                    yield
