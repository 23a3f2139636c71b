"""`python -m tests.fuzz`: each target under a coverage-guided fuzzer (atheris) for a while.

    make fuzz ARGS="--seconds 60 frame record"

A target runs in a process of its own, from its seeds. What it found is printed
with the input, which goes into seeds.py as a regression once it is mended.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from chainfire.compiled import PURE_VARIABLE


def main() -> int:
    options = _options()
    if options.one is not None:
        return _fuzz(options.one, options.seconds, Path(options.corpus))
    failed = []
    for name in options.targets or _names():
        with TemporaryDirectory(prefix="fuzz-") as corpus:
            command = [sys.executable, "-m", "tests.fuzz", f"--one={name}", f"--corpus={corpus}"]
            done = subprocess.run(
                [*command, f"--seconds={options.seconds}"],
                capture_output=True,
                text=True,
                check=False,
                timeout=options.seconds * 3 + 120,
                env={**os.environ, PURE_VARIABLE: "1"},  # of what is compiled nobody sees branches
            )
        inputs, branches = _figures(done.stderr)
        print(f"{name:18} {inputs:>12,} inputs  {branches:>6,} branches", end="  ", flush=True)
        print("ok" if done.returncode == 0 else "FAILED", flush=True)
        if done.returncode:
            failed.append(name)
            print(done.stdout[-2000:] + done.stderr[-4000:], flush=True)
    print(f"{len(failed)} targets failed{': ' if failed else ''}{', '.join(failed)}")
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("targets", nargs="*", help="default: all")
    parser.add_argument("--seconds", type=int, default=30, help="for each target (default: 30)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--corpus", help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = {*options.targets} - {*_names()}
    if unknown:
        parser.error(
            f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(_names())}"
        )
    if options.seconds < 1:
        parser.error("--seconds must be at least 1")
    return options


def _names() -> list[str]:
    from tests.fuzz.targets import TARGETS

    return sorted(TARGETS)


def _figures(log: str) -> tuple[int, int]:
    """Inputs run and branches seen, of libFuzzer's last status line."""
    lines = re.findall(r"^#(\d+)\s.*?cov: (\d+)", log, re.MULTILINE)
    done = re.findall(r"Done (\d+) runs", log)
    inputs = int(done[-1]) if done else int(lines[-1][0]) if lines else 0
    return inputs, int(lines[-1][1]) if lines else 0


def _fuzz(name: str, seconds: int, corpus: Path) -> int:
    import atheris

    with atheris.instrument_imports(include=["chainfire"], enable_loader_override=False):
        from tests.fuzz.seeds import SEEDS
        from tests.fuzz.targets import TARGETS
    for number, seed in enumerate(SEEDS[name]):
        (corpus / f"seed-{number}").write_bytes(seed)
    limits = [f"-max_total_time={seconds}", "-max_len=4096", f"-artifact_prefix={corpus}/"]
    atheris.Setup([sys.argv[0], *limits, str(corpus)], TARGETS[name])
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
