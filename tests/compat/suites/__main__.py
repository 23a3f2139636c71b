"""Run the suites against a real etcd and against Chainfire, and compare test by test.

    python -m tests.compat.suites [name…]

A test that passes with etcd must pass here, unless the table says what it waits
for. What differs is tried once more on both, because some suites race with the
clock. Exit code 1: something differs still.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.compat.suites.pifpaf import Pifpaf
from tests.compat.suites.table import SUITES, Suite
from tests.servers import ROOT, Kind, Server, chainfire, etcds

ENVIRONMENTS = ROOT / ".venv" / "suites"
SUITE_SECONDS = 900
Outcomes = dict[str, str]  # test → passed, failed or skipped


def main() -> int:
    names = [suite.name for suite in SUITES]
    parser = argparse.ArgumentParser(prog="python -m tests.compat.suites", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*names, []], help="default: all")
    parser.add_argument("--only-ours", action="store_true", help="leave the real etcd out")
    arguments = parser.parse_args()
    wanted = [suite for suite in SUITES if not arguments.names or suite.name in arguments.names]
    theirs = None if arguments.only_ours else next(iter(etcds()), None)
    ours = chainfire()
    assert ours is not None
    return 1 if sum([differs(suite, ours, theirs) for suite in wanted]) else 0


def differs(suite: Suite, ours: Kind, theirs: Kind | None) -> bool:
    """Run a suite on both and print what came of it."""
    prepare(suite)
    expected = run(suite, theirs) if theirs is not None else {}
    found = run(suite, ours)
    worse = _worse(suite, expected or dict.fromkeys(found, "passed"), found)
    if worse and theirs is not None:
        expected |= run(suite, theirs, worse)
        found |= run(suite, ours, worse)
        worse = _worse(suite, expected, found)
    for kind, outcomes in ((theirs, expected), (ours, found)):
        if kind is not None:
            print(f"{suite.title:16} {kind.name:12} {_counts(outcomes)}", flush=True)
    for test in worse:
        print(f"    {test}: {expected.get(test, '?')}, here {found.get(test, 'missing')}")
    for test in sorted(t for t, outcome in expected.items() if outcome == "failed"):
        print(f"    {test} fails with etcd, too")
    waiting = sorted(test for test in suite.waits if found.get(test) != "passed")
    for test in waiting:
        print(f"    {test} waits for {suite.waits[test]}")
    return bool(worse)


def _worse(suite: Suite, expected: Outcomes, found: Outcomes) -> list[str]:
    return [
        test
        for test, outcome in expected.items()
        if outcome != "failed" and found.get(test) != outcome and test not in suite.waits
    ]


def _counts(outcomes: Outcomes) -> str:
    counted = Counter(outcomes.values())
    return ", ".join(f"{counted[what]} {what}" for what in ("passed", "failed", "skipped"))


# ── running ─────────────────────────────────────────────────────────────────


def prepare(suite: Suite) -> None:
    """The suite's environment, as the table has it. A second call does nothing."""
    directory = ENVIRONMENTS / suite.name
    stamp = directory / "complete"
    wanted = "\n".join(suite.requirements)
    if stamp.exists() and stamp.read_text() == wanted:
        return
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(directory)], check=True)
    pip = [str(directory / "bin/python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", *suite.requirements], check=True)
    if suite.in_sdist:
        package = f"{suite.name}=={suite.version}"
        options = ["--no-deps", f"--no-binary={suite.name}", f"--dest={directory}"]
        subprocess.run([*pip, "download", *options, package], check=True)
        with tarfile.open(_only(directory, "*.tar.gz")) as archive:
            archive.extractall(directory / "source", filter="data")
    stamp.write_text(wanted)


def run(suite: Suite, kind: Kind, only: list[str] | None = None) -> Outcomes:
    """The outcome of every test (or of `only` some) on a fresh server."""
    directory = ENVIRONMENTS / suite.name
    with tempfile.TemporaryDirectory(prefix="chainfire-suite-") as scratch:
        here = Path(scratch)
        if suite.conftest:
            (here / "conftest.py").write_text(suite.conftest)
        with _serving(suite, kind, here) as server:
            report = here / "report.xml"
            command = [
                *(str(directory / "bin/python"), "-m", "pytest", "-q"),
                *("-p", "no:cacheprovider", "-o", "addopts=", f"--junitxml={report}"),
                *_selection(suite, directory, here),
            ]
            if only is not None:
                command += ["-k", " or ".join({test.rpartition("::")[2] for test in only})]
            done = subprocess.run(
                command,
                cwd=here,
                env=_environment(suite, server),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=SUITE_SECONDS,
                check=False,
            )
            if not report.exists():
                raise SystemExit(f"{suite.title} did not run:\n{done.stdout[-3000:]}")
            return _outcomes(report)


@contextmanager
def _serving(suite: Suite, kind: Kind, here: Path) -> Iterator[Server]:
    """The server that the suite is told of."""
    if suite.wants_three:
        with Pifpaf(kind, here) as cluster:
            yield cluster.start().members[0]
    else:
        with Server(kind, here / "data") as server:
            yield server


def _selection(suite: Suite, directory: Path, here: Path) -> list[str]:
    if not suite.in_sdist:
        return ["--pyargs", *suite.tests]
    source = _only(directory / "source", "*")
    if suite.conftest:
        return [f"--rootdir={here}", f"--confcutdir={here}", *_linked(source, suite, here)]
    (here / "tests").symlink_to(source / "tests")  # they open files below it
    return [f"--rootdir={source}", f"-c{_config(source)}", *(str(source / t) for t in suite.tests)]


def _linked(source: Path, suite: Suite, here: Path) -> list[str]:
    """The tests beside our conftest.py, so that it is theirs."""
    for name in suite.tests:
        (here / name).symlink_to(source / name)
    return ["-o", "asyncio_mode=auto", *suite.tests]


def _config(source: Path) -> Path:
    return next(
        path for name in ("pyproject.toml", "setup.cfg") if (path := source / name).exists()
    )


def _environment(suite: Suite, server: Server) -> dict[str, str]:
    given = {
        name: value.format(target=server.target, port=server.port)
        for name, value in suite.environment.items()
    }
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **given}


def _outcomes(report: Path) -> Outcomes:
    found = {}
    for case in ET.parse(report).iter("testcase"):
        kinds = {child.tag for child in case}
        outcome = "skipped" if "skipped" in kinds else "passed"
        if kinds & {"failure", "error"}:
            outcome = "failed"
        found[f"{case.get('classname')}::{case.get('name')}"] = outcome
    return found


def _only(directory: Path, pattern: str) -> Path:
    (path,) = directory.glob(pattern)
    return path


if __name__ == "__main__":
    sys.exit(main())
