"""Who is first in the order of creation: found without a walk, and the same as by one."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainfire.mvcc import later, lines, read, rows
from chainfire.mvcc.lines import KEYS_MIN, LINES_MAX, Lines, Walk, taken
from chainfire.mvcc.ranges import Bounds
from chainfire.mvcc.read import range_steps, run
from chainfire.mvcc.syntax import check_txn
from chainfire.proto.kv_pb2 import (
    Compare,
    DeleteRangeRequest,
    KeyValue,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
)
from chainfire.types import LongRange, RangeResult, TxnResult
from tests import report
from tests.mvcc.strategies import aged, deletes, firsts, plain_puts, touches
from tests.mvcc.test_count import Counting
from tests.mvcc.test_store_machine import outcome, promises
from tests.mvcc.twin import Twin
from tests.mvcc.world import World, delete, put

# ── what is remembered ──────────────────────────────────────────────────────

NAMES = st.integers(0, 30).map(lambda number: b"%02d" % number)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["toggle", "toggle", "toggle", "turn", "begin", "finish", "walk", "clear"]),
        NAMES,
        st.sampled_from([(b"00", b"99"), (b"05", b"25"), (b"10", b"12")]),
    ),
    max_size=60,
)


def row_of(key: bytes, created: int) -> bytes:
    return rows.key_value_row(0, key, created, rows.mod_field(created), 1, b"", 0)


@settings(max_examples=300)
@given(st.sampled_from([600, 2000, 1 << 20]), st.sampled_from([0, 3]), STEPS)
def test_a_line_that_is_known_is_what_there_is(
    bytes_max: int,
    keys_min: int,
    steps: list,  # type: ignore[type-arg]
) -> None:
    revision = 2
    live: dict[bytes, int] = {}
    known = Lines(keys_min, bytes_max)
    walks: list[tuple[Walk, lines.Order]] = []

    def order(bounds: Bounds) -> lines.Order:
        return sorted((c, key) for key, c in live.items() if bounds.lower <= key < bounds.upper)

    for what, name, (lower, upper) in steps:
        bounds = Bounds(b"", lower, upper)
        match what:
            case "toggle" if name in live:
                del live[name]
                known.deleted(name)
            case "toggle":
                live[name] = revision
                known.created(name, row_of(name, revision))
            case "turn":
                revision += 1
            case "begin":
                walks.append((known.begin(bounds), order(bounds)))
                assert known.is_walked(bounds)
            case "finish" if walks:
                known.finish(*walks.pop(int(name) % len(walks)))
            case "walk":
                known.finish(known.begin(bounds), order(bounds))
                assert not known.is_walked(bounds)
            case "clear" if name < b"03":
                known.clear()
        found = known.find(bounds)
        assert found is None or found == order(bounds)
        report.count("lines looked at that were known", found is not None)
        assert known._bytes == sum(line.size for line in known._looking) <= bytes_max


@given(
    st.lists(st.tuples(st.integers(2, 6), NAMES), unique_by=lambda one: one[1]).map(sorted),
    st.integers(1, 5),
    st.booleans(),
    st.integers(-1, 7),
    st.integers(-1, 7),
)
def test_the_first_ones_are_taken_from_either_end(
    order: lines.Order, limit: int, descending: bool, lowest: int, highest: int
) -> None:
    passing = [
        (created, key)
        for created, key in order
        if (not lowest or created >= lowest) and (not highest or created <= highest)
    ]
    passing.sort(key=lambda one: one[0], reverse=descending)
    found = [key for _, key in passing[:limit]]
    assert taken(order, limit, descending, lowest, highest) == (found, len(passing) > limit)


def test_lines_and_walks_are_few_and_small_ones_are_none() -> None:
    known = Lines(keys_min=2)
    for number in range(100):
        bounds = Bounds(b"", b"%03d" % number, b"9")
        known.begin(bounds)
        known.finish(known.begin(bounds), [(2, b"%03d" % number), (2, b"8")])
        known.begin(Bounds(b"x", b"%03d" % number, b"9"))
    assert len(known._known) == len(known._walked) == LINES_MAX
    assert known.find(bounds) is not None
    known.finish(known.begin(bounds), [(2, b"8")])
    assert not known.is_walked(bounds)


def test_who_is_asked_for_stays_when_others_come() -> None:
    known = Lines(keys_min=0)
    asked = Bounds(b"", b"a", b"z")
    known.finish(known.begin(asked), [])
    for number in range(100):
        assert known.find(asked) is not None
        known.finish(known.begin(Bounds(b"", b"%03d" % number, b"9")), [])


# ── what ranges answer ──────────────────────────────────────────────────────


def filled(count: int) -> World:
    world = World()
    for number in range(count):
        world.do(lambda w, n=number: w.writer().put(name(n), b"v"), flush=False)
    world.flush()
    return world


def name(number: int) -> bytes:
    """Not in the order of creation."""
    return b"l/%04d" % (number * 7919 % 10_000)


OLDEST = RangeRequest(
    key=b"l/",
    range_end=b"l0",
    sort_target=RangeRequest.CREATE,
    sort_order=RangeRequest.ASCEND,
    limit=1,
)


def entering(key: bytes) -> TxnRequest:
    """As etcd's client enters a lock's line."""
    oldest = RequestOp(request_range=OLDEST)
    return TxnRequest(
        compare=[Compare(key=key, target=Compare.CREATE)],
        success=[RequestOp(request_put=PutRequest(key=key)), oldest],
        failure=[RequestOp(request_range=RangeRequest(key=key)), oldest],
    )


def waiting(created: int) -> RangeRequest:
    """As it looks for who is right before it."""
    request = RangeRequest(max_create_revision=created - 1)
    request.MergeFrom(OLDEST)
    request.sort_order = RangeRequest.DESCEND
    return request


def keys_of(result: Any) -> list[bytes]:
    assert isinstance(result, RangeResult)
    return [KeyValue.FromString(row).key for row in result.rows]


reading = st.builds(
    TxnRequest,
    success=st.lists(
        st.one_of(
            st.builds(RequestOp, request_put=plain_puts),
            st.builds(RequestOp, request_delete_range=deletes),
            st.builds(RequestOp, request_range=firsts),
            st.builds(RequestOp, request_range=firsts),
        ),
        min_size=2,
        max_size=6,
    ),
)
requests = st.lists(
    st.one_of(plain_puts, touches, deletes, reading, reading, firsts, firsts, st.integers(0, 9)),
    min_size=15,
    max_size=50,
)


@settings(max_examples=300)
@given(requests, st.sampled_from([0, 40, 1000]), st.booleans(), st.integers(1, 3))
def test_whatever_is_written_in_between_they_are_the_same_as_by_a_walk(
    requests: list[Any], at_once: int, flush: bool, rows_per_slice: int
) -> None:
    """A number begins a walk in slices, or ends that one of those which have begun."""
    world, twin = World(), Twin()
    world.store.lines = Lines(keys_min=1, bytes_max=4000)
    walks: list[tuple[Any, RangeResult]] = []
    promised: list[tuple[LongRange, RangeResult]] = []
    last = OLDEST

    def steps(request: RangeRequest) -> Any:
        world.flush()  # reads from outside come between turns
        return range_steps(world.backend, world.store, 0, request, rows_per_slice=rows_per_slice)

    for request in requests:
        match request:
            case PutRequest():
                ours = outcome(
                    lambda r=request: world.do(lambda w: put(w.writer(), r), flush=flush)
                )
                assert ours == outcome(lambda r=request: twin.put(r))
            case DeleteRangeRequest():
                ours = world.do(lambda w, r=request: delete(w.writer(), r), flush=flush)
                assert ours == twin.delete_range(request)
            case TxnRequest():
                if outcome(lambda r=request: check_txn(r, 128)) is not None:
                    continue
                for op in request.success:
                    if op.HasField("request_range"):
                        op.request_range.CopyFrom(aged(op.request_range, twin.revision))
                with mock.patch.object(later, "ROWS_AT_ONCE", at_once):
                    txn = lambda w, r=request: w.writer().txn(r)  # noqa: E731
                    ours = outcome(lambda t=txn: world.do(t, flush=flush))
                theirs = outcome(lambda r=request: twin.txn(r))
                if isinstance(theirs, TxnResult):
                    promised += promises(ours, theirs)
                assert ours == theirs
            case RangeRequest():
                last = aged(request, twin.revision)
                ours = outcome(lambda r=last: run(steps(r)))
                assert ours == outcome(lambda r=last: twin.range(r))
                if isinstance(ours, type):
                    last = OLDEST
            case number if number % 2 or not walks + promised:
                walk, expected = steps(last), twin.range(last)
                if next(walk, "end") is None:
                    walks.append((walk, expected))
                    report.count("walks along a line that were interrupted", 1)
            case number if walks:
                world.flush()
                walk, expected = walks.pop(number % len(walks))
                assert run(walk) == expected
            case number:
                world.flush()
                long_range, expected = promised[number % len(promised)]
                assert run(long_range.read()) == expected, "or, the second time, once more"


@pytest.mark.interpreted
def test_a_crowd_enters_a_line_without_walking_along_it() -> None:
    """Or a thousand of them would be a turn of a second."""
    count, revisions = 300, []
    world = World()
    with mock.patch.object(read, "_all", side_effect=read._all) as walks:
        for number in range(count):
            result = world.do(lambda w, n=number: w.writer().txn(entering(name(n))), flush=False)
            assert keys_of(result.results[1]) == [name(0)]
            assert result.results[1].count == number + 1
            revisions.append(result.revision)
    assert walks.call_count <= KEYS_MIN
    world.flush()
    view = Counting(world.backend)
    for number in range(count):
        before = run(range_steps(view, world.store, 0, waiting(revisions[number])))
        assert keys_of(before) == ([name(number - 1)] if number else [])
    assert view.rows_read == 0, "all of them are in the row cache"
    for number in range(count - 1):
        world.delete(name(number))
        oldest = run(range_steps(view, world.store, 0, OLDEST))
        assert (keys_of(oldest), oldest.count) == ([name(number + 1)], count - number - 1)
    assert view.rows_read == 0


def test_it_knows_nothing_after_a_restart_and_walks_once() -> None:
    world = filled(200)
    assert keys_of(run(range_steps(world.backend, world.store, 0, OLDEST))) == [name(0)]
    world.restart()
    world.delete(name(0))
    view = Counting(world.backend)
    for _ in range(5):
        assert keys_of(run(range_steps(view, world.store, 0, OLDEST))) == [name(1)]
    assert 199 <= view.rows_read <= 199 + 5


@pytest.mark.interpreted
def test_of_those_who_enter_a_long_line_that_nobody_knows_one_walks_at_once() -> None:
    """The others are answered later, and with the first answer the line is known."""
    count = later.ROWS_AT_ONCE + 500
    world = filled(count)
    with mock.patch.object(read, "_all", side_effect=read._all) as walks:
        results = [
            world.do(lambda w, n=n: w.writer().txn(entering(name(n))), flush=False).results[1]
            for n in range(count, count + 10)
        ]
    assert walks.call_count == 1
    world.flush()
    assert all(isinstance(one, LongRange) for one in results)
    world.delete(name(0))
    found = run(results[3].read())
    assert (keys_of(found), found.count) == ([name(0)], count + 4)
    (_, known) = world.txn(entering(name(count + 10))).results
    assert (keys_of(known), known.count) == ([name(1)], count + 10)
    assert run(results[3].read()) == found, "it may be read again"
    found = run(results[9].read())
    assert (keys_of(found), found.count) == ([name(0)], count + 10)


@pytest.mark.interpreted
def test_a_range_of_too_many_keys_is_no_line_and_not_walked_again_and_again() -> None:
    world = filled(later.ROWS_AT_ONCE + 500)
    with mock.patch.object(read, "ORDER_MAX", 1000):
        assert keys_of(run(range_steps(world.backend, world.store, 0, OLDEST))) == [name(0)]
        with mock.patch.object(read, "_all") as walks:
            (_, found) = world.txn(entering(b"l/x")).results
        walks.assert_not_called()
        assert isinstance(found, LongRange)
        assert keys_of(run(found.read())) == [name(0)]
