"""Metric families, made of a name, a text and a number."""

from __future__ import annotations

from collections.abc import Mapping

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


def histogram(
    name: str, text: str, durations: Durations, labels: Mapping[str, str] | None = None
) -> Metric:
    labels = labels or {}
    family = HistogramMetricFamily(name, text, labels=tuple(labels))
    family.add_metric(tuple(labels.values()), buckets(durations), durations.sum_seconds)
    return family


def in_milliseconds(durations: Durations) -> Durations:
    bounds = tuple(bound * 1000 for bound in durations.bounds_seconds)
    return Durations(bounds, durations.counts, durations.sum_seconds * 1000)


def buckets(durations: Durations) -> list[tuple[str, float]]:
    """How many took at most as long, for each bound."""
    found: list[tuple[str, float]] = []
    total = 0
    # As Go writes them: from a million on with an exponent, and all digits.
    bounds = [f"{b:g}" if b < 1e6 else f"{b:e}" for b in durations.bounds_seconds]
    for bound, count in zip([*bounds, "+Inf"], durations.counts, strict=True):
        total += count
        found.append((bound, total))
    return found
