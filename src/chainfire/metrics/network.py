"""Between members: etcd's metrics of peers and of the snapshots that they send each other."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from chainfire.metrics.sample import Sample
from chainfire.metrics.words import buckets, histogram
from chainfire.node.status import SNAPSHOT_BOUNDS_SECONDS, Durations, TransferCounts


def peers(sample: Sample) -> Iterator[Metric]:
    sent, failures, received, gone = (
        CounterMetricFamily(f"etcd_network_{name}", text, labels=labels)
        for name, text, labels in (
            ("peer_sent_bytes", "The total number of bytes sent to peers.", ("To",)),
            ("peer_sent_failures", "The total number of send failures from peers.", ("To",)),
            ("peer_received_bytes", "The total number of bytes received from peers.", ("From",)),
            (
                "disconnected_peers",
                "The total number of disconnected peers.",
                ("Local", "Remote"),
            ),
        )
    )
    active = GaugeMetricFamily(
        "etcd_network_active_peers",
        "The current number of active peer connections.",
        labels=("Local", "Remote"),
    )
    round_trips = HistogramMetricFamily(
        "etcd_network_peer_round_trip_time_seconds",
        "Round-Trip-Time histogram between peers",
        labels=("To",),
    )
    known = GaugeMetricFamily(
        "etcd_network_known_peers",
        "The current number of known peers.",
        labels=("Local", "Remote"),
    )
    local = f"{sample.status.member_id:x}"
    for peer in sample.node.transport.peers:
        remote = f"{peer.peer:x}"
        sent.add_metric((remote,), peer.sent_bytes)
        failures.add_metric((remote,), peer.dropped)
        received.add_metric((remote,), peer.received_bytes)
        gone.add_metric((local, remote), peer.disconnects)
        known.add_metric((local, remote), 1)
        active.add_metric((local, remote), peer.is_up)
        durations = peer.round_trips
        round_trips.add_metric((remote,), buckets(durations), durations.sum_seconds)
    yield from (sent, failures, received, gone, known, active, round_trips)


def snapshots(sample: Sample) -> Iterator[Metric]:
    found = sample.node.transport.snapshots
    yield from _transfers("send", "To", found.sent)
    yield from _transfers("receive", "From", found.received)
    inflights = {
        ("send", "To"): [transfer.peer for transfer in found.sending],
        ("receive", "From"): [] if found.receiving is None else [found.receiving.peer],
    }
    for (verb, label), under_way in inflights.items():
        family = GaugeMetricFamily(
            f"etcd_network_snapshot_{verb}_inflights_total",
            f"Total number of inflight snapshot {verb}s.",
            labels=(label,),
        )
        for peer in under_way:
            family.add_metric((f"{peer:x}",), 1)
        yield family
    yield histogram(
        "etcd_snap_db_save_total_duration_seconds",
        "The total latency distributions of v3 snapshot save.",
        _together([counts.arrived for counts in found.received]),
    )


def _transfers(verb: str, label: str, transfers: tuple[TransferCounts, ...]) -> Iterator[Metric]:
    success, failures = (
        GaugeMetricFamily(
            f"etcd_network_snapshot_{verb}_{outcome}",
            f"Total number of {word} snapshot {verb}s.",
            labels=(label,),
        )
        for outcome, word in (("success", "successful"), ("failures", "failed"))
    )
    durations = HistogramMetricFamily(
        f"etcd_network_snapshot_{verb}_total_duration_seconds",
        f"Total latency distributions of v3 snapshot {verb}s.",
        labels=(label,),
    )
    for counts in transfers:
        peer = (f"{counts.peer:x}",)
        success.add_metric(peer, sum(counts.arrived.counts))
        failures.add_metric(peer, counts.failures)
        durations.add_metric(peer, buckets(counts.arrived), counts.arrived.sum_seconds)
    yield from (success, failures, durations)


def _together(parts: list[Durations]) -> Durations:
    nothing = Durations(SNAPSHOT_BOUNDS_SECONDS, (0,) * (len(SNAPSHOT_BOUNDS_SECONDS) + 1), 0.0)
    columns = zip(*(part.counts for part in [nothing, *parts]), strict=True)
    return Durations(
        SNAPSHOT_BOUNDS_SECONDS,
        tuple(sum(column) for column in columns),
        sum(part.sum_seconds for part in parts),
    )
