"""Metrics that etcd has no name for; they begin with `chainfire_`."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from chainfire.metrics.sample import Sample
from chainfire.metrics.words import counter, gauge, labelled_one
from chainfire.storage.backend import StorageStatistics
from chainfire.version import VERSION


def ours(sample: Sample) -> Iterator[Metric]:
    node, keyspace = sample.node, sample.keyspace
    yield labelled_one("chainfire_version", "version", VERSION)
    yield counter(
        "chainfire_void_commands_total",
        "Commands that arrived twice or too late and had no effect.",
        node.machine.void_commands,
    )
    yield counter(
        "chainfire_scrub_passes_total",
        "How often all that lies on the disk was read, its checksums verified.",
        node.scrub_passes,
    )
    yield gauge(
        "chainfire_disk_free_bytes",
        "Space left where the data directory is.",
        node.disk_free_bytes,
    )
    yield gauge(
        "chainfire_damaged_bytes",
        "Size of the directories that were put aside after damage, until an operator removes them.",
        node.damaged_bytes,
    )
    yield gauge(
        "chainfire_tick_lateness_seconds_max",
        "The longest that the event loop was late for a tick.",
        node.tick_lateness_seconds_max,
    )
    yield gauge(
        "chainfire_collector_pause_seconds_max",
        "The longest that Python's garbage collector stopped everything.",
        node.collector_pause_seconds_max,
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


def snapshots(sample: Sample) -> Iterator[Metric]:
    """Between members."""
    now = sample.node.transport.snapshots
    progress = GaugeMetricFamily(
        "chainfire_snapshot_progress_bytes",
        "Of a snapshot under way: what is there, and what there will be.",
        labels=("direction", "peer", "of"),
    )
    under_way = [("sent", transfer) for transfer in now.sending]
    if now.receiving is not None:
        under_way.append(("received", now.receiving))
    for direction, transfer in under_way:
        peer = f"{transfer.peer:x}"
        progress.add_metric((direction, peer, "done"), transfer.bytes_done)
        progress.add_metric((direction, peer, "total"), transfer.bytes_total)
    yield progress


def _sizes(statistics: StorageStatistics) -> Iterator[tuple[str, int]]:
    yield "disk", statistics.disk_bytes
    yield "live", statistics.live_bytes
    yield "memtable", statistics.memtable_bytes
    yield "block_cache", statistics.block_cache_bytes
