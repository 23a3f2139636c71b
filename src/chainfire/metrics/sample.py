"""Everything that metrics tell, at one moment: taken on the event loop, frozen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chainfire.mvcc.state import KeyspaceState
from chainfire.node.status import Durations, NodeStatistics, NodeStatus
from chainfire.types import Alarm
from chainfire.watch.hub import WatchStatistics


@dataclass(slots=True, frozen=True)
class MethodCounts:
    path: str
    started: int
    handled: tuple[int, ...]  # by status code
    received_messages: int
    sent_messages: int
    handling: Durations | None  # None: not measured


@dataclass(slots=True, frozen=True)
class Sample:
    """Everything at one moment."""

    status: NodeStatus
    node: NodeStatistics
    keyspace: KeyspaceState
    watches: WatchStatistics
    revision: int
    cluster_version: str
    alarms: Sequence[Alarm]
    quota_bytes: int
    database_bytes: int
    methods: Sequence[MethodCounts]
    received_bytes: int
    sent_bytes: int
    client_versions: dict[tuple[str, str], int]
    promoted: int
    promote_failures: dict[str, int]  # by reason
    hashes: Durations
    hashes_of_revisions: Durations
    health_success: int
    health_failures: int
    checks: dict[tuple[str, str], tuple[int, int]]
    checks_last: dict[tuple[str, str], bool]
