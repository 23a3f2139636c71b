"""What a lease promises: never early, late by a bounded time, and then gone for everybody.

A renewal counts from its call: the member may have read its clock at any
moment up to the answer. `rate_max` is how much faster than the true time the
fastest clock ran, `rate_min` the slowest, `jumps` when and by how much some
clock was set forward. Times are those of the history; no lease id is granted
twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from chainfire.sim.history import NEVER, LeaseCall, Violation


@dataclass(slots=True)
class LeaseEnd:
    """A lease was ended by the cluster at the moment `at` (its revoke was applied first)."""

    lease: int
    at: int
    revoked: bool = False  # a client asked for it; then it may be early


@dataclass(slots=True)
class _Life:
    calls: list[LeaseCall] = field(default_factory=list)
    ends: list[LeaseEnd] = field(default_factory=list)


def check_leases(
    calls: Iterable[LeaseCall],
    ends: Iterable[LeaseEnd],
    *,
    now: int,
    grace: int,
    rate_max: float = 1.0,
    rate_min: float = 1.0,
    jumps: Sequence[tuple[int, int]] = (),
    alive: Sequence[int] = (),
    settled_at: int = NEVER,
) -> int:
    """The number of leases that were checked. Raises Violation.

    `alive` are the leases that exist at `now`, the end of the history; one
    whose time was over for more than `grace` should not be among them. From `settled_at` on one
    leader led, and nothing went wrong: by then no lease had more than its TTL left, and those that
    ended later did so at most `grace` after that.
    """
    lives: dict[int, _Life] = defaultdict(_Life)
    for call in calls:
        lives[call.lease].calls.append(call)
    for end in ends:
        lives[end.lease].ends.append(end)
    for lease in sorted(lives):
        _check_early(lease, lives[lease], rate_max, jumps)
        _check(lease, lives[lease], now, grace, lease in alive)
        _check_late(lease, lives[lease], settled_at, grace, rate_min)
    return len(lives)


def _check_early(
    lease: int, life: _Life, rate_max: float, jumps: Sequence[tuple[int, int]]
) -> None:
    for end in life.ends:
        for call in life.calls:
            if end.revoked or not (call.ok and call.ttl) or call.ret >= end.at:
                continue
            jumped = sum(by for at, by in jumps if call.call <= at <= end.at)
            ends = call.call + int((call.ttl - jumped) / rate_max)
            if end.at < ends:
                raise Violation(f"lease {lease} ended at {end.at}, {call} had it until {ends}")


def _check_late(lease: int, life: _Life, settled_at: int, grace: int, rate_min: float) -> None:
    asked = [call for call in life.calls if call.ok is not False and call.ttl]
    if not life.ends or not asked or life.ends[0].at <= settled_at:
        return
    latest = max(
        max(settled_at, call.ret if call.ok else call.call) + int(call.ttl / rate_min)
        for call in asked
    )
    if life.ends[0].at > latest + grace:
        raise Violation(f"lease {lease} ended at {life.ends[0].at}, its time was over at {latest}")


def _check(lease: int, life: _Life, now: int, grace: int, alive: bool) -> None:
    if len(life.ends) > 1:
        raise Violation(f"lease {lease} ended twice: {life.ends}")
    end_at = life.ends[0].at if life.ends else None
    kept = [call for call in life.calls if call.ok and call.ttl]
    if end_at is not None:
        for call in kept:
            if call.call > end_at:
                raise Violation(f"lease {lease} ended at {end_at} and answered {call}")
    elif alive and life.calls:
        # Whatever may have been carried out counts here, answered or not.
        latest = max(min(call.ret, now) + call.ttl for call in life.calls if call.ok is not False)
        if now > latest + grace:
            raise Violation(f"lease {lease} is alive at {now}, its time was over at {latest}")
