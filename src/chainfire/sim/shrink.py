"""A failing seed made small: fewer faults, fewer members, shorter, kinder, still broken alike.

Greedy: each simplification is tried in turn and kept if the run still breaks
the same promise. A run is cheap, so this is a matter of seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace

from chainfire.sim.run import Outcome, run_shape
from chainfire.sim.shape import Network, Shape


def shrink(found: Outcome, *, tries_max: int = 200, say: Callable[[str], None]) -> Outcome:
    """The smallest outcome found that is broken in the same way."""
    smallest, tries, again = found, 0, True
    while again and tries < tries_max:
        again = False
        for simpler in _simpler(smallest):
            tries += 1
            outcome = run_shape(simpler)
            if outcome.broken and outcome.kind == found.kind:
                say(f"kept: {describe(simpler)}")
                smallest, again = outcome, True
                break
            if tries >= tries_max:
                break
    return smallest


def _simpler(outcome: Outcome) -> Iterator[Shape]:
    shape = outcome.shape
    yield from _shorter(shape, outcome.simulated_us)
    for kind in shape.faults:
        yield replace(shape, faults=tuple(other for other in shape.faults if other != kind))
    yield from _kinder(shape)
    if shape.members > 3:
        yield replace(shape, members=3)
    plain = Shape(seed=shape.seed)
    for name in _PLAIN:
        if getattr(shape, name) != getattr(plain, name):
            yield replace(shape, **{name: getattr(plain, name)})
    yield from _idler(shape)


def _kinder(shape: Shape) -> Iterator[Shape]:
    plain = Network()
    if shape.network != plain:
        yield replace(shape, network=plain)
        for field in fields(Network):
            name, value = field.name, getattr(plain, field.name)
            if getattr(shape.network, name) != value:
                yield replace(shape, network=replace(shape.network, **{name: value}))


def _idler(shape: Shape) -> Iterator[Shape]:
    if shape.clients > 1:
        yield replace(shape, clients=max(1, shape.clients // 2))
    if shape.keys > 1:
        yield replace(shape, keys=max(1, shape.keys // 2))
    if shape.calls_per_second > 10:
        yield replace(shape, calls_per_second=shape.calls_per_second // 2)


def _shorter(shape: Shape, simulated_us: int) -> Iterator[Shape]:
    seconds = min(shape.seconds, simulated_us // 1_000_000 + 1)
    for fewer in (seconds // 2, seconds - 1):
        if 0 < fewer < shape.seconds:
            yield replace(shape, seconds=fewer)


_PLAIN = (
    "pre_vote",
    "check_quorum",
    "heartbeat_ms",
    "election_ticks",
    "feed_per_second",
    "feed_batch",
    "clock_skew",
    "compaction_ms",
    "lease_holders",
    "watchers",
    "append_bytes_max",
    "inflight_messages_max",
    "applying_bytes_max",
    "uncommitted_bytes_max",
    "catchup_entries",
    "state_sync_entries",
    "turn_us",
    "sync_us",
    "burst",
    "client_timeout_ms",
    "request_timeout_ms",
    "learners",
    "carries_bytes",
    "faithful",
    "eager",
    "compaction_pace_us",
    "restart_ms",
)


def describe(shape: Shape) -> str:
    """What differs from a plain shape."""
    plain = Shape(seed=shape.seed)
    return ", ".join(
        f"{field.name}={getattr(shape, field.name)}"
        for field in fields(shape)
        if field.name == "seed" or getattr(shape, field.name) != getattr(plain, field.name)
    )
