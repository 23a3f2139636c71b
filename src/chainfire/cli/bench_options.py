"""The options of `chainfire bench`, and the task that they describe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from chainfire.cli.bench_load import LEASES_MAX, STAMP_BYTES, Audience, Shape, new_lease_base
from chainfire.cli.common import TLS_OPTIONS
from chainfire.client.calls import Consistency
from chainfire.config.kinds import parse_duration_ns
from chainfire.config.urls import BadValue

DURATION_SECONDS: Final = 10.0
CONNECTIONS: Final = 10
IN_FLIGHT: Final = 100
IN_FLIGHT_OPEN: Final = 1000  # room for what is due while the server stalls
WATCHED_IN_FLIGHT: Final = 1
WATCHERS: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is done to a system, for each number in flight."""

    workload: str
    shape: Shape
    audience: Audience | None
    in_flight: tuple[int, ...]
    connections: int
    rate: float | None
    seconds: float | None
    total: int | None
    warm_up: float
    fill: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    json: bool
    svg: Path | None
    html: Path | None


class Seconds(click.ParamType[float]):
    """Go's notation (`500ms`, `1m30s`) or a plain number of seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        try:
            return float(value)
        except ValueError:
            pass
        try:
            return parse_duration_ns(value) / 10**9
        except BadValue as exc:
            self.fail(str(exc), param, ctx)


class Numbers(click.ParamType[tuple[int, ...]]):
    """`1,100,500`"""

    name = "numbers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(int(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not a number, nor several with commas", param, ctx)
        if min(numbers) < 1:
            self.fail("must be at least 1", param, ctx)
        return numbers


def _option(*names: str, **settings: Any) -> Callable[[Any], Any]:
    return click.option(*names, **settings)


_POSITIVE = click.IntRange(min=1)
_ENDPOINTS = _option(
    "--endpoints",
    metavar="URLS",
    help="Members to load, comma-separated; connections take turns.  "
    "[default: 127.0.0.1:2379; env: CHAINFIRE_ENDPOINTS, ETCDCTL_ENDPOINTS]",
)
_TLS = (
    _option(
        "--tls",
        is_flag=True,
        help="Endpoints without a scheme speak TLS, as they do if one of the files below is given; "
        "http:// and https:// say it themselves.",
    ),
    *TLS_OPTIONS,
)
_CONNECTIONS = _option(
    "--connections",
    type=_POSITIVE,
    metavar="N",
    help=f"Connections, all together.  [default: {CONNECTIONS}, or --in-flight if less]",
)
_IN_FLIGHT = _option(
    "--in-flight",
    metavar="N[,N…]",
    type=Numbers(),
    help="Calls in flight at most, over all connections; several: one run each.  "
    f"[default: {IN_FLIGHT}, with --rate {IN_FLIGHT_OPEN}]",
)
_PACE = (
    _option(
        "--rate",
        type=click.FloatRange(min=0, min_open=True),
        metavar="PER_SECOND",
        help="Send at this rate, whatever the server does, and count latencies from when a call "
        "was due (open loop). Without it each call in flight is followed by the next at once "
        "(closed loop).",
    ),
    _option(
        "--duration",
        type=Seconds(),
        help=f"Measure for this time.  [default: {DURATION_SECONDS:.0f}s, unless --total is given]",
    ),
    _option("--total", type=_POSITIVE, metavar="CALLS", help="End after so many calls."),
    _option(
        "--warm-up",
        type=Seconds(),
        default="1s",
        show_default=True,
        help="Load the server for this time before it is measured.",
    ),
)
_KEYS = _option(
    "--keys",
    type=_POSITIVE,
    metavar="N",
    default=100_000,
    show_default=True,
    help="Different keys.",
)
_SHAPE = (
    _option(
        "--key-size",
        type=_POSITIVE,
        metavar="BYTES",
        default=16,
        show_default=True,
        help="Of keys.",
    ),
    _option(
        "--value-size",
        type=click.IntRange(min=0),
        metavar="BYTES",
        default=256,
        show_default=True,
        help="Of values; they do not compress.",
    ),
    _option("--prefix", default="bench/", show_default=True, help="What the keys begin with."),
)
_OUTPUT = (
    _option(
        "--compare",
        metavar="URLS",
        help="Load this system too, in turn, and print the ratios: --endpoints to this one.",
    ),
    _option(
        "--rounds",
        type=_POSITIVE,
        metavar="N",
        help="How often each run is done with --compare.  [default: 3]",
    ),
    _option("--json", is_flag=True, help="Print everything as one JSON document."),
    _option(
        "--svg",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Draw throughput and latency over time into this file.",
    ),
    _option(
        "--html",
        type=click.Path(dir_okay=False, path_type=Path),
        help="The same with the report, as a page.",
    ),
)
_COMMON = (_ENDPOINTS, *_TLS, _CONNECTIONS, _IN_FLIGHT, *_PACE, _KEYS, *_SHAPE, *_OUTPUT)
_FILL = _option(
    "--fill/--no-fill",
    default=None,
    help="Write every key, or grant every lease, once before.  [default: --fill, for put "
    "--no-fill]",
)
_READS = (
    _option(
        "--consistency",
        type=click.Choice([level.name.lower() for level in Consistency]),
        default="linearizable",
        show_default=True,
        help="Of reads. `local` is Chainfire's own: etcd takes it for linearizable.",
    ),
    _option(
        "--span", type=_POSITIVE, metavar="N", default=1, show_default=True, help="Keys per range."
    ),
)
_MIX = _option(
    "--reads",
    "reads_percent",
    type=click.IntRange(0, 100),
    metavar="PERCENT",
    default=80,
    show_default=True,
    help="How many of the calls are ranges; the others are puts.",
)
_WATCHED = (
    _ENDPOINTS,
    *_TLS,
    _option(
        "--watchers",
        type=_POSITIVE,
        metavar="N",
        default=WATCHERS,
        show_default=True,
        help="Watchers of the one key, or of all --keys as a range.",
    ),
    _option(
        "--streams",
        type=_POSITIVE,
        metavar="N",
        default=1,
        show_default=True,
        help="The watchers are spread over so many streams.",
    ),
    _option(
        "--connections",
        type=_POSITIVE,
        metavar="N",
        default=1,
        show_default=True,
        help="The streams are spread over so many connections; puts have one more.",
    ),
    _option(
        "--in-flight",
        metavar="N[,N…]",
        type=Numbers(),
        help="Puts at most that some watcher was not told of; several: one run each.  "
        f"[default: {WATCHED_IN_FLIGHT}, with --rate {IN_FLIGHT_OPEN}]",
    ),
    *_PACE,
    _option(
        "--keys", type=_POSITIVE, metavar="N", default=1, show_default=True, help="Keys put to."
    ),
    *_SHAPE,
    *_OUTPUT,
)
_TTL = _option(
    "--ttl",
    "ttl_seconds",
    type=click.IntRange(1, 10**9),
    metavar="SECONDS",
    default=600,
    show_default=True,
    help="Of leases, which are left to end by themselves.",
)
_LEASED = (
    _option(
        "--lease",
        "is_leased",
        is_flag=True,
        help="Attach every key that is put to one lease of --ttl, which is granted before; the "
        "keys go with it.",
    ),
    _TTL,
)
_LEASES = _option(
    "--leases",
    "keys",
    type=click.IntRange(1, LEASES_MAX),
    metavar="N",
    default=10_000,
    show_default=True,
    help="Leases that are granted before, and kept alive at random.",
)
OPTIONS: Final = {
    "put": (*_COMMON, _FILL, *_LEASED),
    "range": (*_COMMON, _FILL, *_READS),
    "txn": (*_COMMON, _FILL, *_LEASED),
    "mixed": (*_COMMON, _FILL, *_READS, _MIX, *_LEASED),
    "delete": (*_COMMON, _FILL),
    "watch": _WATCHED,
    "lease-grant": (_ENDPOINTS, *_TLS, _CONNECTIONS, _IN_FLIGHT, *_PACE, _TTL, *_OUTPUT),
    "keepalive": (
        _ENDPOINTS,
        *_TLS,
        _CONNECTIONS,
        _IN_FLIGHT,
        *_PACE,
        _LEASES,
        _TTL,
        _FILL,
        *_OUTPUT,
    ),
}
_FILLED: Final = frozenset({"range", "txn", "mixed", "delete", "keepalive"})


def task_of(
    workload: str,
    *,
    in_flight: tuple[int, ...] | None,
    connections: int | None,
    rate: float | None,
    duration: float | None,
    total: int | None,
    warm_up: float,
    fill: bool | None = None,
    keys: int = 1,
    key_size: int = 16,
    value_size: int = 256,
    prefix: str = "bench/",
    span: int = 1,
    consistency: str = "linearizable",
    reads_percent: int = 80,
    ttl_seconds: int = 600,
    is_leased: bool = False,
    watchers: int = 0,
    streams: int = 0,
) -> Task:
    """Raises UsageError, InvalidArgument."""
    shape = Shape(
        keys=keys,
        key_size=key_size,
        value_size=value_size,
        prefix=prefix,
        span=span,
        consistency=Consistency[consistency.upper()],
        reads_percent=reads_percent,
        ttl_seconds=ttl_seconds,
        lease_base=new_lease_base(),
        is_leased=is_leased,
    )
    shape.check()
    audience = None
    if watchers:
        audience = _audience(watchers, streams, connections or 1, value_size)
        connections = 1
    closed = WATCHED_IN_FLIGHT if watchers else IN_FLIGHT
    in_flight = in_flight or (IN_FLIGHT_OPEN if rate else closed,)
    if connections is not None and connections > min(in_flight):
        raise click.UsageError(
            f"--connections {connections} needs at least as many --in-flight, one for each"
        )
    if workload == "delete":  # each key once, so that each call finds one
        total, warm_up = min(total or keys, keys), 0.0
    if duration is None and total is None:
        duration = DURATION_SECONDS
    if duration == 0:
        raise click.UsageError("--duration must be more than 0")
    return Task(
        workload=workload,
        shape=shape,
        audience=audience,
        in_flight=in_flight,
        connections=connections or CONNECTIONS,
        rate=rate,
        seconds=duration,
        total=total,
        warm_up=warm_up,
        fill=fill if fill is not None else workload in _FILLED,
    )


def _audience(watchers: int, streams: int, connections: int, value_size: int) -> Audience:
    if not connections <= streams <= watchers:
        raise click.UsageError(
            "there must be a stream for each of --connections, a watcher for each of --streams"
        )
    if value_size < STAMP_BYTES:
        raise click.UsageError(f"--value-size must be at least {STAMP_BYTES}: a put's number")
    return Audience(watchers=watchers, streams=streams, connections=connections)
