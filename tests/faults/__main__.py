"""`make faults RUNS=…`: clusters of real processes under faults drawn from seeds, each run judged.

A run is passed, broken, or inconclusive (a fault that did not land, too little load). Before the
first, a canary is let fly: such a run on a copy of the source with a bug planted in it. If that is
not found out, nothing here would be, and the campaign fails.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.faults.kinds import DAMAGES, KINDS
from tests.faults.scene import Verdict, run
from tests.faults.shim import library
from tests.servers import Kind, chainfire

ROOT = Path(__file__).parents[2]
# In the canary a leader's own disk is quorum enough.
PLANTED_IN = "src/chainfire/raft/quorum.py"
TRUE, PLANTED = "sorted(matches)[(len(matches) - 1) // 2]", "max(matches)"
CANARY_RUNS = 12  # one that cuts off a leader loses writes; which member it is, the seed draws


def canary(kind: Kind, door: str) -> str:
    """Which promise was found broken, or nothing.

    That something did not come in time finds nothing out: any bug, and none, may be the cause.
    """
    with tempfile.TemporaryDirectory(prefix="canary-") as made:
        source = Path(made) / "src"
        shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        planted = Path(made) / PLANTED_IN
        text = planted.read_text()
        assert TRUE in text, "the canary's bug does not apply any more"
        planted.write_text(text.replace(TRUE, PLANTED))
        for seed in range(1, CANARY_RUNS + 1):
            place = Path(made) / str(seed)
            place.mkdir()
            found = run(kind, place, seed, door=door, only=["partition"], source=source)
            if found.is_proved:
                return f"seed {seed}: {found.broken}"
    return ""


def line(verdict: Verdict) -> str:
    outcome = "BROKEN" if verdict.broken else "void" if verdict.inconclusive else "passed"
    return (
        f"seed {verdict.seed:>5} {verdict.door:<6} {outcome:<6} {verdict.seconds:5.1f} s "
        f"{verdict.acknowledged:>6,} writes {verdict.events:>7,} events  "
        + ", ".join(verdict.faults)
        + (f"; together: {' + '.join(verdict.together)}" if verdict.together else "")
        + (f"; {', '.join(verdict.notes)}" if verdict.notes else "")
        + (f"\n      {verdict.broken[:2000]}" if verdict.broken else "")
        + (f"  ({verdict.inconclusive[:200]})" if verdict.inconclusive else "")
    )


def summary(verdicts: Sequence[Verdict], seconds: float, only: str = "") -> Iterator[str]:
    passed = [verdict for verdict in verdicts if verdict.passed]
    broken = [verdict for verdict in verdicts if verdict.broken]
    yield (
        f"{len(verdicts)} runs in {seconds / 60:,.0f} min: {len(passed)} passed, "
        f"{len(broken)} broken, {len(verdicts) - len(passed) - len(broken)} inconclusive"
    )
    kinds = Counter(name for v in passed for name in v.faults)
    yield "fault kinds in passed runs: " + ", ".join(
        f"{name} {kinds[name]}" for name in sorted(KINDS)
    )
    together = [set(v.together) for v in passed if v.together]
    yield (
        f"faults overlapped in {len(together)} of them, damage with others in "
        f"{sum(bool(names & DAMAGES) for names in together)}"
    )
    yield (
        f"{sum(v.operations for v in passed):,} requests, {sum(v.acknowledged for v in passed):,} "
        f"acknowledged writes, {sum(v.events for v in passed):,} events of watches checked"
    )
    done: Counter[str] = Counter()
    for verdict in passed:
        done.update(verdict.counts)
    yield "of which: " + ", ".join(f"{what} {count:,}" for what, count in sorted(done.items()))
    chosen = f" --only={only}" if only else ""
    for v in broken:
        again = f"--first={v.seed} --door={v.door}{chosen} --keep=broken"
        yield f'BROKEN seed {v.seed}; once more: make faults RUNS=1 ARGS="{again}"'


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--runs", type=int, default=20, help="how many (default: 20)")
    parser.add_argument("--first", type=int, default=1, help="the first seed (default: 1)")
    parser.add_argument(
        "--door",
        choices=("native", "grpcio", "both"),
        default="both",
        help="default: both, in turn",
    )
    parser.add_argument("--only", default="", help="this fault in each run, or a few: a,b")
    parser.add_argument("--keep", type=Path, help="where the files of broken runs are left")
    arguments = parser.parse_args()
    if arguments.runs < 1:
        parser.error("--runs must be at least 1")
    only = [name for name in arguments.only.split(",") if name]
    if unknown := set(only) - set(KINDS):
        parser.error(f"{', '.join(sorted(unknown))}: not among {', '.join(sorted(KINDS))}")
    if library() is None:
        parser.error("no C compiler (cc): disks and clocks cannot be made to fail")
    doors = ["native", "grpcio"] if arguments.door == "both" else [arguments.door]
    if "native" in doors and importlib.util.find_spec("chainfire_native") is None:
        if arguments.door == "native":
            parser.error("the native door is not installed: see `chainfire version`")
        print("the native door is not installed: every run is through the portable one")
        doors = ["grpcio"]
    kind = chainfire()
    assert kind is not None
    begun = time.monotonic()
    found = canary(kind, doors[0])
    print(f"canary: {found[:200] or 'NOT FOUND'}", flush=True)
    verdicts: list[Verdict] = []
    for at in range(arguments.runs):
        seed, door = arguments.first + at, doors[at % len(doors)]
        directory = Path(tempfile.mkdtemp(prefix=f"faults-{seed}-"))
        verdict = run(kind, directory, seed, door=door, only=only)
        verdicts.append(verdict)
        print(line(verdict), flush=True)
        if verdict.broken and arguments.keep:
            arguments.keep.mkdir(parents=True, exist_ok=True)
            shutil.move(directory, arguments.keep)
        else:
            shutil.rmtree(directory)
    print("\n".join(summary(verdicts, time.monotonic() - begun, arguments.only)))
    return 0 if found and not any(verdict.broken for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
