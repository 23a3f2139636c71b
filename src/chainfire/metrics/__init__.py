"""The names that etcd's dashboards and alerts query, pulled from the parts when somebody asks.

No part knows of this file. `Metrics.take` copies frozen statistics on the
event loop, which is quick; `families` and `exposition` turn the copy into
Prometheus' words and may run on a thread. A metric appears here once what it
counts exists. Names, types and labels: etcd's `/metrics`; ours begin with
`chainfire_`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from chainfire.api.services import Services
from chainfire.metrics import etcd, network, ours
from chainfire.metrics.sample import MethodCounts, Sample
from chainfire.node.status import NodeStatistics

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

# prometheus_client writes counters with `_total` only; etcd has some without.
_BARE_COUNTERS: Final = (
    "etcd_server_health_success",
    "etcd_server_health_failures",
    "etcd_server_learner_promote_failures",
    "etcd_server_learner_promote_successes",
    "etcd_network_snapshot_send_failures",
    "etcd_network_snapshot_send_success",
    "etcd_network_snapshot_receive_failures",
    "etcd_network_snapshot_receive_success",
)


PARTS: Final = (
    etcd.server,
    etcd.storage,
    etcd.store,
    etcd.compaction,
    etcd.watches,
    etcd.network,
    network.peers,
    network.snapshots,
    etcd.grpc,
    etcd.health,
    ours.ours,
    ours.snapshots,
)


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
            status=services.node.overview.status(),
            node=node,
            keyspace=replace(machine.store.keyspace(0)),
            watches=services.watches.statistics(),
            revision=machine.revision,
            cluster_version=machine.cluster_version,
            alarms=tuple(machine.alarms),
            quota_bytes=max(services.limits.quota_bytes, 0),
            database_bytes=max(node.state.disk_bytes, usage, 1),
            methods=[
                MethodCounts(
                    path,
                    c.started,
                    tuple(c.handled),
                    c.received_messages,
                    c.sent_messages,
                    None if c.handling is None else c.handling.frozen(),
                )
                for path, c in counters.methods.items()
            ],
            received_bytes=counters.received_bytes,
            sent_bytes=counters.sent_bytes,
            client_versions=dict(counters.client_versions),
            promoted=counters.promoted,
            promote_failures=dict(counters.promote_failures),
            hashes=counters.hashes.frozen(),
            hashes_of_revisions=counters.hashes_of_revisions.frozen(),
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
        for part in PARTS:
            yield from part(sample)
        process = list(self._process.collect())
        yield from process
        yield from etcd.limits(process)

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
