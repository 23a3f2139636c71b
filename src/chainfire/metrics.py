"""The names that etcd's dashboards and alerts query, pulled from the parts when somebody asks.

No part knows of this file. `Metrics.take` copies frozen statistics on the
event loop, which is quick; `families` and `exposition` turn the copy into
Prometheus' words and may run on a thread. A metric appears here once what it
counts exists. Names, types and labels: etcd's `/metrics`; ours begin with
`chainfire_`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from chainfire.api.services import Services
from chainfire.api.table import METHODS
from chainfire.errors import Code
from chainfire.mvcc.state import KeyspaceState
from chainfire.node.status import Durations, NodeStatistics, NodeStatus
from chainfire.proto.maintenance_pb2 import AlarmType
from chainfire.storage.backend import StorageStatistics
from chainfire.types import Alarm
from chainfire.version import API_VERSION, VERSION

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

# prometheus_client writes counters with `_total` only; etcd has some without.
_BARE_COUNTERS: Final = (
    "etcd_server_health_success",
    "etcd_server_health_failures",
)


@dataclass(slots=True, frozen=True)
class MethodCounts:
    path: str
    started: int
    handled: tuple[int, ...]  # by status code
    received_messages: int
    sent_messages: int


@dataclass(slots=True, frozen=True)
class Sample:
    """Everything at one moment."""

    status: NodeStatus
    node: NodeStatistics
    keyspace: KeyspaceState
    revision: int
    cluster_version: str
    alarms: Sequence[Alarm]
    quota_bytes: int
    database_bytes: int
    methods: Sequence[MethodCounts]
    received_bytes: int
    sent_bytes: int
    client_versions: dict[tuple[str, str], int]
    health_success: int
    health_failures: int
    checks: dict[tuple[str, str], tuple[int, int]]
    checks_last: dict[tuple[str, str], bool]


class Metrics(Collector):
    """A collector for any Prometheus registry, and the text of our own endpoint."""

    def __init__(self, services: Services, statistics: Callable[[], NodeStatistics]) -> None:
        self._services = services
        self._statistics = statistics
        self._process = ProcessCollector(registry=None)

    def take(self) -> Sample:
        """On the event loop's thread."""
        services = self._services
        counters, machine = services.counters, services.node.machine
        node = self._statistics()
        usage = machine.usage(0)
        return Sample(
            status=services.node.status(),
            node=node,
            keyspace=replace(machine.store.keyspace(0)),
            revision=machine.revision,
            cluster_version=machine.cluster_version,
            alarms=tuple(machine.alarms),
            quota_bytes=max(services.limits.quota_bytes, 0),
            database_bytes=max(node.state.disk_bytes, usage, 1),
            methods=[
                MethodCounts(
                    path, c.started, tuple(c.handled), c.received_messages, c.sent_messages
                )
                for path, c in counters.methods.items()
            ],
            received_bytes=counters.received_bytes,
            sent_bytes=counters.sent_bytes,
            client_versions=dict(counters.client_versions),
            health_success=counters.health_success,
            health_failures=counters.health_failures,
            checks={key: (bad, good) for key, (bad, good) in counters.checks.items()},
            checks_last=dict(counters.checks_last),
        )

    def collect(self) -> Iterator[Metric]:
        yield from self.families(self.take())

    def memory(self) -> dict[str, float]:
        """Of the process, by the names of its metrics."""
        process = self._process.collect()
        return {m.name: m.samples[0].value for m in process if m.name.endswith("_memory_bytes")}

    def families(self, sample: Sample) -> Iterator[Metric]:
        for part in (_server, _storage, _store, _network, _grpc, _health, _ours):
            yield from part(sample)
        process = list(self._process.collect())
        yield from process
        yield from _file_descriptors(process)

    def exposition(self, sample: Sample) -> bytes:
        """The text format."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Taken(list(self.families(sample))))
        text = generate_latest(registry)
        for name in _BARE_COUNTERS:
            text = text.replace(f"# TYPE {name} gauge".encode(), f"# TYPE {name} counter".encode())
        return text


class _Taken(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


# ── etcd's names ────────────────────────────────────────────────────────────


_WRITES: Final = (".KV/Put", ".KV/DeleteRange", ".KV/Txn", ".KV/Compact")


def _server(sample: Sample) -> Iterator[Metric]:
    status = sample.status
    has_leader, is_leader = status.leader_id != 0, status.leader_id == status.member_id
    yield _gauge("etcd_server_has_leader", "Whether or not a leader exists.", has_leader)
    yield _gauge("etcd_server_is_leader", "Whether or not this member is a leader.", is_leader)
    yield _gauge(
        "etcd_server_is_learner", "Whether or not this member is a learner.", status.is_learner
    )
    yield _counter(
        "etcd_server_leader_changes_seen_total",
        "The number of leader changes seen.",
        sample.node.leader_changes,
    )
    yield _counter(
        "etcd_server_slow_apply_total",
        "The total number of slow apply requests (here: turns of the log).",
        sample.node.slow_turns,
    )
    yield _gauge(
        "etcd_server_proposals_committed_total",
        "The total number of consensus proposals committed.",
        status.commit_index,
    )
    yield _gauge(
        "etcd_server_proposals_applied_total",
        "The total number of consensus proposals applied.",
        status.applied_index,
    )
    yield _gauge(
        "etcd_server_proposals_pending",
        "The current number of pending proposals to commit.",
        sample.node.proposals_pending,
    )
    yield _counter(
        "etcd_server_proposals_failed_total",
        "The total number of failed proposals seen.",
        sum(m.handled[Code.UNAVAILABLE] for m in sample.methods if m.path.endswith(_WRITES)),
    )
    yield _gauge(
        "etcd_server_quota_backend_bytes",
        "Current backend storage quota size in bytes.",
        sample.quota_bytes,
    )
    yield _labelled_one("etcd_server_version", "server_version", API_VERSION)
    yield _labelled_one("etcd_server_id", "server_id", f"{status.member_id:x}")
    if sample.cluster_version:
        version = sample.cluster_version.rpartition(".")[0]
        yield _labelled_one("etcd_cluster_version", "cluster_version", version)
    alarms = GaugeMetricFamily(
        "etcd_debugging_server_alarms",
        "Alarms for every member in cluster.",
        labels=("server_id", "alarm_type"),
    )
    for alarm in sample.alarms:
        name = AlarmType.Name(alarm.type)
        alarms.add_metric((f"{alarm.member_id:x}", name), 1)
    yield alarms


def _storage(sample: Sample) -> Iterator[Metric]:
    node = sample.node
    yield _histogram(
        "etcd_disk_wal_fsync_duration_seconds",
        "The latency distributions of fsync called by WAL.",
        node.log_syncs,
    )
    yield _gauge(
        "etcd_disk_wal_write_bytes_total",
        "Total number of bytes written in WAL.",
        node.log.write_bytes,
    )
    yield _histogram(
        "etcd_disk_backend_commit_duration_seconds",
        "The latency distributions of commit called by backend.",
        node.state_syncs,
    )


def _store(sample: Sample) -> Iterator[Metric]:
    machine, keyspace = sample.node.machine, sample.keyspace
    ranges = machine.txn_ranges + sum(
        method.handled[Code.OK]
        for method in sample.methods
        if method.path.endswith((".KV/Range", ".KV/RangeStream"))
    )
    for name, number in (
        ("range", ranges),
        ("put", machine.puts),
        ("delete", machine.deletes),
        ("txn", machine.txns),
    ):
        yield _counter(
            f"etcd_mvcc_{name}_total", f"Total number of {name}s seen by this member.", number
        )
    yield _gauge(
        "etcd_mvcc_db_total_size_in_bytes",
        "Total size of the underlying database physically allocated in bytes.",
        sample.database_bytes,
    )
    yield _gauge(
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "Total size of the underlying database logically in use in bytes.",
        keyspace.live_bytes + keyspace.history_bytes,
    )
    ended = machine.leases_revoked + machine.leases_expired  # etcd revokes what has expired, too
    for name, text, number in (
        ("lease_granted", "The total number of granted leases.", machine.leases_granted),
        ("lease_revoked", "The total number of revoked leases.", ended),
        (
            "lease_renewed",
            "The number of renewed leases seen by the leader.",
            machine.leases_renewed,
        ),
        ("server_lease_expired", "The total number of expired leases.", machine.leases_expired),
    ):
        yield _counter(f"etcd_debugging_{name}_total", text, number)
    yield _gauge("etcd_debugging_mvcc_keys_total", "Total number of keys.", keyspace.keys)
    yield _gauge(
        "etcd_debugging_mvcc_current_revision", "The current revision of store.", sample.revision
    )
    yield _gauge(
        "etcd_debugging_mvcc_compact_revision",
        "The revision of the last compaction in store.",
        keyspace.compacted,
    )


def _network(sample: Sample) -> Iterator[Metric]:
    yield _counter(
        "etcd_network_client_grpc_received_bytes_total",
        "The total number of bytes received from grpc clients.",
        sample.received_bytes,
    )
    yield _counter(
        "etcd_network_client_grpc_sent_bytes_total",
        "The total number of bytes sent to grpc clients.",
        sample.sent_bytes,
    )
    clients = CounterMetricFamily(
        "etcd_server_client_requests",
        "The total number of client requests per client version.",
        labels=("type", "client_api_version"),
    )
    for labels, number in sample.client_versions.items():
        clients.add_metric(labels, number)
    yield clients


_GRPC_LABELS: Final = ("grpc_type", "grpc_service", "grpc_method")
_CODE_NAMES: Final = tuple(
    "OK" if code is Code.OK else "Canceled" if code is Code.CANCELLED else camel
    for code in Code
    for camel in ("".join(word.capitalize() for word in code.name.split("_")),)
)


def _grpc(sample: Sample) -> Iterator[Metric]:
    """etcd's services have series from the start, our own names once they are called."""
    started, received, sent, handled = (
        CounterMetricFamily(f"grpc_server_{name}", text, labels=labels)
        for name, text, labels in (
            ("started", "Total number of RPCs started on the server.", _GRPC_LABELS),
            (
                "msg_received",
                "Total number of RPC stream messages received on the server.",
                _GRPC_LABELS,
            ),
            (
                "msg_sent",
                "Total number of gRPC stream messages sent by the server.",
                _GRPC_LABELS,
            ),
            (
                "handled",
                "Total number of RPCs completed on the server, regardless of success or failure.",
                (*_GRPC_LABELS, "grpc_code"),
            ),
        )
    )
    for counts in sample.methods:
        method = METHODS[counts.path]
        if not counts.started and method.service.startswith("chainfire."):
            continue
        labels = (method.kind.value, method.service, method.name)
        started.add_metric(labels, counts.started)
        received.add_metric(labels, counts.received_messages)
        sent.add_metric(labels, counts.sent_messages)
        for code, number in zip(_CODE_NAMES, counts.handled, strict=True):
            handled.add_metric((*labels, code), number)
    yield from (started, received, sent, handled)


def _health(sample: Sample) -> Iterator[Metric]:
    yield _gauge(
        "etcd_server_health_success",
        "The total number of successful health checks",
        sample.health_success,
    )
    yield _gauge(
        "etcd_server_health_failures",
        "The total number of failed health checks",
        sample.health_failures,
    )
    last = GaugeMetricFamily(
        "etcd_server_healthcheck",
        "The result of each kind of healthcheck.",
        labels=("type", "name"),
    )
    for key, ok in sample.checks_last.items():
        last.add_metric(key, ok)
    yield last
    total = CounterMetricFamily(
        "etcd_server_healthchecks",
        "The total number of each kind of healthcheck.",
        labels=("type", "name", "status"),
    )
    for key, (bad, good) in sample.checks.items():
        for status, number in (("success", good), ("error", bad)):
            total.add_metric((*key, status), number)
    yield total


def _file_descriptors(process: Iterable[Metric]) -> Iterator[Metric]:
    names = {
        "process_open_fds": ("os_fd_used", "The number of used file descriptors."),
        "process_max_fds": ("os_fd_limit", "The file descriptor limit."),
    }
    for metric in process:
        if metric.name in names:
            name, text = names[metric.name]
            yield _gauge(name, text, metric.samples[0].value)


# ── ours ────────────────────────────────────────────────────────────────────


def _ours(sample: Sample) -> Iterator[Metric]:
    node, keyspace = sample.node, sample.keyspace
    yield _labelled_one("chainfire_version", "version", VERSION)
    yield _counter(
        "chainfire_void_commands_total",
        "Commands that arrived twice or too late and had no effect.",
        node.machine.void_commands,
    )
    yield _counter(
        "chainfire_scrub_passes_total",
        "How often all that lies on the disk was read, its checksums verified.",
        node.scrub_passes,
    )
    yield _gauge(
        "chainfire_disk_free_bytes",
        "Space left where the data directory is.",
        node.disk_free_bytes,
    )
    yield _gauge(
        "chainfire_tick_lateness_seconds_max",
        "The longest that the event loop was late for a tick.",
        node.tick_lateness_seconds_max,
    )
    logical = GaugeMetricFamily(
        "chainfire_keyspace_bytes", "Logical bytes, as quotas count them.", labels=("kind",)
    )
    logical.add_metric(("live",), keyspace.live_bytes)
    logical.add_metric(("history",), keyspace.history_bytes)
    yield logical
    stores = GaugeMetricFamily(
        "chainfire_storage_bytes", "What the storage engine holds.", labels=("store", "kind")
    )
    for store, statistics in (("log", node.log), ("state", node.state)):
        for kind, number in _sizes(statistics):
            stores.add_metric((store, kind), number)
    yield stores


def _sizes(statistics: StorageStatistics) -> Iterator[tuple[str, int]]:
    yield "disk", statistics.disk_bytes
    yield "live", statistics.live_bytes
    yield "memtable", statistics.memtable_bytes
    yield "block_cache", statistics.block_cache_bytes


# ── words ───────────────────────────────────────────────────────────────────


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name.removesuffix("_total"), text, value=value)


def _labelled_one(name: str, label: str, value: str) -> Metric:
    text = f"Which {label} is in use. 1 for the current one."
    family = GaugeMetricFamily(name, text, labels=(label,))
    family.add_metric((value,), 1)
    return family


def _histogram(name: str, text: str, durations: Durations) -> Metric:
    buckets: list[tuple[str, float]] = []
    total = 0
    bounds = [f"{bound:g}" for bound in durations.bounds_seconds]
    for bound, count in zip([*bounds, "+Inf"], durations.counts, strict=True):
        total += count
        buckets.append((bound, total))
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=durations.sum_seconds)
