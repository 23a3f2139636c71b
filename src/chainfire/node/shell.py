"""The asyncio face of a member: carries out what the driver decides.

One turn of the event loop collects every call that has arrived; the next runs
`driver.turn()` once for all of them, syncs the log once, and answers.

The sync runs inline while recent ones were short, this member is the sole
voter and its door hands over calls in batches (measured faster: no hand-over
of the GIL), otherwise on a thread: so heartbeats and reads go on while a disk
stalls, and a door that brings one call at a time fills the next batch
meanwhile (grpcio, 100 puts in flight: 0.6 syncs per put instead of 1).

Any FatalError ends the member: who waits is told "stopped" (the outcome is
unknown to them), `failed` carries the error to the server, which exits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from chainfire.errors import FatalError, RequestError, Stopped
from chainfire.machine import Machine
from chainfire.mvcc.store import Mvcc
from chainfire.node.driver import Driver, Effects
from chainfire.node.reads import ReadPending
from chainfire.node.status import NodeStatistics, NodeStatus, SyncTimes
from chainfire.node.steps import StepRunner, Steps
from chainfire.node.upkeep import Disk, Upkeep, UpkeepSettings
from chainfire.proto.kv_pb2 import LOCAL
from chainfire.storage.backend import StorageBackend
from chainfire.types import Pending

T = TypeVar("T")
log = logging.getLogger(__name__)

INLINE_SYNC_SECONDS_MAX = 0.005  # one sync slower than this, and the next ones use the thread
THREAD_SYNCS_AFTER_SLOW = 100
STALL_RETRY_SECONDS = 0.01


class Node:
    """A member that runs. Create on the loop, `start`, use, `aclose`."""

    def __init__(
        self,
        *,
        driver: Driver,
        log_backend: StorageBackend,
        state_backend: StorageBackend,
        disk: Disk,
        cluster_id: int,
        heartbeat_seconds: float,
        calls_come_in_batches: bool,
        upkeep: UpkeepSettings,
    ) -> None:
        self.cluster_id = cluster_id
        self.member_id = driver.member_id
        self.backend = state_backend
        self.machine: Machine = driver.machine
        self._driver = driver
        self._core = driver.raft.raft  # read, never written
        self._log_backend = log_backend
        self._disk = disk
        self._heartbeat_seconds = heartbeat_seconds
        self._may_sync_inline = calls_come_in_batches and driver.is_sole_voter
        self._loop = asyncio.get_running_loop()
        self.failed: asyncio.Future[FatalError] = self._loop.create_future()
        self._steps = StepRunner(self._loop)
        self._upkeep = Upkeep(
            log=driver.log,
            machine=driver.machine,
            duties=driver.duties,
            state_backend=state_backend,
            disk=disk,
            settings=upkeep,
            die=self.halt,
        )
        self._syncer = ThreadPoolExecutor(1, "log-sync")
        self._sync_times = SyncTimes()
        self._sync_running = False
        self._thread_syncs_left = 0
        self._turn_scheduled = False
        self._tick_timer: asyncio.TimerHandle | None = None
        self._tick_due = 0.0
        self._tick_lateness_max = 0.0
        self._closed = False

    # ── life ────────────────────────────────────────────────────────────────

    async def start(self, timeout_seconds: float) -> None:
        """Begin; returns once this member may be read. A sole voter elects itself at once.

        Raises the FatalError that stopped the member, or TimeoutError.
        """
        now = self._loop.time()
        self._driver.begin(int(now * 1000))
        self._tick_due = now + self._heartbeat_seconds
        self._tick_timer = self._loop.call_at(self._tick_due, self._tick)
        self._upkeep.start()
        if self._driver.is_sole_voter:
            self._driver.raft.campaign()
        self._schedule_turn()
        applied = _Wait(self._loop)
        self.read(LOCAL, 0, None, applied)
        async with asyncio.timeout(timeout_seconds):
            await asyncio.wait((applied.future, self.failed), return_when=asyncio.FIRST_COMPLETED)
        if self.failed.done():
            raise self.failed.result()

    async def aclose(self) -> None:
        """Answer who waits, make everything durable, stop. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._tick_timer is not None:
            self._tick_timer.cancel()
        self._steps.close()
        self._upkeep.stop(Stopped())
        self._deliver(self._driver.stop())
        await self._upkeep.aclose()
        await asyncio.to_thread(self._syncer.shutdown)
        if not self.failed.done():
            applied = self.machine.applied_index
            await asyncio.to_thread(self.backend.sync)
            self._driver.log.note_state_durable(applied)
            await asyncio.to_thread(self._log_backend.sync)
            self._disk.fsync_witness()

    def halt(self, error: FatalError) -> None:
        """This member cannot go on: tell everybody who waits, and the server."""
        if self.failed.done():
            return
        log.critical("member stops", extra={"error": type(error).__name__, "detail": str(error)})
        self.failed.set_result(error)
        self._upkeep.stop(Stopped())
        self._deliver(self._driver.stop())

    # ── what the api asks ───────────────────────────────────────────────────

    @property
    def store(self) -> Mvcc:
        return self.machine.store

    @property
    def term(self) -> int:
        return self._core.term

    @property
    def leader_id(self) -> int:
        return self._core.leader

    def propose(
        self,
        kind: int,
        body: bytes,
        pending: Pending,
        *,
        keyspace: int = 0,
        user: str = "",
        auth_revision: int = 0,
    ) -> None:
        """Queue a command; `pending` hears when it is applied, or that it was refused."""
        self._driver.propose(
            kind, body, pending, keyspace=keyspace, user=user, auth_revision=auth_revision
        )
        if not self._turn_scheduled:
            self._schedule_turn()

    def read(
        self, level: int, min_revision: int, deadline: float | None, pending: ReadPending
    ) -> None:
        """`pending.ready()` once the store may be read at this level, at once where possible.

        `deadline` is the caller's, on the loop's clock in seconds.
        """
        deadline_ms = None if deadline is None else int(deadline * 1000)
        if self._driver.read(level, min_revision, deadline_ms, pending):
            pending.ready()
        else:
            self._schedule_turn()

    def run_steps(
        self,
        work: Generator[None, None, T],
        on_done: Callable[[T], None],
        on_error: Callable[[Exception], None],
    ) -> Steps:
        """Drive sliced work between turns; see `node.steps`."""
        return self._steps.run(work, on_done, on_error)

    def when_compacted(self, revision: int, pending: ReadPending) -> None:
        self._upkeep.when_compacted(revision, pending)

    def nudge_compaction(self) -> None:
        self._upkeep.nudge_compaction()

    def status(self) -> NodeStatus:
        return NodeStatus(
            cluster_id=self.cluster_id,
            member_id=self.member_id,
            leader_id=self._core.leader,
            term=self._core.term,
            commit_index=self._core.log.committed,
            applied_index=self.machine.applied_index,
            is_learner=self.member_id in self.machine.conf_state.learners,
        )

    def statistics(self) -> NodeStatistics:
        return NodeStatistics(
            proposals_pending=self._driver.proposals_pending,
            log_syncs=self._sync_times.frozen(),
            tick_lateness_seconds_max=self._tick_lateness_max,
            disk_free_bytes=self._upkeep.free_bytes,
            log=self._log_backend.statistics(),
            state=self.backend.statistics(),
            machine=self.machine.statistics(),
        )

    # ── turns ───────────────────────────────────────────────────────────────

    def _schedule_turn(self) -> None:
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_scheduled = False
        if self._closed or self.failed.done():
            return
        try:
            while True:
                effects = self._driver.turn()
                self._deliver(effects)
                if effects.sync is None or self._sync_running:
                    break
                if not self._sync_inline():
                    self._start_sync(effects.sync)
                    break
                self._driver.synced(effects.sync)
            self._upkeep.after_apply()
        except FatalError as exc:
            self.halt(exc)
            return
        if effects.stalled:
            self._loop.call_later(STALL_RETRY_SECONDS, self._schedule_turn)

    def _deliver(self, effects: Effects) -> None:
        for answer in effects.answers:
            result = answer.result
            if isinstance(result, RequestError):
                answer.pending.refused(result)
            else:
                answer.pending.done(result)
        for reader in effects.reads:
            reader.ready()

    def _tick(self) -> None:
        now = self._loop.time()
        self._tick_lateness_max = max(self._tick_lateness_max, now - self._tick_due)
        # Late turns: whatever was missed, tick once (design §7).
        self._tick_due = max(now, self._tick_due) + self._heartbeat_seconds
        self._tick_timer = self._loop.call_at(self._tick_due, self._tick)
        if not self._closed and not self.failed.done():
            self._driver.tick(int(now * 1000), self._upkeep.look_at_disk())
            self._schedule_turn()

    # ── the log's sync ──────────────────────────────────────────────────────

    def _sync_inline(self) -> bool:
        """Sync here and now, if that is quick and holds up nobody."""
        if self._thread_syncs_left or not self._may_sync_inline:
            return False
        started = self._loop.time()
        self._log_backend.sync()
        seconds = self._loop.time() - started
        self._sync_times.observe(seconds)
        if seconds > INLINE_SYNC_SECONDS_MAX:
            self._thread_syncs_left = THREAD_SYNCS_AFTER_SLOW
        return True

    def _start_sync(self, number: int) -> None:
        self._sync_running = True
        self._thread_syncs_left = max(0, self._thread_syncs_left - 1)
        started = self._loop.time()
        future = self._syncer.submit(self._log_backend.sync)
        future.add_done_callback(
            lambda done: self._loop.call_soon_threadsafe(self._synced, done, number, started)
        )

    def _synced(self, done: Future[None], number: int, started: float) -> None:
        self._sync_running = False
        if self._closed or self.failed.done():
            return
        self._sync_times.observe(self._loop.time() - started)
        try:
            done.result()
            self._driver.synced(number)
        except FatalError as exc:
            self.halt(exc)
            return
        self._turn()


class _Wait:
    """A ReadPending that a coroutine can await."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.future: asyncio.Future[None] = loop.create_future()

    def ready(self) -> None:
        if not self.future.done():
            self.future.set_result(None)

    def refused(self, error: RequestError) -> None:
        if not self.future.done():
            self.future.set_exception(error)
