"""Physical compaction: old revisions leave this member's disk, in short slices with pauses.

    compacted (logged) > what is gone here   slices, until all is gone
    all is gone here                         the leader logs what that freed (a duty),
                                             which makes `finished`; who waits for it is told

A stalled disk only makes it pause. Giving space back inside the storage
engine runs on a thread of its own: it takes long, and syncs must not wait.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from chainfire.errors import DiskFull, FatalError, RequestError, Stalled
from chainfire.machine import Machine
from chainfire.mvcc.compact import Compaction
from chainfire.mvcc.state import NEVER
from chainfire.node.duties import Duties
from chainfire.node.reads import ReadPending
from chainfire.node.status import (
    COMPACTION_BOUNDS_SECONDS,
    COMPACTION_SLICE_BOUNDS_SECONDS,
    DEFRAGMENT_BOUNDS_SECONDS,
    CompactionStatistics,
    Times,
)
from chainfire.node.worker import Worker, fatal
from chainfire.storage.backend import StorageBackend

log = logging.getLogger(__name__)

SLICE_ROWS = 64  # 0.5 ms where blocks are cached, 2 where they are not
STALLED_PAUSE_SECONDS = 0.1


@dataclass(slots=True, frozen=True)
class Pace:
    """etcd's compaction-batch-limit and compaction-sleep-interval."""

    batch_rows: int
    pause_seconds: float  # after each batch; slices of one batch only let others go first


class Compacting:
    def __init__(
        self,
        *,
        machine: Machine,
        duties: Duties,
        backend: StorageBackend,
        pace: Pace,
        die: Callable[[FatalError], None],
    ) -> None:
        self._machine = machine
        self._duties = duties
        self._backend = backend
        self._pace = pace
        self._die = die
        self._loop = asyncio.get_running_loop()
        self._round: Compaction | None = None
        self._rows_until_pause = pace.batch_rows
        self._gone_to = NEVER  # revision: everything that it made obsolete is gone here
        self._timer: asyncio.TimerHandle | None = None
        self._waiters: list[tuple[int, ReadPending]] = []  # (revision, who)
        self._worker = Worker("compaction", die)
        self._nudge_running = self._nudge_again = False
        self._closed = False
        self._removed_versions = self._finished_at = 0
        self._round_began = self._nudge_began = 0.0
        self._slice_times = Times(COMPACTION_SLICE_BOUNDS_SECONDS)
        self._round_times = Times(COMPACTION_BOUNDS_SECONDS)
        self._nudge_times = Times(DEFRAGMENT_BOUNDS_SECONDS)

    def statistics(self) -> CompactionStatistics:
        return CompactionStatistics(
            removed_versions=self._removed_versions,
            finished_at=self._finished_at,
            slices=self._slice_times.frozen(),
            rounds=self._round_times.frozen(),
            defragments=self._nudge_times.frozen(),
            is_defragmenting=self._nudge_running,
        )

    def stop(self, error: RequestError) -> None:
        """Refuse who waits; nothing new is begun. Idempotent."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        waiters, self._waiters = self._waiters, []
        for _, waiter in waiters:
            waiter.refused(error)

    async def aclose(self) -> None:
        """After `stop`, and after the last write to the backend."""
        if self._nudge_running:
            self._backend.cancel_compact()
        await self._worker.aclose()

    # ── old revisions ───────────────────────────────────────────────────────

    def after_apply(self) -> None:
        """Entries were applied: go on with what they made possible."""
        space = self._machine.store.keyspace(0)
        if self._waiters:
            self._tell_waiters(space.finished)
        if self._round is None and space.compacted > max(space.finished, self._gone_to):
            self._begin_slice(0)

    def installed(self) -> None:
        """A snapshot took the place of the state: what is gone there, its rows say."""
        if self._timer is not None:
            self._timer.cancel()
        self._round, self._gone_to = None, NEVER
        self.after_apply()

    def when_compacted(self, revision: int, pending: ReadPending) -> None:
        """`pending.ready()` once everything up to `revision` is physically gone here."""
        if self._machine.store.keyspace(0).finished >= revision:
            pending.ready()
        else:
            self._waiters = [held for held in self._waiters if not held[1].finished]
            self._waiters.append((revision, pending))

    def _begin_slice(self, pause_seconds: float) -> None:
        if self._closed:
            return
        if self._round is None:
            self._round = Compaction(self._backend, self._machine.store, 0)
            self._round_began = self._loop.time()
        self._timer = self._loop.call_later(pause_seconds, self._slice)

    def _slice(self) -> None:
        compaction = self._round
        if compaction is None or self._closed:
            return
        began, removed_before = self._loop.time(), compaction.removed_versions
        try:
            done = compaction.step(min(SLICE_ROWS, self._pace.batch_rows))
        except Stalled:
            self._round = None  # its cursor has moved and the disk's has not: read that again
            self._begin_slice(STALLED_PAUSE_SECONDS)
            return
        except Exception as exc:
            self._die(fatal(exc))
            return
        now = self._loop.time()
        self._slice_times.observe(now - began)
        self._removed_versions += compaction.removed_versions - removed_before
        if done:
            self._round = None
            self._round_times.observe(now - self._round_began)
            self._finished_at = int(time.time())
            self._gone_to = compaction.revision
            log.info("removed old revisions", extra={"up_to_revision": compaction.revision})
            self._duties.note_compaction_finished(compaction.revision, compaction.freed_bytes)
            return
        self._rows_until_pause -= SLICE_ROWS
        if self._rows_until_pause > 0:
            self._begin_slice(0)
        else:
            self._rows_until_pause = self._pace.batch_rows
            self._begin_slice(self._pace.pause_seconds)

    def _tell_waiters(self, finished: int) -> None:
        told = [waiter for revision, waiter in self._waiters if revision <= finished]
        if told:
            self._waiters = [held for held in self._waiters if held[0] > finished]
            for waiter in told:
                waiter.ready()

    # ── the engine's own ────────────────────────────────────────────────────

    def nudge(self) -> None:
        """Ask the storage engine to give space back; returns at once.

        Asked again while it does, it will do it once more: what was deleted
        since may have been passed already.
        """
        if self._closed:
            return
        if self._nudge_running:
            self._nudge_again = True
            return
        self._nudge_running = True
        self._nudge_began = self._loop.time()
        self._worker.run(self._backend.compact, self._nudged, self._nudge_failed)

    def _nudged(self) -> None:
        self._nudge_running = False
        self._nudge_times.observe(self._loop.time() - self._nudge_began)
        if self._nudge_again:
            self._nudge_again = False
            self.nudge()

    def _nudge_failed(self, error: FatalError) -> None:
        self._nudge_running = self._nudge_again = False
        if isinstance(error, DiskFull):  # it needs room to make room; nothing is lost
            log.warning("no room to give space back", extra={"detail": error.detail})
        else:
            self._die(error)
