"""etcd's metrics: names, types, labels and buckets as in its own `/metrics`."""

from __future__ import annotations

import resource
from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from chainfire.api.table import METHODS
from chainfire.errors import Code
from chainfire.metrics.sample import Sample
from chainfire.metrics.words import (
    buckets,
    counter,
    gauge,
    histogram,
    in_milliseconds,
    labelled_one,
)
from chainfire.node.status import Durations, doubling
from chainfire.proto.maintenance_pb2 import AlarmType
from chainfire.version import API_VERSION

_WRITES: Final = (".KV/Put", ".KV/DeleteRange", ".KV/Txn", ".KV/Compact")


def server(sample: Sample) -> Iterator[Metric]:
    status = sample.status
    has_leader, is_leader = status.leader_id != 0, status.leader_id == status.member_id
    yield gauge("etcd_server_has_leader", "Whether or not a leader exists.", has_leader)
    yield gauge("etcd_server_is_leader", "Whether or not this member is a leader.", is_leader)
    yield gauge(
        "etcd_server_is_learner", "Whether or not this member is a learner.", status.is_learner
    )
    yield counter(
        "etcd_server_leader_changes_seen_total",
        "The number of leader changes seen.",
        sample.node.leader_changes,
    )
    yield counter(
        "etcd_server_slow_apply_total",
        "The total number of slow apply requests (here: turns of the log).",
        sample.node.slow_turns,
    )
    yield gauge(
        "etcd_server_proposals_committed_total",
        "The total number of consensus proposals committed.",
        status.commit_index,
    )
    yield gauge(
        "etcd_server_proposals_applied_total",
        "The total number of consensus proposals applied.",
        status.applied_index,
    )
    yield gauge(
        "etcd_server_proposals_pending",
        "The current number of pending proposals to commit.",
        sample.node.proposals_pending,
    )
    yield counter(
        "etcd_server_proposals_failed_total",
        "The total number of failed proposals seen.",
        sum(m.handled[Code.UNAVAILABLE] for m in sample.methods if m.path.endswith(_WRITES)),
    )
    yield histogram(
        "etcd_server_apply_duration_seconds",
        "The latency distributions of apply (here: of turns of the log, as one batch each).",
        sample.node.applies,
        {"version": "v3", "op": "Batch", "success": "true"},
    )
    yield counter(
        "etcd_server_heartbeat_send_failures_total",
        "The total number of leader heartbeats that were late (likely overloaded).",
        sample.node.late_heartbeats,
    )
    yield counter(
        "etcd_server_read_indexes_failed_total",
        "The total number of failed read indexes seen (here: of reads that waited in vain).",
        sample.node.reads_timed_out,
    )
    yield counter(
        "etcd_server_slow_read_indexes_total",
        "The total number of read indexes not in sync with leader's or timed out.",
        sample.node.slow_read_rounds,
    )
    yield gauge(
        "etcd_server_snapshot_apply_in_progress_total",
        "1 if the server is taking over a snapshot of another member. 0 if none.",
        sample.node.transport.snapshots.receiving is not None,
    )
    yield from _promotions(sample)
    yield gauge(
        "etcd_server_quota_backend_bytes",
        "Current backend storage quota size in bytes.",
        sample.quota_bytes,
    )
    yield labelled_one("etcd_server_version", "server_version", API_VERSION)
    yield labelled_one("etcd_server_id", "server_id", f"{status.member_id:x}")
    if sample.cluster_version:
        version = sample.cluster_version.rpartition(".")[0]
        yield labelled_one("etcd_cluster_version", "cluster_version", version)
    alarms = GaugeMetricFamily(
        "etcd_debugging_server_alarms",
        "Alarms for every member in cluster.",
        labels=("server_id", "alarm_type"),
    )
    for alarm in sample.alarms:
        name = AlarmType.Name(alarm.type)
        alarms.add_metric((f"{alarm.member_id:x}", name), 1)
    yield alarms


def _promotions(sample: Sample) -> Iterator[Metric]:
    yield gauge(
        "etcd_server_learner_promote_successes",
        "The total number of successful learner promotions while this member is leader.",
        sample.promoted,
    )
    failures = GaugeMetricFamily(
        "etcd_server_learner_promote_failures",
        "The total number of failed learner promotions (likely learner not ready).",
        labels=("Reason",),
    )
    for reason, number in sample.promote_failures.items():
        failures.add_metric((reason,), number)
    yield failures


def storage(sample: Sample) -> Iterator[Metric]:
    node = sample.node
    yield histogram(
        "etcd_disk_wal_fsync_duration_seconds",
        "The latency distributions of fsync called by WAL.",
        node.log_syncs,
    )
    yield gauge(
        "etcd_disk_wal_write_bytes_total",
        "Total number of bytes written in WAL.",
        node.log.write_bytes,
    )
    yield histogram(
        "etcd_disk_backend_commit_duration_seconds",
        "The latency distributions of commit called by backend.",
        node.state_syncs,
    )
    yield histogram(
        "etcd_disk_backend_snapshot_duration_seconds",
        "The latency distribution of backend snapshots.",
        node.archives,
    )
    yield histogram(
        "etcd_disk_backend_defrag_duration_seconds",
        "The latency distribution of backend defragmentation.",
        node.compaction.defragments,
    )
    yield gauge(
        "etcd_disk_defrag_inflight",
        "Whether or not defrag is active on the member. 1 means active, 0 means not.",
        node.compaction.is_defragmenting,
    )


def store(sample: Sample) -> Iterator[Metric]:
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
        yield counter(
            f"etcd_mvcc_{name}_total", f"Total number of {name}s seen by this member.", number
        )
    yield counter(
        "etcd_debugging_mvcc_range_total", "Total number of ranges seen by this member.", ranges
    )
    yield gauge(
        "etcd_debugging_mvcc_total_put_size_in_bytes",
        "The total size of put kv pairs seen by this member (here: of all rows that changed).",
        machine.digested_bytes,
    )
    for name, durations in (("hash", sample.hashes), ("hash_rev", sample.hashes_of_revisions)):
        yield histogram(
            f"etcd_mvcc_{name}_duration_seconds",
            "The latency distribution of storage hash operation.",
            durations,
        )
    yield gauge(
        "etcd_mvcc_db_total_size_in_bytes",
        "Total size of the underlying database physically allocated in bytes.",
        sample.database_bytes,
    )
    yield gauge(
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
            machine.leases_renewed + sample.node.renewals_kept,
        ),
        ("server_lease_expired", "The total number of expired leases.", machine.leases_expired),
    ):
        yield counter(f"etcd_debugging_{name}_total", text, number)
    ttls = machine.leases_by_ttl
    bounds = doubling(1, len(ttls) - 1)
    yield histogram(
        "etcd_debugging_lease_ttl_total",
        "Bucketed histogram of lease TTLs.",
        Durations(bounds, ttls, machine.lease_seconds_granted),
    )
    yield gauge("etcd_debugging_mvcc_keys_total", "Total number of keys.", keyspace.keys)
    yield gauge(
        "etcd_debugging_mvcc_current_revision", "The current revision of store.", sample.revision
    )
    yield gauge(
        "etcd_debugging_mvcc_compact_revision",
        "The revision of the last compaction in store.",
        keyspace.compacted,
    )


def compaction(sample: Sample) -> Iterator[Metric]:
    found = sample.node.compaction
    name = "etcd_debugging_mvcc_db_compaction"
    yield counter(
        f"{name}_keys_total", "Total number of db keys compacted.", found.removed_versions
    )
    yield gauge(f"{name}_last", "The unix time of the last db compaction.", found.finished_at)
    yield histogram(
        f"{name}_pause_duration_milliseconds",
        "Bucketed histogram of db compaction pause duration.",
        in_milliseconds(found.slices),
    )
    yield histogram(
        f"{name}_total_duration_milliseconds",
        "Bucketed histogram of db compaction total duration.",
        in_milliseconds(found.rounds),
    )


def network(sample: Sample) -> Iterator[Metric]:
    yield counter(
        "etcd_network_client_grpc_received_bytes_total",
        "The total number of bytes received from grpc clients.",
        sample.received_bytes,
    )
    yield counter(
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


def watches(sample: Sample) -> Iterator[Metric]:
    found = sample.watches
    for name, number in (
        ("watch_stream", found.streams),
        ("watcher", found.watchers),
        ("slow_watcher", found.slow_watchers),
    ):
        text = f"Total number of {name.replace('_', ' ')}s."
        yield gauge(f"etcd_debugging_mvcc_{name}_total", text, number)
    yield counter(
        "etcd_debugging_mvcc_events_total",
        "Total number of events sent by this member.",
        found.events,
    )
    yield gauge(
        "etcd_debugging_mvcc_pending_events_total",
        "Total number of pending events to be sent.",
        found.pending_events,
    )


_GRPC_LABELS: Final = ("grpc_type", "grpc_service", "grpc_method")
_CODE_NAMES: Final = tuple(
    "OK" if code is Code.OK else "Canceled" if code is Code.CANCELLED else camel
    for code in Code
    for camel in ("".join(word.capitalize() for word in code.name.split("_")),)
)


def grpc(sample: Sample) -> Iterator[Metric]:
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
    yield from _handling(sample)


def _handling(sample: Sample) -> Iterator[Metric]:
    """With `--metrics=extensive` only, as in etcd."""
    family = HistogramMetricFamily(
        "grpc_server_handling_seconds",
        "Histogram of response latency (seconds) of gRPC that had been application-level handled "
        "by the server.",
        labels=_GRPC_LABELS,
    )
    for counts in sample.methods:
        if counts.handling is not None and counts.started:
            method = METHODS[counts.path]
            labels = (method.kind.value, method.service, method.name)
            family.add_metric(labels, buckets(counts.handling), counts.handling.sum_seconds)
    if family.samples:
        yield family


def health(sample: Sample) -> Iterator[Metric]:
    yield gauge(
        "etcd_server_health_success",
        "The total number of successful health checks",
        sample.health_success,
    )
    yield gauge(
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


def limits(process: Iterable[Metric]) -> Iterator[Metric]:
    memory, _ = resource.getrlimit(resource.RLIMIT_AS)
    yield gauge(
        "process_virtual_memory_max_bytes",
        "Maximum amount of virtual memory available in bytes.",
        2.0**64 if memory == resource.RLIM_INFINITY else memory,
    )
    names = {
        "process_open_fds": ("os_fd_used", "The number of used file descriptors."),
        "process_max_fds": ("os_fd_limit", "The file descriptor limit."),
    }
    for metric in process:
        if metric.name in names:
            name, text = names[metric.name]
            yield gauge(name, text, metric.samples[0].value)
