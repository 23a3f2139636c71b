"""Leases end neither early nor, beyond the grace, late; an ended one answers nobody."""

from __future__ import annotations

import pytest

from chainfire.sim.check_lease import LeaseEnd, check_leases
from chainfire.sim.history import LeaseCall, Violation
from tests import report

GRANT = LeaseCall(7, 0, 10, 1000, True)
RENEWAL = LeaseCall(7, 500, 510, 1000, True)


def check(calls: list[LeaseCall], ends: list[LeaseEnd], **more: object) -> None:
    check_leases(calls, ends, now=5000, grace=100, **more)  # type: ignore[arg-type]
    report.count("leases checked")


def test_right_lives_pass() -> None:
    check([GRANT], [LeaseEnd(7, 1000)])
    check([GRANT, RENEWAL], [LeaseEnd(7, 1600)])
    check([GRANT], [LeaseEnd(7, 200, revoked=True)])
    check([GRANT], [LeaseEnd(7, 800)], rate_max=1.25)
    check([GRANT], [LeaseEnd(7, 800)], jumps=[(300, 200)])
    check([GRANT, LeaseCall(7, 4000, 4010, 1000, True)], [], alive=[7])
    lost = LeaseCall(7, 700, ttl=1000)
    check([GRANT, lost], [LeaseEnd(7, 1000)])
    check([GRANT], [LeaseEnd(7, 2300)])  # nobody led, maybe
    check([GRANT], [LeaseEnd(7, 2300)], settled_at=1200)
    check([GRANT], [LeaseEnd(7, 2300)], settled_at=2300)
    check([GRANT], [LeaseEnd(7, 1300)], settled_at=5, rate_min=0.8)
    check([GRANT, lost], [LeaseEnd(7, 1800)], settled_at=5)


@pytest.mark.parametrize(
    ("calls", "ends", "alive"),
    [
        ([GRANT], [LeaseEnd(7, 999)], []),
        ([GRANT, RENEWAL], [LeaseEnd(7, 1200)], []),
        ([GRANT, LeaseCall(7, 2000, 2010, 1000, True)], [LeaseEnd(7, 1500)], []),
        ([GRANT, RENEWAL], [], [7]),
        ([GRANT], [LeaseEnd(7, 1100), LeaseEnd(7, 1200)], []),
    ],
    ids=["early", "early after a renewal", "renewed when dead", "immortal", "twice"],
)
def test_wrong_lives_are_found(
    calls: list[LeaseCall], ends: list[LeaseEnd], alive: list[int]
) -> None:
    with pytest.raises(Violation):
        check(calls, ends, alive=alive)
    report.count("planted violations found by checkers")


def test_who_ends_late_although_nothing_went_wrong_is_found() -> None:
    for settled_at in (5, 1100):
        with pytest.raises(Violation, match="its time was over"):
            check([GRANT, RENEWAL], [LeaseEnd(7, 2300)], settled_at=settled_at)


def test_a_jump_of_a_clock_excuses_no_other_end() -> None:
    for jump in ((300, 100), (900, 200)):
        with pytest.raises(Violation):
            check([GRANT], [LeaseEnd(7, 800)], jumps=[jump])
