"""`python -m bench.many`: etcd and Chainfire side by side with many keys, by `chainfire bench`.

Both servers run all the time on the same filesystem; one is loaded at a moment, and the order
changes from round to round. Every run is held to the counts that the generator itself makes:
no error, no empty answer, and for writes as many revisions as answers.

Calls in closed loops first: each is followed by the next. Then, in open loop, both get what the
slower of them has managed, or a share of it, at fixed times whatever they do: how long do calls
take at the same load, from when they were due?
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench import contest, table
from bench.contest import WrongAnswer, numbers, some_of
from bench.h2load import Sample
from bench.table import Measured, Row
from tests.servers import Server

LOADS = {
    "put": ("put",),
    "linearizable range": ("range",),
    "serializable range": ("range", "--consistency=serializable"),
    "ten-key range": ("range", "--span=10"),
    "txn": ("txn",),
    "delete": ("delete",),
    "mixed 80/20": ("mixed",),
}
OPEN_HEAD = ["open loop", "as of in flight", "per s", "server", "p50 ms", "p99 ms", "ratio of p99"]
DELETED_SHARE = 2  # so much of the keys at most is deleted by a run, each once


def main() -> int:
    options = _options()
    peer, ours = found = contest.systems(options.peer)
    rows = [Row(load, n) for load in options.loads for n in options.in_flight]
    scratch = Path(tempfile.mkdtemp(prefix="chainfire-bench-", dir=options.directory))
    try:
        with Server(peer, scratch / "peer") as one, Server(ours, scratch / "ours") as two:
            for server in (one, two):
                _fill(server, options.keys)
            _measure(one, two, rows, {}, options)
            rates = {(row.load, row.in_flight): _shared_rate(row, options.share) for row in rows}
            open_rows = [Row(row.load, row.in_flight) for row in rows if options.share]
            _measure(one, two, open_rows, rates, options)
        contest.report(
            "many",
            rows,
            found,
            scratch,
            options.markdown,
            note="CPU µs: server CPU per request, all threads. ratio: Chainfire / etcd, per round.",
            what=f"load, {options.keys:,} keys",
        )
        if open_rows:
            lines = [line for row in open_rows for line in _open_lines(row, peer.name, ours.name)]
            print(f"\n{table.aligned([OPEN_HEAD, *lines])}")
            if options.markdown:
                rule = ["---", "---:", "---:", "---", "---:", "---:", "---:"]
                with options.markdown.open("a") as file:
                    file.write(f"\n{table.piped([OPEN_HEAD, rule, *lines])}")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return 0


def _fill(server: Server, keys: int) -> None:
    _bench(server, ("put", "--fill", f"--keys={keys}", "--total=1", "--warm-up=0s"))


def _measure(
    one: Server,
    two: Server,
    rows: Sequence[Row],
    rates: Mapping[tuple[str, int], float],
    options: argparse.Namespace,
) -> None:
    """All rows in turns; those that have a rate in open loop."""
    for turn, server, row, runs in contest.turns(options.rounds, one, two, rows):
        rate = rates.get((row.load, row.in_flight))
        runs.append(_run(server, row, rate, options))
        pace = f"{rate:,.0f}/s due" if rate else ""
        contest.tell(turn, server.kind.name, row, runs[-1], pace)


def _shared_rate(row: Row, share: float) -> float:
    """What both can be expected to do."""
    return share * min(
        median(run.sample.per_second for run in runs) for runs in (row.peer, row.ours)
    )


def _open_lines(row: Row, peer: str, ours: str) -> list[list[str]]:
    """Two lines: the peer's times, then ours with the ratio of p99."""
    ratios = [
        ours.sample.p99_ms / peer.sample.p99_ms
        for ours, peer in zip(row.ours, row.peer, strict=True)
    ]
    lines = []
    for name, runs, ratio in ((peer, row.peer, ""), (ours, row.ours, f"{median(ratios):.2f}")):
        samples = [run.sample for run in runs]
        figures = [median(s.p50_ms for s in samples), median(s.p99_ms for s in samples)]
        rate = f"{median(s.per_second for s in samples):,.0f}"
        begin = [row.load, str(row.in_flight), rate, name]
        lines.append([*begin, *(f"{figure:.2f}" for figure in figures), ratio])
    return lines


def _run(server: Server, row: Row, rate: float | None, options: argparse.Namespace) -> Measured:
    load = LOADS[row.load]
    pace = f"--rate={rate:.0f}" if rate else f"--in-flight={row.in_flight}"
    flags = (pace, f"--duration={options.seconds:g}s")
    if row.load == "delete":  # of keys of its own, written anew before each run
        flags += ("--fill", f"--keys={options.keys // DELETED_SHARE}", "--prefix=deleted/")
    else:
        flags += ("--no-fill", f"--keys={options.keys}")
    run = _bench(server, (*load, *flags))
    answers = run["answers"]
    empty = sum(operation["empty"] for operation in run["operations"].values())
    if run["errors"] or empty:
        raise WrongAnswer(f"{server.kind.name}, {row.load}: {run['errors']}, {empty} empty answers")
    if load[0] in ("put", "txn", "delete") and run["revisions"] < answers:
        raise WrongAnswer(f"{server.kind.name}: {answers} answers, {run['revisions']} revisions")
    latency = run["latency"]
    sample = Sample(answers, run["per_second"], latency["p50"], latency["p99"], 0)
    return Measured(sample, run["server_cpu_us"] or 0.0)


def _bench(server: Server, arguments: Sequence[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "chainfire", "bench", *arguments]
    command += [f"--endpoints={server.target}", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise WrongAnswer(f"{server.kind.name}: {shlex.join(command)}: {done.stderr.strip()}")
    (run,) = json.loads(done.stdout)["runs"]
    found: dict[str, Any] = run
    return found


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.many", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run (default 3)")
    parser.add_argument("--in-flight", type=numbers, default=[1, 100, 500])
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--loads", type=some_of(LOADS), default=list(LOADS), help=", ".join(LOADS))
    parser.add_argument(
        "--share",
        type=float,
        default=0.7,
        help="in open loop, of the rate of the slower one; 0: no open loop (default 0.7)",
    )
    contest.add_options(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
