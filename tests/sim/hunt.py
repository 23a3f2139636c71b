"""`make mutants`: bugs that others shipped, put back one by one. Does the simulator find them?

Each `mutants/*.patch` says what it breaks and which bug it re-creates, and is
applied to a copy of the source. Seeds are run on it until one is broken. A
patch that does not apply fails the run, and so does one that is not found and
whose lines no seed has reached: it proves nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATCHES = ROOT / "tests" / "sim" / "mutants"
SEEDS = 1000
SECONDS = 6  # of chaos, per seed
REACH_SEEDS = 60

_HUNT = """
import json, sys
from chainfire.sim.run import run_shape
from chainfire.sim.shape import draw
first, count, seconds = map(int, sys.argv[1:])
for seed in range(first, first + count):
    outcome = run_shape(draw(seed, seconds=seconds))
    if outcome.broken:
        print(json.dumps([seed, outcome.broken[:200]]))
        break
"""
_REACH = """
import json, sys
from chainfire.sim.run import run_shape
from chainfire.sim.shape import draw
lines = {tuple(line) for line in json.load(sys.stdin)}
files = {path for path, _ in lines}
reached = set()
def in_file(frame, event, _):
    reached.add((frame.f_code.co_filename, frame.f_lineno))
    return in_file
def on_call(frame, event, _):
    return in_file if frame.f_code.co_filename in files else None
sys.settrace(on_call)
for seed in range(int(sys.argv[1])):
    run_shape(draw(seed, seconds=int(sys.argv[2])))
    if lines & reached:
        print("reached")
        break
"""


@dataclass(frozen=True)
class Mutant:
    name: str
    what: str
    cites: str

    @classmethod
    def read(cls, path: Path) -> Mutant:
        what, _, rest = path.read_text().partition("\n\nRe-creates: ")
        return cls(path.stem, what, rest.partition("\n")[0])

    @property
    def patch(self) -> Path:
        return PATCHES / f"{self.name}.patch"


@dataclass(frozen=True)
class Result:
    mutant: Mutant
    seeds: int = 0  # until it was found, or as many as were tried
    found: str = ""
    fault: str = ""  # of the mutant itself
    cpu_seconds: float = 0.0


def mutants() -> list[Mutant]:
    return [Mutant.read(path) for path in sorted(PATCHES.glob("*.patch"))]


def apply(mutant: Mutant, into: Path) -> str:
    """Copy the source and apply the patch; the complaint if that does not work."""
    shutil.copytree(ROOT / "src", into / "src", ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        ["git", "apply", "-p1", str(mutant.patch)],
        cwd=into,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr.strip() if done.returncode else ""


def hunt(mutant: Mutant, seeds: int, seconds: int, first: int) -> Result:
    with tempfile.TemporaryDirectory() as made:
        complaint = apply(mutant, Path(made))
        if complaint:
            return Result(mutant, fault=f"does not apply: {complaint}")
        before = os.times()
        found = _python(Path(made), _HUNT, [first, seeds, seconds])
        after = os.times()
        cpu = after.children_user - before.children_user
        if found:
            seed, what = json.loads(found)
            return Result(mutant, seed - first + 1, what, cpu_seconds=cpu)
        lines = json.dumps(list(_changed_lines(mutant, Path(made))))
        reached = _python(Path(made), _REACH, [REACH_SEEDS, seconds], lines)
        fault = "" if reached else "its lines were never reached"
        return Result(mutant, seeds, fault=fault, cpu_seconds=cpu)


def _python(made: Path, code: str, arguments: Sequence[int], text: str = "") -> str:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(made / "src")},
        input=text,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def _changed_lines(mutant: Mutant, made: Path) -> Iterator[tuple[str, int]]:
    """(file, line) of what the patch has put in, and of what follows a mere removal."""
    path, at = "", 0
    for line in mutant.patch.read_text().splitlines():
        if line.startswith("+++ b/"):
            path = str(made / line[6:])
        elif head := re.match(r"@@ -\S+ \+(\d+)", line):
            at = int(head[1])
        elif path and line[:1] in "+-":
            yield path, at
            at += line[0] == "+"
        elif path:
            at += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="only these")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--seconds", type=int, default=SECONDS)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    chosen = [m for m in mutants() if not options.names or m.name in options.names]
    results, started = [], time.monotonic()
    for mutant in chosen:
        result = hunt(mutant, options.seeds, options.seconds, options.first)
        results.append(result)
        verdict = f"seed {result.seeds:>4}" if result.found else result.fault or "NOT FOUND"
        said = result.found[:90]
        print(f"{verdict:<10} {result.cpu_seconds:>7.1f} s  {mutant.name}  {said}", flush=True)
    found = sorted(result.seeds for result in results if result.found)
    print(
        f"{len(found)} of {len(results)} found within {options.seeds} seeds, median "
        f"{found[len(found) // 2] if found else '-'}, in {time.monotonic() - started:.0f} s"
    )
    sys.exit(any(result.fault for result in results) or len(found) * 10 < len(results) * 9)


if __name__ == "__main__":
    main()
