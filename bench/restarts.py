"""`python -m bench.restarts`: how long a member is away that was killed at the worst moment.

One real member under load kills itself at a step between log sync, apply, sync of `state/` and
truncation of the log (tests/faults/crashing.py), again and again, on one data directory. Counted is
the time from the start of the next process to its first linearizable answer (interpreter, imports,
recovery and replay) and its CPU time by then, which other load changes less. Beside it, in every
tenth round, a start after an orderly stop. After each start everything that was ever acknowledged
is looked for (tests/crash/check.py): a loss ends the run. Ctrl-C ends it with the figures so far.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import random
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bench.table import aligned
from chainfire.cli.bench_servers import cpu_seconds
from tests.crash.check import check
from tests.crash.load import History, Load
from tests.faults.crashing import VARIABLE
from tests.servers import ROOT, Kind, Server, chainfire

WRITERS: Final = 60
STEPS: Final = {  # which call of it is the last one, and after how many writes it is killed anyway
    "log-sync": (30, 120, 4000),
    "acknowledge": (30, 120, 4000),
    "apply": (30, 120, 4000),
    "state-write": (30, 120, 4000),
    "state-sync": (1, 4, 4000),  # one a second: what came since then is replayed
    "state-durable": (1, 4, 4000),
    "log-truncate": (1, 6, 4000),
}
SMALL_LOG: Final = ("--snapshot-count=300",)  # so that it is cut while we look
STOPPED: Final = "(orderly stop)"
LATE: Final = "after all writes"


@dataclass(frozen=True, slots=True)
class Start:
    seconds: float  # to the first linearizable answer
    cpu_seconds: float


def main() -> int:
    options = _options()
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        starts = measure(Path(directory), options.kills, random.Random(options.seed))
    lines = [["killed", "times", "p50 s", "p99 s", "max s", "CPU p50", "p99", "max"]]
    rows = sorted(starts.items(), key=lambda row: row[0] == STOPPED)
    kills = [start for point, all_of_it in rows if point != STOPPED for start in all_of_it]
    for point, all_of_it in [*rows, ("all kills", kills)]:
        figures = _of_interest([s.seconds for s in all_of_it])
        figures += _of_interest([s.cpu_seconds for s in all_of_it])
        lines.append([point, str(len(all_of_it)), *(f"{figure:.2f}" for figure in figures)])
    print(aligned(lines))
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    return 0


def measure(directory: Path, kills: int, rng: random.Random) -> dict[str, list[Start]]:
    """By where the member was killed before."""
    server, history = Server(chainfire(), directory / "data"), History()
    normal, dying = server.kind, _dying(server.kind)
    points = itertools.cycle(f"{side} {step}" for step in STEPS for side in ("before", "after"))
    starts: defaultdict[str, list[Start]] = defaultdict(list)
    try:
        for number, point in enumerate(itertools.islice(points, kills)):
            first, last, writes = STEPS[point.split()[1]]
            server.kind = dying
            server.env = {
                VARIABLE: f"{point}:{rng.randint(first, last)}",
                "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT))),
            }
            server.flags = SMALL_LOG if point.endswith("log-truncate") else ()
            server.start()
            load = Load(history, rng, str(number))
            asyncio.run(load.run(server.target, WRITERS, server.kill, after=writes))
            server.kind, server.env = normal, {}
            starts[point if load.acknowledged < writes else LATE].append(_start(server))
            _ensure_nothing_is_lost(server, history, rng)
            if number % 10 == 0:
                server.stop()
                starts[STOPPED].append(_start(server))
            server.kill()
            print(f"\r{number + 1} of {kills} kills", end="", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
    finally:
        server.kill()
    print(f"\n{history.acknowledged} acknowledged writes, none lost", file=sys.stderr)
    return starts


def _dying(kind: Kind) -> Kind:
    program = ("tests.faults.crashing" if part == "chainfire" else part for part in kind.command)
    return replace(kind, command=tuple(program))


def _start(server: Server) -> Start:
    begun = time.monotonic()
    server.start()
    return Start(time.monotonic() - begun, cpu_seconds([server.pid]))


def _ensure_nothing_is_lost(server: Server, history: History, rng: random.Random) -> None:
    _, wrong = asyncio.run(check(server.target, history, rng))
    if wrong:
        sys.exit("\n".join(wrong))


def _of_interest(seconds: list[float]) -> list[float]:
    ordered = sorted(seconds)
    last = len(ordered) - 1
    return [ordered[last // 2], ordered[round(last * 0.99)], ordered[last]]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.restarts",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--directory", type=Path, help="where it keeps its data")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
