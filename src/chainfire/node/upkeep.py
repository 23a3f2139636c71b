"""What a member does for its own disk, beside the requests: all of it may wait, none of it blocks.

state/ is synced after so many applied entries, or each second while there
  are any; then the log's front may go, but for what slow followers need
old revisions are removed in short slices with pauses between them
the witness is fsynced each second; free disk space is looked at whenever the shell ticks
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from chainfire.errors import FatalError, RequestError
from chainfire.machine import Machine
from chainfire.mvcc.compact import Compaction
from chainfire.node.duties import Duties
from chainfire.node.logstore import LogStore
from chainfire.node.reads import ReadPending
from chainfire.storage.backend import StorageBackend

INTERVAL_SECONDS = 1.0
COMPACTION_SLICE_ROWS = 256  # about 2 ms
COMPACTION_PAUSE_SECONDS = 0.002


class Disk(Protocol):
    """What upkeep needs of the data directory and the witness."""

    def free_bytes(self) -> int: ...

    def fsync_witness(self) -> None: ...


@dataclass(slots=True, frozen=True)
class UpkeepSettings:
    state_sync_entries: int  # etcd's snapshot-count: bounds what a start replays
    catchup_entries: int  # etcd's snapshot-catchup-entries: kept behind applied


class Upkeep:
    def __init__(
        self,
        *,
        log: LogStore,
        machine: Machine,
        duties: Duties,
        state_backend: StorageBackend,
        disk: Disk,
        settings: UpkeepSettings,
        die: Callable[[FatalError], None],
    ) -> None:
        self._log = log
        self._machine = machine
        self._duties = duties
        self._backend = state_backend
        self._disk = disk
        self._settings = settings
        self._die = die
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, "upkeep")
        self._timer: asyncio.TimerHandle | None = None
        self._compaction_timer: asyncio.TimerHandle | None = None
        self._sync_running = False
        self._compaction: Compaction | None = None
        self._waiters: list[tuple[int, ReadPending]] = []  # (revision, who)
        self._closed = False
        self.free_bytes = disk.free_bytes()

    # ── life ────────────────────────────────────────────────────────────────

    def start(self) -> None:
        self._timer = self._loop.call_later(INTERVAL_SECONDS, self._each_second)
        self.after_apply()

    def stop(self, error: RequestError) -> None:
        """Refuse who waits for a compaction; nothing new is begun. Idempotent."""
        self._closed = True
        for timer in (self._timer, self._compaction_timer):
            if timer is not None:
                timer.cancel()
        waiters, self._waiters = self._waiters, []
        for _, waiter in waiters:
            waiter.refused(error)

    async def aclose(self) -> None:
        """After `stop`: wait for the thread."""
        await asyncio.to_thread(self._thread.shutdown)

    # ── asked for ───────────────────────────────────────────────────────────

    def after_apply(self) -> None:
        """Entries were applied: begin what has become due."""
        if self._log.state_durable + self._settings.state_sync_entries <= self._applied:
            self._sync_state()
        space = self._machine.store.keyspace(0)
        if self._waiters:
            self._tell_waiters(space.finished)
        if self._compaction is None and space.compacted > space.finished and not self._closed:
            self._compaction = Compaction(self._backend, self._machine.store, 0)
            self._compaction_timer = self._loop.call_later(0, self._compact_slice)

    def when_compacted(self, revision: int, pending: ReadPending) -> None:
        """`pending.ready()` once everything up to `revision` is physically gone here."""
        if self._machine.store.keyspace(0).finished >= revision:
            pending.ready()
        else:
            self._waiters.append((revision, pending))

    def look_at_disk(self) -> int:
        """Free bytes now. Asked at every tick: a disk can lose 100 MB in a second."""
        self.free_bytes = self._disk.free_bytes()
        return self.free_bytes

    def nudge_compaction(self) -> None:
        """Ask the storage engine to give space back; returns at once."""
        if not self._closed:
            self._thread.submit(self._backend.compact)

    # ── state/ becomes durable, the log's front goes ────────────────────────

    @property
    def _applied(self) -> int:
        return self._machine.applied_index

    def _each_second(self) -> None:
        if self._closed:
            return
        self._timer = self._loop.call_later(INTERVAL_SECONDS, self._each_second)
        self._thread.submit(self._disk.fsync_witness)
        if self._applied > self._log.state_durable:
            self._sync_state()

    def _sync_state(self) -> None:
        if self._sync_running or self._closed:
            return
        self._sync_running = True
        applied = self._applied
        future = self._thread.submit(self._backend.sync)
        future.add_done_callback(
            lambda done: self._loop.call_soon_threadsafe(self._state_synced, done, applied)
        )

    def _state_synced(self, done: Future[None], applied: int) -> None:
        self._sync_running = False
        if self._closed:
            return
        try:
            done.result()
            self._log.note_state_durable(applied)
            self._cut_log(applied)
        except FatalError as exc:
            self._die(exc)

    def _cut_log(self, durable: int) -> None:
        cut = durable - self._settings.catchup_entries
        # In strides, so that a cut is worth its write.
        stride = max(1, self._settings.catchup_entries // 10)
        if cut - self._log.first_index() >= stride:
            self._log.truncate_front(cut)

    # ── physical compaction ─────────────────────────────────────────────────

    def _compact_slice(self) -> None:
        compaction = self._compaction
        if compaction is None or self._closed:
            return
        try:
            done = compaction.step(COMPACTION_SLICE_ROWS)
        except FatalError as exc:
            self._die(exc)
            return
        if done:
            self._compaction = None
            self._duties.note_compaction_finished(compaction.revision, compaction.freed_bytes)
        else:
            self._compaction_timer = self._loop.call_later(
                COMPACTION_PAUSE_SECONDS, self._compact_slice
            )

    def _tell_waiters(self, finished: int) -> None:
        told = [waiter for revision, waiter in self._waiters if revision <= finished]
        if told:
            self._waiters = [held for held in self._waiters if held[0] > finished]
            for waiter in told:
                waiter.ready()
