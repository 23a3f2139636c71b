"""`python -m bench.watch`: watch fan-out and leases, etcd and Chainfire side by side.

A thousand watchers of one key in three shapes, told of events one at a time, in batches, and at a
fixed rate; grants and keepalives of leases. Both servers run all the time; one is loaded at a
moment, and the order changes from round to round. An event that is lost, told twice or out of
order stops the benchmark, as an error does.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from bench import contest
from bench.contest import WrongAnswer
from bench.table import Measured, Row
from chainfire.cli.bench import Bench
from chainfire.cli.bench_figures import Figures
from chainfire.cli.bench_options import Task, task_of
from chainfire.cli.bench_systems import System
from tests.servers import Server

WATCHERS: Final = 1000
PUTS_PER_SECOND: Final = 100.0  # of the open loop
WARM_UP_SECONDS: Final = 0.5
LEASES: Final = 10_000
# Streams and connections of the watchers.
SHAPES: Final = {
    "1 stream × 1,000": (1, 1),
    "100 streams × 10": (100, 10),
    "1,000 connections": (1000, 1000),
}
BATCHED: Final = 20  # puts in flight
IN_FLIGHT_OPEN: Final = 1000  # room while a server stalls


def loads() -> dict[str, tuple[tuple[int, ...], Task]]:
    """Numbers in flight, and what is done."""
    found = {}
    for name, (streams, connections) in SHAPES.items():
        spread = {"watchers": WATCHERS, "streams": streams, "connections": connections}
        found[name] = (1, BATCHED), _task("watch", **spread)
        at_rate = _task("watch", rate=PUTS_PER_SECOND, **spread)
        found[f"{name}, {PUTS_PER_SECOND:.0f} puts/s"] = (IN_FLIGHT_OPEN,), at_rate
    found["lease grant"] = (1, 100, 500), _task("lease-grant")
    found["keepalive"] = (100, 500), _task("keepalive", keys=LEASES)
    return found


def _task(workload: str, **parameters: Any) -> Task:
    defaults = {"rate": None, "connections": None, "in_flight": None, "total": None}
    pace = {"duration": 1.0, "warm_up": WARM_UP_SECONDS}
    return task_of(workload, **{**defaults, **pace, **parameters})


def main() -> int:
    options = _options()
    peer, ours = found = contest.systems(options.peer)
    known = loads()
    wanted = [name for name in known if any(part in name for part in options.loads)]
    rows = [Row(name, n) for name in wanted for n in known[name][0]]
    scratch = Path(tempfile.mkdtemp(prefix="chainfire-bench-", dir=options.directory))
    try:
        with Server(peer, scratch / "peer") as one, Server(ours, scratch / "ours") as two:
            for server in (one, two):
                _fill(server, known["keepalive"][1])
            for turn, server, row, runs in contest.turns(options.rounds, one, two, rows):
                runs.append(_run(server, row, known[row.load][1], options.seconds))
                contest.tell(turn, server.kind.name, row, runs[-1])
        contest.report(
            "watch",
            rows,
            found,
            scratch,
            options.markdown,
            note="per s: events, grants, keepalives. CPU µs: server CPU for each, all threads.",
            what=f"load, {WATCHERS:,} watchers",
        )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return 0


def _fill(server: Server, keepalive: Task) -> None:
    _bench(keepalive).fill(System.at(server.url, None))


def _run(server: Server, row: Row, task: Task, seconds: float) -> Measured:
    bench = _bench(replace(task, seconds=seconds))
    figures = bench.measure(System.at(server.url, None), row.in_flight)
    _check(server.kind.name, figures)
    return contest.measured(figures, figures.latencies)


def _bench(task: Task) -> Bench:
    return Bench(task, lambda _: None)


def _check(name: str, figures: Figures) -> None:
    what = f"{name}, {figures.workload}"
    if figures.is_wrong:
        raise WrongAnswer(f"{what}: {figures.failures} {figures.told}")
    if any(answers.empty for answers in figures.answers):
        raise WrongAnswer(f"{what}: leases that should be there are gone")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.watch", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each run (default 2)")
    names = ", ".join(f"'{name}'" for name in loads())
    parser.add_argument(
        "--loads",
        type=lambda text: text.split(";"),
        default=[""],
        help=f"parts of names, with semicolons between them: {names}",
    )
    contest.add_options(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
