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
import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Protocol, TypeVar

from chainfire.errors import (
    DiskFull,
    Diverged,
    FatalError,
    InternalFailure,
    RequestError,
    Stalled,
    Stopped,
)
from chainfire.machine import Machine
from chainfire.mvcc.store import Mvcc
from chainfire.node.applying import HOLD_SECONDS
from chainfire.node.archiving import StateArchive
from chainfire.node.commits import WAIT_SECONDS
from chainfire.node.divergence import Verdict
from chainfire.node.driver import Driver
from chainfire.node.effects import Answer, Effects
from chainfire.node.frames import Report
from chainfire.node.logsync import LogSync
from chainfire.node.pauses import CollectorPauses
from chainfire.node.peering import Peering, removed
from chainfire.node.peers import PeerTransport
from chainfire.node.reads import ReadPending
from chainfire.node.registry import Registry
from chainfire.node.reports import Heard
from chainfire.node.status import (
    APPLY_BOUNDS_SECONDS,
    ARCHIVE_BOUNDS_SECONDS,
    NodeStatistics,
    NodeStatus,
    Times,
)
from chainfire.node.steps import StepRunner, Steps
from chainfire.node.upkeep import Disk, Upkeep, UpkeepSettings
from chainfire.node.worker import fatal
from chainfire.proto.cluster_pb2 import Member
from chainfire.proto.kv_pb2 import LOCAL
from chainfire.proto.maintenance_pb2 import AlarmType
from chainfire.raft.changes import ConfChange
from chainfire.raft.ready import Role
from chainfire.storage.backend import StorageBackend
from chainfire.storage.staged import Change
from chainfire.types import Alarm, Pending, RenewResult, Result

T = TypeVar("T")
log = logging.getLogger(__name__)

STALL_RETRY_SECONDS = 0.01
VERDICTS = {
    Verdict.SOUND: "this member's state is that of the majority",
    Verdict.SUSPECT: "this member's state is not its leader's: it serves nothing",
    Verdict.ODD: "this member's state is not that of the majority: it serves nothing",
}
DIVERGED = "its state is not what the majority of the members has made of the same log"
REMOVAL_SECONDS_MAX = 0.5  # a removed member lives on that long, as others may hear of it by it
DISK_FULL_ADVICE = (
    "Nothing that was acknowledged is lost. Make room on this volume, then start again: the start "
    "gives up the ballast file; delete keys and compact before the next writes"
)


class Follower(Protocol):
    """Somebody who is told what is applied, turn by turn. Must not raise."""

    @property
    def wants_changes(self) -> bool:
        """Else it hears of revisions only."""
        ...

    def applied(self, changes: Sequence[Sequence[Change]], revision: int) -> None:
        """The store is at `revision` now; the rows of entries that changed some, in order.

        The first entries may be missing after `wants_changes` was set.
        """
        ...


class Outlet(Protocol):
    """A door by which many answers leave at once. Must not raise."""

    def hold(self) -> None:
        """Answers follow."""
        ...

    def flush(self) -> None:
        """That were all: let them leave."""
        ...


class Node:
    """A member that runs. Create on the loop, `start`, use, `aclose`."""

    def __init__(
        self,
        *,
        driver: Driver,
        log_backend: StorageBackend,
        state_backend: StorageBackend,
        registry: Registry,
        disk: Disk,
        cluster_id: int,
        heartbeat_seconds: float,
        calls_come_in_batches: bool,
        slow_turn_seconds: float,
        upkeep: UpkeepSettings,
        auto_heal: bool,
    ) -> None:
        """`auto_heal`: with a state that is not the majority's it fails with Diverged."""
        self.cluster_id = cluster_id
        self.member_id = driver.member_id
        self.backend = state_backend
        self._machine = driver.machine
        self._driver = driver
        self._core = driver.raft.raft  # read, never written
        self._log_backend = log_backend
        self._disk = disk
        self._heartbeat_seconds = heartbeat_seconds
        self._calls_come_in_batches = calls_come_in_batches
        self._slow_turn_seconds = slow_turn_seconds  # longer turns are logged; 0 = none
        self._slow_turns = self._late_heartbeats = 0
        self._apply_times = Times(APPLY_BOUNDS_SECONDS)
        self._archive_times = Times(ARCHIVE_BOUNDS_SECONDS)
        self._auto_heal = auto_heal
        self._alarms: tuple[Alarm, ...] = tuple(driver.machine.alarms)  # as last logged
        self._verdict = driver.soundness.verdict  # as last logged
        self._led = (0, 0)  # term and leader, as last logged
        self._loop = asyncio.get_running_loop()
        self.failed: asyncio.Future[FatalError] = self._loop.create_future()
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
        self._log_sync = LogSync(log_backend, synced=self._synced, die=self.halt)
        self.peering = Peering(
            driver, registry, wake=self._schedule_turn, say=self._say, die=self.halt
        )
        self._turn_scheduled = self._round_scheduled = False
        self._removal_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self._hold_timer: asyncio.TimerHandle | None = None
        self._tick_timer: asyncio.TimerHandle | None = None
        self._tick_due = 0.0
        self._tick_lateness_max = 0.0
        self.collector_pauses = CollectorPauses()
        self._membership_changes: tuple[int, int] | None = None  # as last looked at
        self._outlets: list[Outlet] = []
        self._follower: Follower | None = None
        self._told_revision = self._machine.revision
        self._kept_up = 0  # applied index that the upkeep knows of
        self._closed = False

    # ── life ────────────────────────────────────────────────────────────────

    async def start(
        self, timeout_seconds: float | None, transport: PeerTransport | None = None
    ) -> None:
        """Begin; returns once this member may be read. A sole voter elects itself at once.

        `transport` is this node's from now on: how it reaches other members.
        Raises the FatalError that stopped the member, or TimeoutError.
        """
        now = self._loop.time()
        self._driver.begin(int(now * 1000))
        self._tick_due = now + self._heartbeat_seconds
        self._tick_timer = self._loop.call_at(self._tick_due, self._tick)
        self._upkeep.start()
        if transport is not None:
            self.peering.connect(transport)
        if self._driver.is_sole_voter:
            self._driver.raft.campaign()
        self._schedule_turn()
        async with asyncio.timeout(timeout_seconds):
            while not (self._closed or self.failed.done()):
                reader = _Reader(self._loop)  # refused when its time is over: asks again
                self.read(LOCAL, 0, None, reader)
                await asyncio.wait(
                    (reader.may_read, self.failed), return_when=asyncio.FIRST_COMPLETED
                )
                if reader.finished and reader.may_read.result():
                    return
        raise self.failed.result() if self.failed.done() else Stopped()

    async def hand_over(self) -> None:
        """Before a stop: let another member lead, if this one does and there is one.

        Returns when it leads, or in vain after an election timeout.
        """
        best = self._driver.best_successor
        if best and not (self._closed or self.failed.done()):
            waiter = _Reader(self._loop)
            self.move_leader(best, waiter)
            await asyncio.wait((waiter.may_read, self.failed), return_when=asyncio.FIRST_COMPLETED)

    async def aclose(self) -> None:
        """Answer who waits, make everything durable, stop. Idempotent.

        What goes wrong with that is in `failed` afterwards.
        """
        if self._closed:
            return
        self._closed = True
        for timer in (
            self._tick_timer,
            self._stall_timer,
            self._hold_timer,
            self._removal_timer,
        ):
            if timer is not None:
                timer.cancel()
        self._end_waits()
        self.collector_pauses.end()
        await self.peering.aclose()
        await self._upkeep.aclose()
        await self._log_sync.aclose()
        if not self.failed.done():
            try:
                await self._make_durable()
            except Exception as exc:
                self.halt(fatal(exc))
        await self._upkeep.compacting.aclose()

    async def _make_durable(self) -> None:
        applied = self._machine.applied_index
        await asyncio.to_thread(self.backend.sync)
        try:
            self._driver.log.note_state_durable(applied)
        except (Stalled, DiskFull):  # then the next start replays a little more
            log.warning("no note of what is durable", extra={"applied_index": applied})
        await asyncio.to_thread(self._log_backend.sync)
        await asyncio.to_thread(self._disk.fsync_witness)

    def halt(self, error: FatalError) -> None:
        """This member cannot go on: tell everybody who waits, and the server."""
        if self.failed.done():
            return
        if isinstance(error, DiskFull):
            error = DiskFull(f"{error.detail}. {DISK_FULL_ADVICE}")
        log.critical(
            "member stops",
            exc_info=error.__cause__ if isinstance(error, InternalFailure) else None,
            extra={"error": type(error).__name__, "detail": str(error)},
        )
        self.failed.set_result(error)
        self._end_waits()

    def _end_waits(self) -> None:
        self._upkeep.stop(Stopped())
        self._steps.close(Stopped())
        self._answer(self._driver.stop().answers)

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

        Not once it has stopped: then the next start does. Raises whatever a turn may raise.
        """
        if self._driver.lags and not (self._closed or self.failed.done()):
            self._driver.catch_up()
            if self._follower is not None:
                self._tell(self._follower)
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

    def match_indexes(self) -> Mapping[int, int]:
        """How far each member's log is known to reach, as the leader sees it; empty without one."""
        return self._driver.reports.match_indexes()

    def connected_seconds(self, peer: int) -> float | None:
        """For how long this member has been heard of without a gap; None: it is not there."""
        found = self._driver.reports.connected_ms(peer, self._now_ms)
        return None if found is None else found / 1000

    def own_report(self) -> Report:
        self.catch_up()
        return self._driver.reports.own()

    def reports(self) -> Mapping[int, Heard]:
        """What the others last said of themselves."""
        return self._driver.reports.of_others(self._now_ms)

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
        assert self._follower is None
        self._follower = follower

    def answer_through(self, outlet: Outlet) -> None:
        """Answers are told to leave as soon as a turn has given them, before more is applied."""
        self._outlets.append(outlet)

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
            lambda: self._machine.giant_deletes,
            self._archive_times,
        )

    def status(self) -> NodeStatus:
        self.catch_up()
        return NodeStatus(
            cluster_id=self.cluster_id,
            member_id=self.member_id,
            leader_id=self._core.leader,
            term=self._core.term,
            commit_index=self._core.log.committed,
            applied_index=self._machine.applied_index,
            is_learner=self.member_id in self._machine.conf_state.learners,
        )

    def statistics(self) -> NodeStatistics:
        self.catch_up()
        return NodeStatistics(
            leader_changes=self._driver.leader_changes,
            late_heartbeats=self._late_heartbeats,
            proposals_pending=self._driver.proposals_pending,
            renewals_kept=self._driver.renewals_kept,
            slow_turns=self._slow_turns,
            reads_timed_out=self._driver.reads_timed_out,
            slow_read_rounds=self._driver.slow_read_rounds,
            applies=self._apply_times.frozen(),
            archives=self._archive_times.frozen(),
            compaction=self._upkeep.compacting.statistics(),
            log_syncs=self._log_sync.times(),
            state_syncs=self._upkeep.state_sync_times(),
            scrub_passes=self._upkeep.scrub.passes,
            tick_lateness_seconds_max=self._tick_lateness_max,
            collector_pause_seconds_max=self.collector_pauses.seconds_max,
            disk_free_bytes=self._upkeep.free_bytes,
            log=self._log_backend.statistics(),
            state=self.backend.statistics(),
            machine=self._machine.statistics(),
            transport=self.peering.statistics(),
        )

    # ── turns ───────────────────────────────────────────────────────────────

    def _schedule_turn(self) -> None:
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Turns of the driver, as long as what the next one waits for is done here and now."""
        self._turn_scheduled = False
        try:
            while not (self._closed or self.failed.done()):
                effects = self._take_turn()
                if not (self._sync(effects.sync) or effects.told):
                    self._after_turns(effects)
                    return
        except Exception as exc:
            self.halt(fatal(exc))

    def _take_turn(self) -> Effects:
        if self._follower is not None:
            self._machine.keeps_changes = self._follower.wants_changes
        effects = self._drive()
        self._carry_out(effects)
        self._show(effects.answers, effects.reads)
        if effects.wants_reminder:
            self._loop.call_later(WAIT_SECONDS, self._remind)
        return effects

    def _after_turns(self, last: Effects) -> None:
        """What need not be looked at in the midst of them."""
        if last.more:
            self._schedule_turn()
        if last.stalled:
            self._retry_soon()
        self.peering.after_turn()
        if self._machine.membership_changes != self._membership_changes:
            self._leave_if_removed()
        if (self._core.term, self._core.leader) != self._led:
            self._log_leader()
        if self._machine.applied_index != self._kept_up:
            self._kept_up = self._machine.applied_index
            self._upkeep.after_apply()
        self._mind_held()

    def _mind_held(self) -> None:
        if self._driver.lags and self._hold_timer is None:
            self._hold_timer = self._loop.call_later(HOLD_SECONDS, self._let_go)

    def _let_go(self) -> None:
        """What was answered has waited long enough to be applied."""
        self._hold_timer = None
        self._driver.let_go()
        self._turn()

    def _drive(self) -> Effects:
        """A turn of the driver, timed."""
        started, applied = self._loop.time(), self._machine.applied_index
        effects = self._driver.turn(int(started * 1000))
        seconds = self._loop.time() - started
        if self._machine.applied_index != applied:
            self._apply_times.observe(seconds)
        if seconds > self._slow_turn_seconds > 0:
            self._note_slow_turn(seconds, len(effects.answers))
        return effects

    def _sync(self, number: int | None) -> bool:
        """Make the log durable up to this write. True: another turn is due at once."""
        if number is None or self._log_sync.running:
            return False
        if self._may_sync_inline() and self._log_sync.try_inline():
            return self._log_synced(number)
        self._log_sync.start(number)
        return False

    def _show(self, answers: Sequence[Answer], reads: Sequence[ReadPending] = ()) -> None:
        """Tell who follows, then who waits; it all leaves together."""
        if not answers and not reads and self._machine.revision == self._told_revision:
            return
        for outlet in self._outlets:
            outlet.hold()
        try:
            if self._follower is not None:
                self._tell(self._follower)
            self._answer(answers)
            for reader in reads:
                reader.ready()
        finally:
            for outlet in self._outlets:
                outlet.flush()

    def _tell(self, follower: Follower) -> None:
        revision = self._machine.revision
        if revision != self._told_revision:
            self._told_revision = revision
            follower.applied(self._machine.take_changes(), revision)

    def _note_slow_turn(self, seconds: float, answers: int) -> None:
        self._slow_turns += 1
        log.warning(
            "slow turn",
            extra={
                "took_ms": round(seconds * 1000),
                "limit_ms": round(self._slow_turn_seconds * 1000),
                "answers": answers,
                "applied_index": self._machine.applied_index,
            },
        )

    def _log_alarms(self) -> None:
        alarms = tuple(self._machine.alarms)
        for word, changed in (
            ("alarm raised", set(alarms) - set(self._alarms)),
            ("alarm cleared", set(self._alarms) - set(alarms)),
        ):
            for alarm in sorted(changed, key=lambda alarm: (alarm.member_id, alarm.type)):
                name = AlarmType.Name(alarm.type)
                log.warning(word, extra={"alarm": name, "of_member": f"{alarm.member_id:x}"})
        self._alarms = alarms

    def _log_verdict(self) -> None:
        verdict = self._driver.soundness.verdict
        if verdict is not self._verdict:
            self._verdict = verdict
            log.critical(VERDICTS[verdict], extra={"applied_index": self._machine.applied_index})

    def _may_sync_inline(self) -> bool:
        return self._calls_come_in_batches and self._driver.is_sole_voter

    def _synced(self, number: int) -> None:
        if not (self._closed or self.failed.done()):
            if self._log_synced(number):
                self._turn()
            else:
                self._mind_held()

    def _log_synced(self, number: int) -> bool:
        """Say what hangs on it. Whether a turn is due."""
        driver = self._driver
        self._show(driver.synced(number))
        if driver.is_due:
            return True
        self._say()
        return False

    def _remind(self) -> None:
        if not (self._closed or self.failed.done()):
            if self._driver.remind():
                self._loop.call_later(WAIT_SECONDS, self._remind)
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
            self._show((), said.reads)
        if said.wants_reminder:
            self._loop.call_later(WAIT_SECONDS, self._remind)
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

    def _answer(self, answers: Sequence[Answer]) -> None:
        for answer in answers:
            result = answer.result
            if isinstance(result, RequestError):
                answer.pending.refused(result)
            else:
                answer.pending.done(result)

    def _log_leader(self) -> None:
        core = self._core
        self._led = (core.term, core.leader)
        log.info(
            "leader changed" if core.leader else "no leader",
            extra={"term": core.term, "leader": f"{core.leader:x}", "role": core.role.name},
        )

    def _leave_if_removed(self) -> None:
        self._membership_changes = self._machine.membership_changes
        if self.member_id in self._machine.members or self._removal_timer is not None:
            return
        # A leader that removed itself lets another one lead first; the rest is told by peers.
        self._removal_timer = self._loop.call_later(
            REMOVAL_SECONDS_MAX, self.halt, removed(self.member_id)
        )
        best = self._driver.best_successor
        if best:
            self._driver.move_leader(best, _Reader(self._loop))
            self._schedule_turn()

    def _tick(self) -> None:
        now = self._loop.time()
        late = now - self._tick_due
        self._tick_lateness_max = max(self._tick_lateness_max, late)
        self._tick_due = max(now, self._tick_due) + self._heartbeat_seconds
        self._tick_timer = self._loop.call_at(self._tick_due, self._tick)
        if late < self._heartbeat_seconds:
            self._tick_driver()
        else:
            leads_others = self._core.role is Role.LEADER and not self._driver.is_sole_voter
            self._late_heartbeats += leads_others
            # Whatever was missed, tick once, and only after all sockets were read: one pass of
            # the loop brings their bytes, the next one hands them over (design §7).
            self._loop.call_soon(self._loop.call_soon, self._tick_driver)

    def _tick_driver(self) -> None:
        if self._closed or self.failed.done():
            return
        try:
            now_ms = self._now_ms
            self._driver.tick(now_ms, self._upkeep.look_at_disk())
            self._log_alarms()
            self._log_verdict()
            if self._auto_heal and self._driver.soundness.may_heal and self.peering.is_whole:
                self.halt(Diverged(DIVERGED))
        except Exception as exc:
            self.halt(fatal(exc))
        self._schedule_turn()


class _Reader:
    """A ReadPending, or Pending, that a coroutine can wait for: True = it may be read, is done."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.may_read: asyncio.Future[bool] = loop.create_future()

    @property
    def finished(self) -> bool:
        return self.may_read.done()

    def ready(self) -> None:
        self.may_read.set_result(True)

    def done(self, result: Result) -> None:
        self.may_read.set_result(True)

    def refused(self, error: RequestError) -> None:
        self.may_read.set_result(False)
