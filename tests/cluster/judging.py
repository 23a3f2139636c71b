"""What a run of watchers and lease holders has left behind, and whether a promise was broken.

Watches, leases and writes go to the checkers of the simulator. What the truth is, recorders say
(watches over everything, one at each member): they must agree, leave no revision out, and have
told of every write that was acknowledged.

A lease is judged by the clocks of those that led while it lived, and by when somebody first heard
that its keys are gone. What it may be late by is a second, and the time in which nothing was
acknowledged: then there was no leader, or the whole machine stood still.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from chainfire.proto.watch_pb2 import WatchResponse as Message
from chainfire.sim.check_kv import check_kv
from chainfire.sim.check_lease import LeaseEnd, check_leases
from chainfire.sim.check_watch import check_watches
from chainfire.sim.history import (
    LeaseCall,
    Operation,
    Revision,
    Violation,
    Watch,
    WatchResponse,
)
from tests.cluster.wire import event_of

NS = 1_000_000_000
LATE_NS_MAX = NS
GAP_NS_MIN = NS // 10  # without an acknowledgement: longer ones are added to what may be late
LEASE_KEYS = b"l/"  # then the lease, in hexadecimal, and "/"


@dataclass(slots=True)
class Heard:
    """One watch with what it was told, as it came: a million events take little room so."""

    asked: Watch
    responses: list[list[bytes]] = field(default_factory=list)  # fragments of each

    def watch(self) -> Watch:
        self.asked.responses = [_response(parts) for parts in self.responses]
        return self.asked


def _response(parts: Sequence[bytes]) -> WatchResponse:
    messages = [Message.FromString(part) for part in parts]
    events = tuple(event_of(event) for message in messages for event in message.events)
    last = messages[-1]
    return WatchResponse(0, last.header.revision, events, last.compact_revision)


@dataclass(slots=True, frozen=True)
class Led:
    """Somebody was seen to lead."""

    at: int
    term: int
    rate: float  # of the leader's clock


@dataclass(slots=True)
class Record:
    """Times are of the test's own clock, in ns."""

    operations: list[Operation] = field(default_factory=list)
    ended: list[Heard] = field(default_factory=list)  # watches whose stream ended
    live: list[Heard] = field(default_factory=list)  # those had time to hear of all of it
    feed: dict[int, Revision] = field(default_factory=dict)
    first_heard_at: dict[int, int] = field(default_factory=dict)  # by revision
    lease_calls: list[LeaseCall] = field(default_factory=list)
    alive: list[int] = field(default_factory=list)  # leases that still are, at the end
    acknowledged_at: list[int] = field(default_factory=list)
    led: list[Led] = field(default_factory=list)
    rates: tuple[float, ...] = (1.0,)  # of all members' clocks
    ended_at: int = 0


@dataclass(slots=True)
class Judged:
    revisions: int
    events: int
    leases: int
    punctual: int  # leases whose lateness was judged


def judge(record: Record) -> Judged:
    """What was checked. Raises Violation."""
    feed = [record.feed[main] for main in sorted(record.feed)]
    check_kv(record.operations, feed)
    top = feed[-1].main
    events = check_watches(_watches(record.ended), feed)
    events += check_watches(_watches(record.live), feed, complete_to=top)
    leases, punctual = _check_leases(record, feed)
    return Judged(len(feed), events, leases, punctual)


def _watches(heard: Iterable[Heard]) -> Iterator[Watch]:
    for each in heard:
        yield each.watch()


# ── leases ──────────────────────────────────────────────────────────────────


def _check_leases(record: Record, feed: Iterable[Revision]) -> tuple[int, int]:
    calls: dict[int, list[LeaseCall]] = {}
    for call in record.lease_calls:
        calls.setdefault(call.lease, []).append(call)
    ends = dict(_ends(record, feed))
    judged = punctual = 0
    for lease in sorted(calls):
        end_at = ends.get(lease)
        until = record.ended_at if end_at is None else end_at
        rates = _rates(record, calls[lease][0].call, until)
        was_revoked = any(not call.ttl for call in calls[lease])
        judged += check_leases(
            calls[lease],
            [] if end_at is None else [LeaseEnd(lease, end_at, was_revoked)],
            now=record.ended_at,
            grace=LATE_NS_MAX,
            rate_max=max(rates),
            alive=record.alive,
        )
        if end_at is not None and not was_revoked:
            punctual += _check_punctual(record, lease, calls[lease], end_at, min(rates))
    return judged, punctual


def _ends(record: Record, feed: Iterable[Revision]) -> Iterator[tuple[int, int]]:
    """Each lease that took keys along, and when that was heard of first."""
    for revision in feed:
        if revision.by_lease:
            name = revision.changes[0].kv.key.removeprefix(LEASE_KEYS).split(b"/")[0]
            yield int(name, 16), record.first_heard_at[revision.main]


def _check_punctual(
    record: Record, lease: int, calls: Sequence[LeaseCall], end_at: int, rate_min: float
) -> bool:
    """Whether that could be judged: not where it is unknown until when it was kept."""
    kept = [call for call in calls if call.ok and call.call < end_at]
    if not kept or any(call.ok is None for call in calls):
        return False
    last = max(kept, key=lambda call: call.ret)
    due = min(last.ret, end_at) + int(last.ttl / rate_min)
    late = end_at - due - standstill(record.acknowledged_at, last.call, end_at)
    if late > LATE_NS_MAX:
        raise Violation(f"lease {lease:x} ended {late / NS} s late; kept by {last}")
    return True


def standstill(acknowledged_at: Sequence[int], start: int, end: int) -> int:
    """How long nothing was acknowledged between the two, long gaps added up."""
    low = max(0, bisect_left(acknowledged_at, start) - 1)
    high = min(len(acknowledged_at), bisect_right(acknowledged_at, end) + 1)
    moments = acknowledged_at[low:high]
    gaps = (b - a for a, b in pairwise(moments))
    return sum(gap for gap in gaps if gap > GAP_NS_MIN)


def _rates(record: Record, start: int, end: int) -> Mapping[float, None]:
    """Of the clocks that a lease between the two may have been judged by."""
    led = record.led
    low = max(0, bisect_left(led, start, key=lambda seen: seen.at) - 1)
    high = min(len(led), bisect_right(led, end, key=lambda seen: seen.at) + 1)
    seen = led[low:high]
    terms = {one.term for one in seen}
    if not terms or len(terms) <= max(terms) - min(terms):  # somebody led unseen
        return dict.fromkeys(record.rates)
    return dict.fromkeys(one.rate for one in seen)
