"""What a node tells about itself: frozen snapshots (made by `overview`) for the api and metrics."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from chainfire.machine import MachineStatistics
from chainfire.storage.backend import StorageStatistics


def doubling(first_seconds: float, count: int) -> tuple[float, ...]:
    """The bounds of a histogram, as etcd's are made: each twice the one before."""
    return tuple(first_seconds * 2**n for n in range(count))


# By etcd's names, with `_duration_seconds` left out where it ends so.
SYNC_BOUNDS_SECONDS = doubling(0.001, 14)  # etcd_disk_wal_fsync, etcd_disk_backend_commit
ROUND_TRIP_BOUNDS_SECONDS = doubling(0.0001, 16)  # etcd_network_peer_round_trip_time_seconds
APPLY_BOUNDS_SECONDS = doubling(0.0001, 20)  # etcd_server_apply
DEFRAGMENT_BOUNDS_SECONDS = doubling(0.1, 13)  # etcd_disk_backend_defrag
ARCHIVE_BOUNDS_SECONDS = doubling(0.01, 17)  # etcd_disk_backend_snapshot
SNAPSHOT_BOUNDS_SECONDS = doubling(0.1, 10)  # etcd_snap_db_save_total, etcd_network_snapshot_…
COMPACTION_SLICE_BOUNDS_SECONDS = doubling(0.001, 13)  # etcd_debugging_mvcc_db_compaction_pause
COMPACTION_BOUNDS_SECONDS = doubling(0.1, 14)  # etcd_debugging_mvcc_db_compaction_total


@dataclass(slots=True, frozen=True)
class NodeStatus:
    cluster_id: int
    member_id: int
    leader_id: int  # 0: none known
    term: int
    commit_index: int
    applied_index: int
    is_learner: bool


@dataclass(slots=True, frozen=True)
class Durations:
    """A histogram: counts[i] observations <= bounds_seconds[i], the last one above all."""

    bounds_seconds: tuple[float, ...]
    counts: tuple[int, ...]
    sum_seconds: float


class Times:
    """Durations, observed one at a time."""

    def __init__(self, bounds_seconds: tuple[float, ...] = SYNC_BOUNDS_SECONDS) -> None:
        self._bounds_seconds = bounds_seconds
        self._counts = [0] * (len(bounds_seconds) + 1)
        self._sum_seconds = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(self._bounds_seconds, seconds)] += 1
        self._sum_seconds += seconds

    def frozen(self) -> Durations:
        return Durations(self._bounds_seconds, tuple(self._counts), self._sum_seconds)


@dataclass(slots=True, frozen=True)
class PeerStatistics:
    peer: int
    is_up: bool  # both connections that we dialled
    sent_bytes: int
    received_bytes: int
    dropped: int  # frames
    disconnects: int
    waiting_bytes: int
    round_trips: Durations


@dataclass(slots=True, frozen=True)
class TransferStatistics:
    """A snapshot on its way."""

    peer: int
    bytes_total: int
    bytes_done: int


@dataclass(slots=True, frozen=True)
class TransferCounts:
    """Snapshots to, or from, a peer so far."""

    peer: int
    failures: int
    arrived: Durations


@dataclass(slots=True, frozen=True)
class SnapshotStatistics:
    """Of snapshots between members."""

    sending: tuple[TransferStatistics, ...] = ()
    receiving: TransferStatistics | None = None
    sent: tuple[TransferCounts, ...] = ()
    received: tuple[TransferCounts, ...] = ()


@dataclass(slots=True, frozen=True)
class TransportStatistics:
    peers: tuple[PeerStatistics, ...] = ()
    snapshots: SnapshotStatistics = SnapshotStatistics()


@dataclass(slots=True, frozen=True)
class CompactionStatistics:
    """Of this member's disk."""

    removed_versions: int
    finished_at: int  # Unix time of the last round's end in seconds; 0: none
    slices: Durations  # each keeps others waiting
    rounds: Durations
    defragments: Durations  # the storage engine giving space back
    is_defragmenting: bool


@dataclass(slots=True, frozen=True)
class NodeStatistics:
    leader_changes: int
    late_heartbeats: int  # a leader's ticks that came an interval late, or more
    proposals_pending: int
    renewals_kept: int  # of leases whose deadlines were late enough
    slow_turns: int
    reads_timed_out: int
    slow_read_rounds: int  # asked a third time
    applies: Durations  # turns that applied entries
    archives: Durations  # snapshots for clients
    compaction: CompactionStatistics
    log_syncs: Durations
    state_syncs: Durations
    scrub_passes: int  # over all that lies on the disk
    tick_lateness_seconds_max: float
    collector_pause_seconds_max: float  # of CPython's garbage collector, since the start
    disk_free_bytes: int
    damaged_bytes: int  # of directories that were put aside
    log: StorageStatistics
    state: StorageStatistics
    machine: MachineStatistics
    transport: TransportStatistics
