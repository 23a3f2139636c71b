"""Auto-compaction decides as etcd's two modes do; the clock is moved by hand."""

from __future__ import annotations

from chainfire.node.autocompact import ByRevision, Periodic

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS


def run(
    compactor: Periodic | ByRevision, minutes: int, revisions_per_minute: int
) -> dict[int, int]:
    """{minute: target} when a minute passes at a time and the revision grows steadily."""
    decided = {}
    for minute in range(minutes + 1):
        target = compactor.due(minute * MINUTE_MS, 1 + minute * revisions_per_minute)
        if target is not None:
            decided[minute] = target
    return decided


def test_periodic_keeps_one_period_and_compacts_once_per_period() -> None:
    assert run(Periodic(10 * MINUTE_MS), 35, 100) == {10: 1, 20: 1001, 30: 2001}


def test_periodic_over_an_hour_compacts_every_hour() -> None:
    decided = run(Periodic(2 * HOUR_MS), 5 * 60, 1)
    assert decided == {120: 1, 180: 61, 240: 121, 300: 181}


def test_periodic_is_silent_when_nothing_was_written() -> None:
    assert run(Periodic(10 * MINUTE_MS), 60, 0) == {10: 1}


def test_by_revision_keeps_the_newest_every_five_minutes() -> None:
    assert run(ByRevision(1000), 20, 300) == {5: 501, 10: 2001, 15: 3501, 20: 5001}


def test_by_revision_never_goes_below_the_first_revision() -> None:
    assert run(ByRevision(1000), 10, 10) == {}
