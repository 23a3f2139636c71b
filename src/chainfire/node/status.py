"""What a node tells about itself: frozen snapshots, pulled by the api and by metrics."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from chainfire.machine import MachineStatistics
from chainfire.storage.backend import StorageStatistics

# etcd_disk_wal_fsync_ and etcd_disk_backend_commit_duration_seconds: 1 ms x 2^n, 14 buckets
SYNC_BOUNDS_SECONDS = tuple(0.001 * 2**n for n in range(14))
# etcd_network_peer_round_trip_time_seconds: 0.1 ms x 2^n, 16 buckets
ROUND_TRIP_BOUNDS_SECONDS = tuple(0.0001 * 2**n for n in range(16))


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
class SnapshotStatistics:
    """Of snapshots between members."""

    sending: tuple[TransferStatistics, ...] = ()
    receiving: TransferStatistics | None = None
    sent: int = 0
    send_failures: int = 0
    received: int = 0
    receive_failures: int = 0
    send_seconds: float = 0.0  # of those that arrived, sum
    receive_seconds: float = 0.0


@dataclass(slots=True, frozen=True)
class TransportStatistics:
    peers: tuple[PeerStatistics, ...] = ()
    snapshots: SnapshotStatistics = SnapshotStatistics()


@dataclass(slots=True, frozen=True)
class NodeStatistics:
    leader_changes: int
    proposals_pending: int
    slow_turns: int
    log_syncs: Durations
    state_syncs: Durations
    scrub_passes: int  # over all that lies on the disk
    tick_lateness_seconds_max: float
    disk_free_bytes: int
    log: StorageStatistics
    state: StorageStatistics
    machine: MachineStatistics
    transport: TransportStatistics
