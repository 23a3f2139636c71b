"""Metric families, made of a name, a text and a number."""

from __future__ import annotations

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from chainfire.node.status import Durations


def gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name.removesuffix("_total"), text, value=value)


def labelled_one(name: str, label: str, value: str) -> Metric:
    text = f"Which {label} is in use. 1 for the current one."
    family = GaugeMetricFamily(name, text, labels=(label,))
    family.add_metric((value,), 1)
    return family


def histogram(name: str, text: str, durations: Durations) -> Metric:
    family = HistogramMetricFamily(name, text)
    family.add_metric((), buckets(durations), durations.sum_seconds)
    return family


def buckets(durations: Durations) -> list[tuple[str, float]]:
    """How many took at most as long, for each bound."""
    found: list[tuple[str, float]] = []
    total = 0
    bounds = [f"{bound:g}" for bound in durations.bounds_seconds]
    for bound, count in zip([*bounds, "+Inf"], durations.counts, strict=True):
        total += count
        found.append((bound, total))
    return found
