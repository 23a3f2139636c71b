"""The asyncio face of a member: carries out what the driver decides.

One turn of the event loop collects every call that has arrived; the next runs
`driver.turn()` once for all of them, syncs the log once, and answers.

Any FatalError ends the member, and so does whatever else a turn raises: who
waits is told "stopped" (the outcome is unknown to them), `failed` carries the
error to the server, which exits. Stalled storage is no failure: the driver
keeps its work, and a turn tries again a little later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

from chainfire.errors import FatalError, Stopped
from chainfire.machine import Machine
from chainfire.mvcc.store import Mvcc
from chainfire.node.archiving import StateArchive
from chainfire.node.audience import Audience, Follower, Outlet
from chainfire.node.driver import Driver
from chainfire.node.effects import Effects
from chainfire.node.ending import last_words, make_durable
from chainfire.node.heartbeat import Heartbeat
from chainfire.node.holding import Holding
from chainfire.node.journal import Journal
from chainfire.node.leaving import Leaving
from chainfire.node.logsync import LogSync
from chainfire.node.overview import Overview
from chainfire.node.pauses import CollectorPauses
from chainfire.node.peering import Peering
from chainfire.node.peers import PeerTransport
from chainfire.node.reads import ReadPending
from chainfire.node.registry import Registry
from chainfire.node.sending import Verify
from chainfire.node.status import APPLY_BOUNDS_SECONDS, ARCHIVE_BOUNDS_SECONDS, Times
from chainfire.node.steps import StepRunner, Steps
from chainfire.node.upkeep import Disk, Upkeep, UpkeepSettings
from chainfire.node.waiter import Waiter
from chainfire.node.worker import fatal
from chainfire.proto.cluster_pb2 import Member
from chainfire.proto.kv_pb2 import LOCAL
from chainfire.raft.changes import ConfChange
from chainfire.storage.backend import LogBackend, StorageBackend
from chainfire.types import Pending, RenewResult

T = TypeVar("T")

STALL_RETRY_SECONDS = 0.01


class Node:
    """A member that runs. Create on the loop, `start`, use, `aclose`."""

    def __init__(
        self,
        *,
        driver: Driver,
        log_backend: LogBackend,
        state_backend: StorageBackend,
        registry: Registry,
        disk: Disk,
        cluster_id: int,
        heartbeat_seconds: float,
        calls_come_in_batches: bool,  # through the native door
        slow_turn_seconds: float,
        upkeep: UpkeepSettings,
        auto_heal: bool,
        verify: Verify,
    ) -> None:
        """`auto_heal`: see Heartbeat. `verify` reads every row of a checkpoint."""
        self.cluster_id = cluster_id
        self.member_id = driver.member_id
        self.backend = state_backend
        self._machine = driver.machine
        self._driver = driver
        self._core = driver.raft.raft  # read, never written
        self._log_backend = log_backend
        self._disk = disk
        self._verify = verify
        self._calls_come_in_batches = calls_come_in_batches
        self._slow_turn_seconds = slow_turn_seconds  # longer turns are logged; 0 = none
        self._apply_times = Times(APPLY_BOUNDS_SECONDS)
        self._archive_times = Times(ARCHIVE_BOUNDS_SECONDS)
        self._led = (0, 0)  # term and leader, as last logged
        self._loop = asyncio.get_running_loop()
        self.failed: asyncio.Future[FatalError] = self._loop.create_future()
        self.removed = asyncio.Event()  # it serves nobody any more, though others may need it
        self._steps = StepRunner(self._loop)
        self._upkeep = Upkeep(
            log=driver.log,
            machine=driver.machine,
            duties=driver.duties,
            log_backend=log_backend,
            state_backend=state_backend,
            disk=disk,
            settings=upkeep,
            log_needed_behind=lambda: driver.snapshot_under_way,
            die=self.halt,
        )
        self._log_sync = LogSync(
            log_backend, natively=calls_come_in_batches, synced=self._synced, die=self.halt
        )
        self.peering = Peering(
            driver, registry, wake=self._schedule_turn, say=self._say, die=self.halt
        )
        driver.send_through(self.peering.tell)
        if calls_come_in_batches:
            driver.sync_through(self._log_sync.begin)
        self._turn_scheduled = self._round_scheduled = False
        self._stall_timer: asyncio.TimerHandle | None = None
        self._holding = Holding(driver, turn=self._turn)
        self._membership_changes: tuple[int, int] | None = None  # as last looked at
        self._audience = Audience(driver.machine)
        self._kept_up = 0  # applied index that the upkeep knows of
        self._closed = False
        self._journal = Journal(driver, slow_turn_seconds)
        self._leaving = Leaving(driver, refuse=self._end_service, wake=self._schedule_turn)
        self._heartbeat = Heartbeat(
            driver=driver,
            upkeep=self._upkeep,
            peering=self.peering,
            journal=self._journal,
            interval_seconds=heartbeat_seconds,
            auto_heal=auto_heal,
            is_over=lambda: self._is_over,
            wake=self._schedule_turn,
            die=self.halt,
        )
        self.collector_pauses = CollectorPauses()
        self.overview = Overview(
            driver=driver,
            cluster_id=cluster_id,
            log_backend=log_backend,
            state_backend=state_backend,
            log_sync=self._log_sync,
            upkeep=self._upkeep,
            peering=self.peering,
            heartbeat=self._heartbeat,
            journal=self._journal,
            collector_pauses=self.collector_pauses,
            apply_times=self._apply_times,
            archive_times=self._archive_times,
            catch_up=self.catch_up,
        )

    # ── life ────────────────────────────────────────────────────────────────

    async def start(
        self, timeout_seconds: float | None, transport: PeerTransport | None = None
    ) -> None:
        """Begin; returns once this member may be read. A sole voter elects itself at once.

        `transport` is this node's from now on: how it reaches other members.
        Raises the FatalError that stopped the member, or TimeoutError.
        """
        self._driver.begin(self._now_ms)
        self._heartbeat.start()
        self._upkeep.start()
        if transport is not None:
            self.peering.connect(transport)
        if self._driver.is_sole_voter:
            self._driver.raft.campaign()
        self._schedule_turn()
        if not await asyncio.wait_for(self._is_read(), timeout_seconds):
            raise self.failed.result() if self.failed.done() else Stopped()

    async def _is_read(self) -> bool:
        while not self._is_over:
            reader = Waiter()  # refused when its time is over: asks again
            self.read(LOCAL, 0, None, reader)
            if await reader.done_before(self.failed):
                return True
        return False

    async def hand_over(self) -> None:
        """Before a stop: let another member lead, if this one does and there is one.

        Returns when it leads and has committed something, or in vain after an election timeout.
        """
        best = self._driver.best_successor
        if best and not self._is_over:
            waiter = Waiter()
            self._driver.move_leader(best, waiter, entirely=True)
            self._schedule_turn()
            await waiter.done_before(self.failed)

    async def aclose(self) -> None:
        """Apply what was answered, answer who waits, make everything durable, stop. Idempotent.

        What goes wrong with that is in `failed` afterwards.
        """
        if self._closed:
            return
        try:
            self.catch_up()
        except Exception as exc:
            self.halt(fatal(exc))
        self._closed = True
        self._heartbeat.stop()
        self._holding.stop()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
        self._end_waits()
        self.collector_pauses.end()
        await self.peering.aclose()
        await self._upkeep.aclose()
        await self._log_sync.aclose()
        if not self.failed.done():
            try:
                await make_durable(
                    applied=self._machine.applied_index,
                    log_store=self._driver.log,
                    log_backend=self._log_backend,
                    state_backend=self.backend,
                    disk=self._disk,
                )
            except Exception as exc:
                self.halt(fatal(exc))
        await self._upkeep.compacting.aclose()

    def halt(self, error: FatalError) -> None:
        """This member cannot go on: tell everybody who waits, and the server."""
        if self.failed.done():
            return
        self.failed.set_result(last_words(error))
        self._end_waits()

    @property
    def _is_over(self) -> bool:
        return self._closed or self.failed.done()

    def _end_waits(self) -> None:
        self._upkeep.stop(Stopped())
        self._steps.close(Stopped())
        self._audience.answer(self._driver.stop().answers)

    def _end_service(self) -> None:
        """It was removed. Who waits is answered, what is running is finished."""
        self._audience.answer(self._driver.stop().answers)
        self.removed.set()

    # ── what the api asks ───────────────────────────────────────────────────

    @property
    def machine(self) -> Machine:
        """The state, with all that was answered. Look, and do not keep it over a turn."""
        self.catch_up()
        return self._machine

    @property
    def machine_as_applied(self) -> Machine:
        """The state, which may lack some of what was answered."""
        return self._machine

    @property
    def store(self) -> Mvcc:
        """The machine's, with all that was answered."""
        self.catch_up()
        return self._machine.store

    def catch_up(self) -> None:
        """Apply what was answered and not applied yet (`node.applying`); the follower hears.

        Not once it has failed: then the next start does. Raises whatever a turn may raise.
        """
        if self._driver.lags and not (self._closed or self.failed.done()):
            self._driver.catch_up()
            self._audience.tell_follower()
            self._schedule_turn()

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

    def propose_conf_change(
        self, change: ConfChange, members: Sequence[Member], pending: Pending
    ) -> None:
        """Change the membership, from any member; `pending` hears when it is applied.

        `members` describes whom the change adds, and whose peer URLs it moves.
        """
        self._driver.propose_conf_change(change, members, pending)
        self._schedule_turn()

    def move_leader(self, target: int, pending: Pending) -> None:
        """Let this voter lead; refused where this member does not."""
        self.catch_up()
        self._driver.move_leader(target, pending)
        self._schedule_turn()

    @property
    def _now_ms(self) -> int:
        return int(self._loop.time() * 1000)

    def kept(self, ids: Sequence[int]) -> RenewResult:
        """Let the TTLs of these leases begin anew, as far as that can be said at once.

        UNWRITTEN in the place of a TTL: ask `renew`.
        """
        self.catch_up()
        return self._driver.kept(ids, self._now_ms)

    def renew(self, ids: Sequence[int], pending: Pending, *, keyspace: int = 0) -> None:
        """Let the TTLs of these leases begin anew; `pending` gets a RenewResult in their order."""
        self._driver.renew(ids, pending, self._now_ms, keyspace=keyspace)
        if not self._turn_scheduled:
            self._schedule_turn()

    @property
    def lease_clock_ms(self) -> int:
        """What the replicated lease clock reads; at a follower an estimate."""
        return self._driver.lease_clock_ms(self._now_ms)

    def read(
        self, level: int, min_revision: int, deadline: float | None, pending: ReadPending
    ) -> None:
        """`pending.ready()` once the store may be read at this level, at once where possible.

        `deadline` is the caller's, on the loop's clock in seconds.
        """
        self.catch_up()
        deadline_ms = None if deadline is None else int(deadline * 1000)
        if self._driver.read(level, min_revision, deadline_ms, pending):
            pending.ready()
        elif not self._driver.awaits_round:
            self._schedule_turn()
        elif not (self._turn_scheduled or self._round_scheduled):
            self._round_scheduled = True
            self._loop.call_soon(self._begin_round)

    @property
    def is_barred(self) -> bool:
        """Nothing may be read now, at no level; `read` tells when again."""
        return self._driver.is_barred

    def run_steps(
        self,
        work: Generator[None, None, T],
        on_done: Callable[[T], None],
        on_error: Callable[[Exception], None],
    ) -> Steps:
        """Drive sliced work between turns; see `node.steps`."""
        return self._steps.run(work, on_done, on_error)

    def follow(self, follower: Follower) -> None:
        """Tell it of all that is applied from now on, before anybody is answered."""
        self._audience.follow(follower)

    def answer_through(self, outlet: Outlet) -> None:
        """Answers are told to leave as soon as a turn has given them, before more is applied."""
        self._audience.answer_through(outlet)

    def when_compacted(self, revision: int, pending: ReadPending) -> None:
        self._upkeep.compacting.when_compacted(revision, pending)

    def nudge_compaction(self) -> None:
        self._upkeep.compacting.nudge()

    def archive(self) -> StateArchive:
        """The whole state as one stream of bytes, while this member goes on."""
        self.catch_up()
        return StateArchive(
            self._disk,
            self.backend,
            self.cluster_id,
            self.member_id,
            self._machine,
            self._verify,
            self._archive_times,
        )

    # ── turns ───────────────────────────────────────────────────────────────

    def _schedule_turn(self) -> None:
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self._loop.call_soon(self.take_turn)

    def take_turn(self) -> None:
        """The turn that is due, if any is, here and now: whoever has just asked is known to be
        alone, and need not wait until the loop has looked for others.
        """
        if self._turn_scheduled:
            self._turn()

    def _turn(self) -> None:
        """Turns of the driver, as long as what the next one waits for is done here and now."""
        self._turn_scheduled = False
        try:
            while not (self._closed or self.failed.done()):
                effects = self._take_turn()
                if not (self._sync_inline(effects) or effects.told):
                    self._after_turns(effects)
                    self._sync_aside(effects)
                    return
                self._sync_aside(effects)
        except Exception as exc:
            self.halt(fatal(exc))

    def _take_turn(self) -> Effects:
        self._audience.before_turn()
        effects = self._drive()
        self._carry_out(effects)
        self._audience.show(effects.answers, effects.reads)
        if effects.remind_after:
            self._loop.call_later(effects.remind_after, self._remind)
        return effects

    def _after_turns(self, last: Effects) -> None:
        """What need not be looked at in the midst of them."""
        if last.more:
            self._schedule_turn()
        if last.stalled:
            self._retry_soon()
        self.peering.after_turn()
        if self._machine.membership_changes != self._membership_changes:
            self._membership_changes = self._machine.membership_changes
            self._leaving.membership_changed()
        if (self._core.term, self._core.leader) != self._led:
            self._led = (self._core.term, self._core.leader)
            self._journal.leader_changed()
        if self._machine.applied_index != self._kept_up:
            self._kept_up = self._machine.applied_index
            self._upkeep.after_apply()
        self._holding.begin()

    def _drive(self) -> Effects:
        """A turn of the driver, timed."""
        started, applied = self._loop.time(), self._machine.applied_index
        effects = self._driver.turn(int(started * 1000))
        seconds = self._loop.time() - started
        if self._machine.applied_index != applied:
            self._apply_times.observe(seconds)
        if seconds > self._slow_turn_seconds > 0:
            self._journal.slow_turn(seconds, len(effects.answers))
        return effects

    def _sync_inline(self, effects: Effects) -> bool:
        """Do what it asks of the log here, if that may be. True: another turn is due at once."""
        number = effects.sync
        if number is None or self._log_sync.running:
            return False
        if not (self._may_sync_inline() and self._log_sync.try_inline(self._driver.foretell)):
            return False
        effects.sync = None
        return self._log_synced(number)

    def _sync_aside(self, effects: Effects) -> None:
        """Do on the thread what is left to do with the log.

        Last in a pass of the loop: the thread wants the GIL as soon as it wakes, and would sleep
        once more.
        """
        if effects.sync is not None and not self._log_sync.running:
            self._log_sync.start(effects.sync)

    def _may_sync_inline(self) -> bool:
        return self._calls_come_in_batches and self._driver.is_sole_voter

    def _synced(self, number: int) -> None:
        if not (self._closed or self.failed.done()):
            if self._log_synced(number):
                self._turn()
            else:
                self._holding.begin()
                self._holding.use_pause()

    def _log_synced(self, number: int) -> bool:
        """Say what hangs on it. Whether a turn is due."""
        driver = self._driver
        self._audience.show(driver.synced(number))
        if driver.is_due:
            return True
        self._say()
        return False

    def _remind(self) -> None:
        if not (self._closed or self.failed.done()):
            again_after = self._driver.remind()
            if again_after:
                self._loop.call_later(again_after, self._remind)
            self._say()

    def _begin_round(self) -> None:
        """One round for all reads that came in this pass of the loop, if no turn has begun it."""
        self._round_scheduled = False
        if not (self._turn_scheduled or self._closed or self.failed.done()):
            try:
                self._driver.begin_round()
                self._say()
            except Exception as exc:
                self.halt(fatal(exc))

    def _say(self) -> None:
        """What needs no turn."""
        said = self._driver.say()
        if said.frames or said.snapshots:
            self.peering.send(said)
        if said.reads:
            self._audience.show((), said.reads)
        if said.remind_after:
            self._loop.call_later(said.remind_after, self._remind)
        if said.more:
            self._schedule_turn()

    def _retry_soon(self) -> None:
        """One retry at a time, however many turns a stall sees."""
        if self._stall_timer is None:
            self._stall_timer = self._loop.call_later(STALL_RETRY_SECONDS, self._retry)

    def _retry(self) -> None:
        self._stall_timer = None
        self._schedule_turn()

    def _carry_out(self, effects: Effects) -> None:
        if effects.frames or effects.snapshots:
            self.peering.send(effects)
        if effects.installed:
            self._upkeep.installed()
