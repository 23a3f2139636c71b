"""What a run of `chainfire bench` measured, and the arithmetic on it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from chainfire.cli.bench_load import Audience
from chainfire.errors import Code

QUANTILES: Final = {
    "p50": 0.5,
    "p90": 0.9,
    "p99": 0.99,
    "p99.9": 0.999,
    "p99.99": 0.9999,
    "max": 1.0,
}


class Histogram:
    """Times in nanoseconds, in buckets that are exact to three digits."""

    def __init__(self, buckets: Iterable[tuple[int, int]] = ()) -> None:
        """`buckets`: (the longest time in it, how many), ascending."""
        self.buckets = tuple(buckets)
        self.count = sum(count for _, count in self.buckets)

    def quantile_ms(self, quantile: float) -> float:
        """0.0 when nothing was recorded."""
        left = max(1, round(quantile * self.count))
        for nanoseconds, count in self.buckets:
            left -= count
            if left <= 0:
                return nanoseconds / 1e6
        return 0.0

    @property
    def mean_ms(self) -> float:
        total = sum(nanoseconds * count for nanoseconds, count in self.buckets)
        return total / self.count / 1e6 if self.count else 0.0

    def quantiles_ms(self) -> dict[str, float]:
        return {name: self.quantile_ms(quantile) for name, quantile in QUANTILES.items()}

    @classmethod
    def sum(cls, histograms: Iterable[Histogram]) -> Histogram:
        counts: Counter[int] = Counter()
        for histogram in histograms:
            counts.update(dict(histogram.buckets))
        return cls(sorted(counts.items()))


@dataclass(frozen=True, slots=True)
class Answers:
    """One kind of request's answers without errors."""

    name: str
    answered: int
    empty: int  # of these: found nothing
    reply_bytes: int
    latencies: Histogram


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What watchers were told wrongly, counted by revision for each of them."""

    lost: int = 0
    duplicated: int = 0
    misordered: int = 0
    foreign: int = 0  # of puts that are not of the run

    @property
    def faults(self) -> int:
        return self.lost + self.duplicated + self.misordered + self.foreign


@dataclass(frozen=True, slots=True)
class Failure:
    code: int  # of gRPC; below 0: see `name`
    name: str
    count: int
    first: str  # what the first one said

    def __str__(self) -> str:
        said = f": {self.first}" if self.first else ""
        return f"{self.count:,} × {self.name}{said}"


def code_name(code: int, others: dict[int, str]) -> str:
    if code in others:
        return others[code]
    known = {member.value: member.name for member in Code}
    return known.get(code, f"code {code}")


@dataclass(frozen=True, slots=True)
class Window:
    """A piece of the measured time."""

    begin: float
    end: float
    answered: int
    failed: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    silence_ms: float  # the longest time without any answer that ended here, or goes on

    @property
    def per_second(self) -> float:
        return self.answered / (self.end - self.begin)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One run on one system."""

    system: str
    workload: str
    in_flight: int
    connections: int
    rate: float | None  # what was asked for
    seconds: float
    in_time: int  # answers without errors until the end
    answers: tuple[Answers, ...]
    audience: Audience | None = None
    told: Told | None = None  # with an audience: `answers` are events, from due to told
    beside: tuple[Answers, ...] = ()  # measured along with them
    failures: tuple[Failure, ...] = ()
    late: Histogram = field(default_factory=Histogram)  # from due to sent; with a rate only
    unsent: int = 0
    redials: int = 0
    generator_share: float = 0.0  # of one core
    server_cpu_us: float | None = None  # per answer; None: not local, or too short to tell
    windows: tuple[Window, ...] = ()
    revisions: int | None = None  # by so much the store's revision rose, warm-up included
    was_interrupted: bool = False

    @property
    def per_second(self) -> float:
        return self.in_time / self.seconds if self.seconds else 0.0

    @property
    def failed(self) -> int:
        return sum(failure.count for failure in self.failures)

    @property
    def is_wrong(self) -> bool:
        return bool(self.failed or not self.answered or (self.told and self.told.faults))

    @property
    def answered(self) -> int:
        return sum(answers.answered for answers in self.answers)

    @property
    def latencies(self) -> Histogram:
        return Histogram.sum(answers.latencies for answers in self.answers)


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over the rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """None when nothing was measured."""
        return cls(median(values), min(values), max(values)) if values else None

    @classmethod
    def of_ratios(cls, ours: Sequence[float], theirs: Sequence[float]) -> Spread | None:
        """Taken within each round, so that what disturbs both sides of a round cancels out."""
        return cls.of([a / b for a, b in zip(ours, theirs, strict=True) if b > 0])
