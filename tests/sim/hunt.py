"""`make mutants`: bugs that others shipped, put back one by one. Does the simulator find them?

Each `mutants/*.patch` says what it breaks and which bug it re-creates, and
somebody who did not write it, why that is so. It is applied to a copy of the source,
and seeds are run on it until one is broken, those first that promise most. A
patch that does not apply fails the run, and so does one whose lines no seed
has reached: it proves nothing. So does a seed that is broken without the mutant.

    make mutants                              all of them, 1,000 seeds each at most
    make mutants JOBS=2 ARGS="--seeds=100"    in less time
    make mutants ARGS=half-is-a-majority      one of them
    make mutants ARGS="--keep=found.jsonl"    to go on where an earlier run of this tree ended
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
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATCHES = ROOT / "tests" / "sim" / "mutants"
SEEDS = 1000
SECONDS = 4  # of chaos, per seed


@dataclass(frozen=True)
class Mutant:
    name: str
    what: str
    cites: str
    confirmed: str  # by somebody who did not write it: why it is the cited bug

    @classmethod
    def read(cls, path: Path) -> Mutant:
        what, _, rest = path.read_text().partition("\n\nRe-creates: ")
        cites, _, rest = rest.partition("\nConfirmed: ")
        confirmed = rest.partition("\n\n")[0] if rest else ""
        return cls(path.stem, what, " ".join(cites.split()), " ".join(confirmed.split()))

    @property
    def was_shipped(self) -> bool:
        """By others; or it is the absence of a defence that Chainfire has."""
        return not self.cites.startswith("no shipped bug: ")

    @property
    def patch(self) -> Path:
        return PATCHES / f"{self.name}.patch"


@dataclass(frozen=True)
class Result:
    name: str
    seeds: int = 0  # that were run
    found_at: int | None = None  # the seed that was broken
    found: str = ""
    fault: str = ""  # of the mutant itself
    cpu_seconds: float = 0.0

    @property
    def verdict(self) -> str:
        if self.fault:
            return "FAULTY"
        return "not found" if self.found_at is None else f"seed {self.found_at}"


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
            return Result(mutant.name, fault=f"does not apply: {complaint}")
        lines = json.dumps(list(changed_lines(mutant, Path(made))))
        said, cpu = _run(Path(made), [first, seeds, seconds], lines)
    if "crashed" in said:
        return Result(mutant.name, fault=said["crashed"], cpu_seconds=cpu)
    fault = ""
    if said["broken"] is None:
        fault = "" if said["reached"] is not None else "its lines were never reached"
    elif _run(ROOT, [said["broken"], 1, seconds], "[]")[0].get("broken") is not None:
        fault = f"seed {said['broken']} is broken without it, too: {said['what']}"
    return Result(mutant.name, said["seeds"], said["broken"], said["what"], fault, cpu)


def _run(made: Path, arguments: Sequence[int], lines: str) -> tuple[dict, float]:  # type: ignore[type-arg]
    """What mutant_seeds says, and the CPU time it took."""
    script = Path(__file__).with_name("mutant_seeds.py")
    command = [sys.executable, str(script), *map(str, arguments)]
    with subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": str(made / "src")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(lines)
        process.stdin.close()
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    cpu = usage.ru_utime + usage.ru_stime
    if process.returncode:
        return {"crashed": f"ended with {process.returncode}"}, cpu
    return json.loads(said), cpu


def changed_lines(mutant: Mutant, made: Path) -> Iterator[tuple[str, int]]:
    """(file, line) of what the patch has put in, and of what follows a mere removal."""
    for name in re.findall(r"^\+\+\+ b/(.+)$", mutant.patch.read_text(), re.MULTILINE):
        before, after = [(root / name).read_text().splitlines() for root in (ROOT, made)]
        for kind, _, _, low, high in SequenceMatcher(None, before, after, False).get_opcodes():
            if kind != "equal":
                yield from (
                    (str(made / name), line) for line in range(low + 1, max(high, low + 1) + 1)
                )


class Kept:
    """Results of earlier runs, in a file; those of another tree, patch or task do not count."""

    def __init__(self, path: Path | None, task: Sequence[int]) -> None:
        self._path = path
        digest = sha256(repr(task).encode())
        for source in sorted((ROOT / "src").rglob("*.py")):
            digest.update(source.read_bytes())
        self._tree = digest.hexdigest()
        self._results: dict[str, Result] = {}
        if path is not None and path.exists():
            for line in path.read_text().splitlines():
                kept = json.loads(line)
                key = kept.pop("key")
                self._results[key] = Result(**kept)

    def get(self, mutant: Mutant) -> Result | None:
        return self._results.get(self._key(mutant))

    def add(self, mutant: Mutant, result: Result) -> None:
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps({"key": self._key(mutant), **asdict(result)}) + "\n")

    def _key(self, mutant: Mutant) -> str:
        return sha256((self._tree + mutant.patch.read_text()).encode()).hexdigest()[:16]


def hunt_all(
    chosen: Iterable[Mutant], seeds: int, seconds: int, first: int, jobs: int, kept: Kept
) -> Iterator[Result]:
    """In the order in which they are done."""
    with ThreadPoolExecutor(jobs) as pool:
        under_way = {}
        for mutant in chosen:
            known = kept.get(mutant)
            if known is not None:
                yield known
            else:
                under_way[pool.submit(hunt, mutant, seeds, seconds, first)] = mutant
        for done in as_completed(under_way):
            kept.add(under_way[done], done.result())
            yield done.result()


def row(result: Result) -> str:
    said = (result.fault or result.found).replace("\n", " ")[:90]
    tried = f"after {result.seeds}" if result.found_at is not None else f"in {result.seeds}"
    return f"{result.verdict:<9} {tried:<10} {result.cpu_seconds:>4.0f} s  {result.name}  {said}"


def summary(chosen: Sequence[Mutant], results: Sequence[Result], seeds: int) -> Iterator[str]:
    found = sorted(result.seeds for result in results if result.found_at is not None)
    shipped = {mutant.name for mutant in chosen if mutant.was_shipped}
    of_shipped = sum(r.found_at is not None and r.name in shipped for r in results)
    yield (
        f"{len(found)} of {len(results)} found within {seeds} seeds each, "
        f"{of_shipped} of the {len(shipped)} that others shipped"
    )
    if found:
        parts = [f"{sum(n <= most for n in found)} within {most}" for most in (1, 10, 100)]
        yield f"how soon: {', '.join(parts)}; {found[-1]} seeds at most"
    for result in results:
        if result.fault:
            yield f"FAULTY {result.name}: {result.fault}"
        elif result.found_at is None:
            yield f"NOT FOUND {result.name}: a hole in a checker, or a fault missing"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="only these")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="each at most (default: 1000)")
    parser.add_argument(
        "--seconds", type=int, default=SECONDS, help="of faults, per seed (default: 4)"
    )
    parser.add_argument("--first", type=int, default=0, help="seed (default: 0)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--keep", type=Path, help="file for results, to go on later")
    options = parser.parse_args()
    chosen = [m for m in mutants() if not options.names or m.name in options.names]
    if min(options.jobs, options.seeds, options.seconds) < 1:
        parser.error("--jobs, --seeds and --seconds must be at least 1")
    unknown = {*options.names} - {mutant.name for mutant in chosen}
    if unknown:
        parser.error(f"no such mutant: {', '.join(sorted(unknown))}")
    kept = Kept(options.keep, (options.first, options.seeds, options.seconds))
    results, started = [], time.monotonic()
    print(f"{len(chosen)} mutants, {options.seeds} seeds each at most, {options.jobs} at once")
    for result in hunt_all(
        chosen, options.seeds, options.seconds, options.first, options.jobs, kept
    ):
        results.append(result)
        print(f"[{len(results)}/{len(chosen)}] {row(result)}", flush=True)
    for line in summary(chosen, results, options.seeds):
        print(line)
    print(f"{time.monotonic() - started:,.0f} s")
    found = sum(result.found_at is not None for result in results)
    sys.exit(any(result.fault for result in results) or found * 10 < len(results) * 9)


if __name__ == "__main__":
    main()
