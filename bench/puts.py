"""Puts by the generator behind `chainfire bench`, begun and ended when the benchmark says so."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Self

import chainfire_native as native

from bench.contest import WrongAnswer
from chainfire.cli.bench_figures import Histogram
from chainfire.cli.bench_load import Shape, put
from tests.servers import Server

WARM_UP_SECONDS = 0.5
CONNECTIONS = 10
IN_FLIGHT = 100
IN_FLIGHT_OPEN = 1000  # room for what is due while a server stalls


@dataclass(frozen=True, slots=True)
class Course:
    """What a run of puts saw. The silence is the longest time without any answer."""

    seconds: float
    answers: int
    p99_ms: float
    max_ms: float
    silence_ms: float

    @property
    def per_second(self) -> float:
        return self.answers / self.seconds


class Puts:
    """Puts on keys chosen at random, until `end`. Without a rate each is followed by the next."""

    def __init__(self, server: Server, shape: Shape, rate: float | None = None) -> None:
        """Returns once the warm-up is over."""
        self._server = server
        in_flight = IN_FLIGHT_OPEN if rate else IN_FLIGHT
        how = {"rate": rate, "warm_up_seconds": WARM_UP_SECONDS, "duration_seconds": 3600.0}
        self._load = _load(server, shape, in_flight, **how)
        while self._load.wait(1.0) in ("connecting", "warming up"):
            pass

    def end(self) -> Course:
        """Raises WrongAnswer for any error."""
        self._load.stop()
        outcome = self._load.outcome()
        _check(self._server, outcome)
        (fine,) = outcome.operations
        latencies = Histogram(fine.latencies)
        return Course(
            seconds=outcome.measured_seconds,
            answers=fine.answered,
            p99_ms=latencies.quantile_ms(0.99),
            max_ms=latencies.quantile_ms(1.0),
            silence_ms=max(window.silence_seconds for window in self._load.windows(0)) * 1e3,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._load.stop()


def fill(server: Server, shape: Shape, keys: int | None = None) -> float:
    """Write every key once, or the first `keys`. Returns the seconds that it took."""
    return _all(server, shape, total=shape.keys if keys is None else keys, sequential=True)


def overwrite(server: Server, shape: Shape, puts: int) -> None:
    """So many new versions of keys chosen at random."""
    _all(server, shape, total=puts)


def _all(server: Server, shape: Shape, **how: Any) -> float:
    begun = time.monotonic()
    load = _load(server, shape, 500, **how)
    while load.wait(1.0) != "over":
        pass
    _check(server, load.outcome())
    return time.monotonic() - begun


def _load(server: Server, shape: Shape, in_flight: int, **how: Any) -> native.Load:
    (template,) = put(shape)
    operation = native.LoadOperation(
        template.path, template.message, keys=template.keys, noise=template.noise
    )
    return native.Load(
        [native.LoadTarget(server.target, server.target)],
        [operation],
        connections=CONNECTIONS,
        in_flight=in_flight,
        keys=shape.keys,
        key_digits=shape.digits,
        **how,
    )


def _check(server: Server, outcome: native.LoadOutcome) -> None:
    if outcome.failures:
        _, count, first = outcome.failures[0]
        raise WrongAnswer(f"{server.kind.name}: {count} puts failed: {first}")
