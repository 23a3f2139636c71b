"""The campaign of faults in small, and its judge held against lies.

The whole is `make faults RUNS=…` (docs/verification.md says what it has shown).
"""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from chainfire.sim.history import Change, Kv, Revision, Violation
from tests import report
from tests.faults.__main__ import PLANTED_IN, ROOT, TRUE, canary
from tests.faults.clients import LockHeld
from tests.faults.crashing import POINTS
from tests.faults.judge import check_locks
from tests.faults.scene import run
from tests.faults.shim import library
from tests.peers import need_chainfire


def put(main: int, key: bytes) -> Revision:
    return Revision(main, (Change(Kv(key, b"v", main, main, 1)),))


def deleted(main: int, key: bytes) -> Revision:
    return Revision(main, (Change(Kv(key, b"", 0, main, 0), deleted=True),))


LINE = [put(2, b"l/a"), put(3, b"l/b"), put(4, b"other/c"), deleted(5, b"l/a")]


def test_the_first_in_line_may_hold_the_lock() -> None:
    check_locks([LockHeld(b"l", b"l/a", 2), LockHeld(b"l", b"l/b", 5)], LINE)


@pytest.mark.parametrize(
    "lie",
    [
        LockHeld(b"l", b"l/b", 4),  # another one is before it
        LockHeld(b"l", b"l/a", 5),  # gone
        LockHeld(b"l", b"l/a", 9),  # the revision never was
    ],
)
def test_a_lock_that_is_not_theirs_is_found_out(lie: LockHeld) -> None:
    with pytest.raises(Violation):
        check_locks([lie], LINE)


def need_compiler() -> None:
    if library() is None:
        pytest.skip("no C compiler: disks and clocks cannot be made to fail")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("fault", ["kill", "slow_sync"])
def test_a_run_keeps_every_promise(tmp_path: Path, fault: str) -> None:
    need_compiler()
    verdict = run(need_chainfire(), tmp_path, 1, door="auto", only=fault)
    assert verdict.passed, verdict
    report.count("requests judged under real faults", verdict.operations)


def test_the_bug_of_the_canary_still_has_its_place() -> None:
    assert (ROOT / PLANTED_IN).read_text().count(TRUE) == 1


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_planted_bug_is_found() -> None:
    need_compiler()
    assert canary(need_chainfire(), "auto")


@pytest.mark.parametrize("point", sorted(POINTS))
def test_a_crash_point_names_what_is_there(point: str) -> None:
    module, _, path = POINTS[point].where.partition(":")
    owner = importlib.import_module(module)
    for name in path.split("."):
        owner = getattr(owner, name)
    assert callable(owner)
