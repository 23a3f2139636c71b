"""Which twin runs here; and the end of every run: what was carried out, what was skipped and why.

Unit tests look into modules and take parts of them out, so in this process the interpreted ones
run, unless CHAINFIRE_TEST_COMPILED=1 (`make test-compiled`) asks for the compiled ones. Processes
that tests start run as a user's would: compiled, where the wheel is of these sources.

With CHAINFIRE_REQUIRE_PEERS=1 (set by .ci/run, which installs the peers) a skip is a failure: what
was installed for a comparison must be compared with. Excused are only the skips named below: what
a machine may refuse whatever is installed on it, and what nobody can install.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import report

EXCUSED = (
    "mounting",  # a small disk for the full-disk tests: not every container may
    "may not mount",
    "root may write everywhere",  # an unwritable directory, tried as root
    "no Raft scripts",  # etcd/raft's own, read where a developer has them; ours are in the tree
)


# Taken out of the environment: Chainfire refuses variables of its prefix that it does not know.
PEERS_REQUIRED = os.environ.pop("CHAINFIRE_REQUIRE_PEERS", "") == "1"
COMPILED = os.environ.pop("CHAINFIRE_TEST_COMPILED", "") == "1"

if not COMPILED:
    os.environ["CHAINFIRE_PURE"] = "1"

import chainfire.compiled  # noqa: E402

os.environ.pop("CHAINFIRE_PURE", None)

# No test fails on a duration: not on that of an example either.
settings.register_profile("chainfire", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("chainfire")


def pytest_configure(config: pytest.Config) -> None:
    if COMPILED and chainfire.compiled.FAULT is not None:
        reason = f"nothing is compiled here: {chainfire.compiled.FAULT}"
        pytest.exit(reason, returncode=int(PEERS_REQUIRED))


def reason_of(skipped: pytest.TestReport | pytest.CollectReport) -> str:
    if isinstance(skipped.longrepr, tuple):
        return skipped.longrepr[2].removeprefix("Skipped: ")
    return str(skipped.longrepr)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport]:
    result = yield
    _forbid_skip(result)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport]:
    result = yield
    _forbid_skip(result)
    return result


def _forbid_skip(result: pytest.TestReport | pytest.CollectReport) -> None:
    if not result.skipped or hasattr(result, "wasxfail") or not PEERS_REQUIRED:
        return
    reason = reason_of(result)
    if not reason.startswith(EXCUSED):
        result.outcome = "failed"
        result.longrepr = f"skipped where nothing may be skipped: {reason}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    ran = [
        result
        for outcome in ("passed", "failed")
        for result in terminalreporter.getreports(outcome)
        if isinstance(result, pytest.TestReport) and result.when == "call"
    ]
    files = Counter(Path(result.nodeid.split("::")[0]).parent.as_posix() for result in ran)
    terminalreporter.section("what ran")
    suites = ", ".join(f"{suite} ({cases})" for suite, cases in sorted(files.items()))
    terminalreporter.line(f"{len(ran):>10,}  cases")
    terminalreporter.line(f"{len(files):>10,}  suites: {suites}")
    for line in report.lines():
        terminalreporter.line(line)
    skipped = Counter(reason_of(result) for result in terminalreporter.getreports("skipped"))
    terminalreporter.line(f"{skipped.total():>10,}  skipped")
    for reason, times in sorted(skipped.items()):
        terminalreporter.line(f"{times:>10,}    skipped: {reason}")
