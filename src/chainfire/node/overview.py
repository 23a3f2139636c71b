"""What a node tells of itself and has heard of others, for the api and for metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from chainfire.node.driver import Driver
from chainfire.node.frames import Report
from chainfire.node.heartbeat import Heartbeat
from chainfire.node.journal import Journal
from chainfire.node.logsync import LogSync
from chainfire.node.pauses import CollectorPauses
from chainfire.node.peering import Peering
from chainfire.node.reports import Heard
from chainfire.node.status import NodeStatistics, NodeStatus, Times
from chainfire.node.upkeep import Upkeep
from chainfire.storage.backend import LogBackend, StorageBackend


class Overview:
    def __init__(
        self,
        *,
        driver: Driver,
        cluster_id: int,
        log_backend: LogBackend,
        state_backend: StorageBackend,
        log_sync: LogSync,
        upkeep: Upkeep,
        peering: Peering,
        heartbeat: Heartbeat,
        journal: Journal,
        collector_pauses: CollectorPauses,
        apply_times: Times,
        archive_times: Times,
        catch_up: Callable[[], None],
    ) -> None:
        """`catch_up` applies what was answered: nobody is told of an older state."""
        self._driver = driver
        self._core = driver.raft.raft  # read, never written
        self._machine = driver.machine
        self._cluster_id = cluster_id
        self._log_backend = log_backend
        self._state_backend = state_backend
        self._log_sync = log_sync
        self._upkeep = upkeep
        self._peering = peering
        self._heartbeat = heartbeat
        self._journal = journal
        self._collector_pauses = collector_pauses
        self._apply_times = apply_times
        self._archive_times = archive_times
        self._catch_up = catch_up
        self._loop = asyncio.get_running_loop()

    def match_indexes(self) -> Mapping[int, int]:
        """How far each member's log is known to reach, as the leader sees it; empty without one."""
        return self._driver.reports.match_indexes()

    def connected_seconds(self, peer: int) -> float | None:
        """For how long this member has been heard of without a gap; None: it is not there."""
        found = self._driver.reports.connected_ms(peer, self._now_ms)
        return None if found is None else found / 1000

    def own_report(self) -> Report:
        self._catch_up()
        return self._driver.reports.own()

    def reports(self) -> Mapping[int, Heard]:
        """What the others last said of themselves."""
        return self._driver.reports.of_others(self._now_ms)

    @property
    def _now_ms(self) -> int:
        return int(self._loop.time() * 1000)

    def status(self) -> NodeStatus:
        self._catch_up()
        member_id = self._driver.member_id
        return NodeStatus(
            cluster_id=self._cluster_id,
            member_id=member_id,
            leader_id=self._core.leader,
            term=self._core.term,
            commit_index=self._core.log.committed,
            applied_index=self._machine.applied_index,
            is_learner=member_id in self._machine.conf_state.learners,
        )

    def statistics(self) -> NodeStatistics:
        self._catch_up()
        driver, upkeep = self._driver, self._upkeep
        return NodeStatistics(
            leader_changes=driver.leader_changes,
            late_heartbeats=self._heartbeat.late,
            proposals_pending=driver.proposals_pending,
            renewals_kept=driver.renewals_kept,
            slow_turns=self._journal.slow_turns,
            reads_timed_out=driver.reads_timed_out,
            slow_read_rounds=driver.slow_read_rounds,
            applies=self._apply_times.frozen(),
            archives=self._archive_times.frozen(),
            compaction=upkeep.compacting.statistics(),
            log_syncs=self._log_sync.times(),
            state_syncs=upkeep.state_sync_times(),
            scrub_passes=upkeep.scrub.passes,
            tick_lateness_seconds_max=self._heartbeat.lateness_seconds_max,
            collector_pause_seconds_max=self._collector_pauses.seconds_max,
            disk_free_bytes=upkeep.free_bytes,
            damaged_bytes=upkeep.damaged_bytes,
            log=self._log_backend.statistics(),
            state=self._state_backend.statistics(),
            machine=self._machine.statistics(),
            transport=self._peering.statistics(),
        )
