"""`chainfire sim`: run one seed of the simulator, or as many as a time allows.

`run` replays one seed, the same in every process; `swarm` takes seed after
seed, on several processes, and makes the first one that breaks a promise smaller.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from math import isfinite
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from chainfire.sim.run import Outcome
    from chainfire.sim.swarm import Summary

EXIT_BROKEN: Final = 1
SECONDS: Final = 10
SEEDS_PER_PART: Final = 5
TRACE_LINES: Final = 200  # of a run that was made smaller, the last ones

EPILOG = """\b
Examples:
  chainfire sim run --seed=17 --trace
  chainfire sim swarm --minutes=10 --jobs=2
  chainfire sim swarm --seeds=200 --first=1000

Exit code 1: a promise was broken. What is promised and checked: docs/verification.md."""
_HELP: Final = {"help_option_names": ["-h", "--help"]}


@click.group("sim", epilog=EPILOG, context_settings=_HELP)
def command() -> None:
    """Simulate clusters under faults and check what they promise."""


_COUNT: Final = click.IntRange(min=1)
_seconds = click.option(
    "--seconds",
    type=_COUNT,
    default=SECONDS,
    show_default=True,
    help="Simulated time of chaos, per seed.",
)


@command.command("run", context_settings=_HELP)
@click.option("--seed", type=int, required=True, help="The run: what it draws, and its chance.")
@click.option("--trace", is_flag=True, help="Print every message and every fault, with its time.")
@click.option("--shrink/--no-shrink", default=True, help="Make a broken run smaller.")
@_seconds
def run(seed: int, trace: bool, shrink: bool, seconds: int) -> None:
    """Run one seed."""
    from chainfire.sim.run import run_shape
    from chainfire.sim.shape import draw
    from chainfire.sim.shrink import describe

    outcome: Outcome = run_shape(draw(seed, seconds=seconds), traced=trace)
    if trace:
        _show_trace(outcome.trace)
    click.echo(describe(outcome.shape))
    click.echo(
        f"{outcome.simulated_us / 1e6:.1f} s, {outcome.events:,} events, {outcome.operations:,} "
        f"operations, {outcome.writes:,} revisions, trace {outcome.digest:016x}"
    )
    for name, count in sorted((outcome.faults + outcome.branches).items()):
        click.echo(f"  {count:>8,}  {name}")
    if not outcome.broken:
        click.echo("every promise was kept")
        return
    if shrink:
        outcome = _make_smaller(outcome)
    click.echo(outcome.traceback or "", nl=False)
    click.echo(f"BROKEN: {outcome.broken}")
    sys.exit(EXIT_BROKEN)


def _show_trace(lines: Sequence[str]) -> None:
    click.echo("        µs  member (*: all), or sender → receiver, and what")
    for line in lines:
        click.echo(line)


def _make_smaller(outcome: Outcome) -> Outcome:
    """The smallest run that is broken in the same way, after its trace and shape were shown."""
    from chainfire.sim.run import run_shape
    from chainfire.sim.shrink import describe, shrink

    smallest = run_shape(shrink(outcome, say=click.echo).shape, traced=True)
    _show_trace(smallest.trace[-TRACE_LINES:])
    click.echo(describe(smallest.shape))
    return smallest


@command.command("swarm", context_settings=_HELP)
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Go on so long.")
@click.option("--seeds", type=_COUNT, help="Or take so many seeds.")
@click.option("--first", default=0, show_default=True, help="The first seed.")
@click.option("--jobs", type=_COUNT, default=1, show_default=True, help="Processes.")
@click.option("--stop", is_flag=True, help="Stop at the first broken seed.")
@_seconds
def swarm(
    minutes: float | None, seeds: int | None, first: int, jobs: int, stop: bool, seconds: int
) -> None:
    """Run seed after seed, and add up."""
    from chainfire.sim.run import run_shape
    from chainfire.sim.shape import draw
    from chainfire.sim.swarm import Summary, lines

    if minutes is not None and not isfinite(minutes):
        raise click.UsageError("--minutes must be a number of minutes")
    if (minutes is None) == (seeds is None):
        raise click.UsageError("give either --minutes or --seeds")
    started = time.monotonic()
    ends = started + 60 * minutes if minutes is not None else None
    summary = Summary()
    with ProcessPoolExecutor(jobs) as pool:
        for part in _parts(pool, jobs, first, seeds, ends, seconds):
            summary += part
            for seed, what in part.broken:
                click.echo(f"BROKEN seed {seed}: {what[:300]}")
            if stop and summary.broken:
                break
    for line in lines(summary, time.monotonic() - started):
        click.echo(line)
    if summary.broken:
        seed, _ = min(summary.broken)
        click.echo(f"seed {seed}, made smaller:")
        click.echo(f"BROKEN: {_make_smaller(run_shape(draw(seed, seconds=seconds))).broken}")
        click.echo(f"replay: chainfire sim run --seed={seed} --seconds={seconds}")
        sys.exit(EXIT_BROKEN)


def _parts(
    pool: Executor, jobs: int, first: int, seeds: int | None, ends: float | None, seconds: int
) -> Iterator[Summary]:
    """One part after the other, in the order of their seeds."""
    under_way: deque[Future[Summary]] = deque()
    last = first + seeds if seeds is not None else sys.maxsize
    at = first
    while under_way or at < last:
        while at < last and len(under_way) < 2 * jobs:
            if ends is not None and time.monotonic() >= ends:
                last = at
                break
            count = min(SEEDS_PER_PART, last - at)
            under_way.append(pool.submit(run_seeds, at, count, seconds))
            at += count
        if under_way:
            yield under_way.popleft().result()


def run_seeds(first: int, count: int, seconds: int) -> Summary:
    """In a process of the pool."""
    from chainfire.sim.run import run_shape
    from chainfire.sim.shape import draw
    from chainfire.sim.swarm import Summary

    summary = Summary()
    for seed in range(first, first + count):
        began = time.process_time()
        outcome = run_shape(draw(seed, seconds=seconds))
        summary.add(outcome, time.process_time() - began)
    return summary
