"""What a member does for its own disk, beside the requests: all of it may wait, none of it blocks.

state/ is synced after so many applied entries, or each second while there
  are any; then the log's front may go, but for what slow followers need
the witness is fsynced each second; free disk space is looked at whenever the shell ticks
old revisions are removed: `compacting`; what nobody reads is read: `scrub`

The witness has a thread of its own: it must not wait behind a long sync of state/.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from chainfire.errors import FatalError, RequestError, Stalled
from chainfire.machine import Machine
from chainfire.node.compacting import Compacting, Pace
from chainfire.node.duties import Duties
from chainfire.node.logstore import LogStore
from chainfire.node.scrub import Scrub
from chainfire.node.status import Durations, Times
from chainfire.node.worker import Worker
from chainfire.storage.backend import LOG_FAMILIES, STATE_FAMILIES, LogBackend, StorageBackend

INTERVAL_SECONDS = 1.0
ASIDE_SECONDS = 60.0  # between two looks at what was put aside
KEPT_FOR_SNAPSHOTS = 1_000_000  # entries; a follower that takes longer begins with another one


class Disk(Protocol):
    """What upkeep needs of the data directory and the witness."""

    def free_bytes(self) -> int: ...

    def damaged_bytes(self) -> int:
        """Of what was put aside and is an operator's to remove. Blocks."""
        ...

    def fsync_witness(self) -> None: ...

    def next_checkpoint_path(self) -> Path: ...


@dataclass(slots=True, frozen=True)
class UpkeepSettings:
    state_sync_entries: int  # etcd's snapshot-count: bounds what a start replays
    catchup_entries: int  # etcd's snapshot-catchup-entries: kept behind applied
    compaction: Pace


class Upkeep:
    def __init__(
        self,
        *,
        log: LogStore,
        machine: Machine,
        duties: Duties,
        log_backend: LogBackend,
        state_backend: StorageBackend,
        disk: Disk,
        settings: UpkeepSettings,
        log_needed_behind: Callable[[], int | None],
        die: Callable[[FatalError], None],
    ) -> None:
        self._log = log
        self._machine = machine
        self._backend = state_backend
        self._disk = disk
        self._settings = settings
        self._log_needed_behind = log_needed_behind  # an index: a snapshot there is under way
        self._loop = asyncio.get_running_loop()
        self.compacting = Compacting(
            machine=machine,
            duties=duties,
            backend=state_backend,
            pace=settings.compaction,
            die=die,
        )
        self.scrub = Scrub(
            ((state_backend, STATE_FAMILIES), (log_backend, LOG_FAMILIES)),
            die,
        )
        self._state_worker = Worker("state-sync", die)
        self._witness_worker = Worker("witness-sync", die)
        self._state_sync_times = Times()
        self._state_sync_running = self._witness_sync_running = False
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self.free_bytes = disk.free_bytes()
        self.damaged_bytes = 0  # as last looked at
        self._aside_due = self._loop.time()

    # ── life ────────────────────────────────────────────────────────────────

    def start(self) -> None:
        self._timer = self._loop.call_later(INTERVAL_SECONDS, self._each_second)
        self.scrub.start()
        self.after_apply()

    def stop(self, error: RequestError) -> None:
        """Refuse who waits for a compaction; nothing new is begun. Idempotent."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self.scrub.stop()
        self.compacting.stop(error)

    async def aclose(self) -> None:
        """After `stop`: wait for the syncs. `compacting` is closed apart, after the last write."""
        await self._state_worker.aclose()
        await self._witness_worker.aclose()

    # ── asked for ───────────────────────────────────────────────────────────

    def after_apply(self) -> None:
        """Entries were applied: begin what has become due."""
        if self._log.state_durable + self._settings.state_sync_entries <= self._applied:
            self._sync_state()
        self.compacting.after_apply()

    def installed(self) -> None:
        """A snapshot took the place of the state."""
        self.compacting.installed()

    def state_sync_times(self) -> Durations:
        return self._state_sync_times.frozen()

    def look_at_disk(self) -> int:
        """Free bytes now. Asked at every tick: a disk can lose 100 MB in a second."""
        with suppress(OSError):  # then the last reading counts; writes find out what it is
            self.free_bytes = self._disk.free_bytes()
        return self.free_bytes

    # ── state/ becomes durable, the log's front goes ────────────────────────

    @property
    def _applied(self) -> int:
        return self._machine.applied_index

    def _each_second(self) -> None:
        if self._closed:
            return
        self._timer = self._loop.call_later(INTERVAL_SECONDS, self._each_second)
        if not self._witness_sync_running:
            self._witness_sync_running = True
            self._witness_worker.run(self._disk.fsync_witness, self._witness_synced)
        if self._applied > self._log.state_durable:
            self._sync_state()
        if self._loop.time() >= self._aside_due:
            self._aside_due += ASIDE_SECONDS
            self._state_worker.run(self._look_aside)

    def _look_aside(self) -> None:
        """On the thread: files of gigabytes are few, but a disk may be slow to list them."""
        with suppress(OSError):
            self.damaged_bytes = self._disk.damaged_bytes()

    def _witness_synced(self) -> None:
        self._witness_sync_running = False

    def _sync_state(self) -> None:
        if self._state_sync_running or self._closed:
            return
        self._state_sync_running = True
        applied, started = self._applied, self._loop.time()

        def done() -> None:
            self._state_sync_times.observe(self._loop.time() - started)
            self._state_synced(applied)

        self._state_worker.run(self._backend.sync, done)

    def _state_synced(self, applied: int) -> None:
        self._state_sync_running = False
        if self._closed or applied < self._log.state_durable:  # of a state that was replaced
            return
        with suppress(Stalled):  # the next second's sync records as much and more
            self._log.note_state_durable(applied)
            self._cut_log(applied)

    def _cut_log(self, durable: int) -> None:
        """Never further than what is durable in state/, nor than slow followers need."""
        # Catch-up entries that are too large to be kept in memory are not kept on disk either.
        behind = max(self._applied - self._settings.catchup_entries, self._log.tail_first_index - 1)
        cut = min(durable, self._applied, behind)
        needed_behind = self._log_needed_behind()
        if needed_behind is not None and self._applied - needed_behind <= KEPT_FOR_SNAPSHOTS:
            cut = min(cut, needed_behind)
        # In strides, so that a cut is worth its write.
        if cut - self._log.first_index() >= max(1, (self._applied - behind) // 10):
            self._log.truncate_front(cut)
