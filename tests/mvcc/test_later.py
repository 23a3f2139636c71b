"""Long ranges of transactions: read later, they find what they would have found at once."""

from __future__ import annotations

from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from chainfire.mvcc import later
from chainfire.mvcc.read import range_steps, run
from chainfire.mvcc.syntax import check_txn
from chainfire.proto.kv_pb2 import KeyValue, PutRequest, RangeRequest, RequestOp, TxnRequest
from chainfire.types import LongRange, RangeResult
from tests import report
from tests.mvcc.strategies import aged, deletes, plain_puts, reading_txns
from tests.mvcc.test_count import Counting, name
from tests.mvcc.test_store_machine import outcome, promises
from tests.mvcc.twin import Twin
from tests.mvcc.world import World, delete, put

EVERYTHING = RangeRequest(key=b"k", range_end=b"l")
writes = st.lists(st.one_of(plain_puts, plain_puts, deletes), max_size=12)


def carry_out(worlds: tuple[World, Twin], requests: list[Any], flush: bool) -> None:
    world, twin = worlds
    for request in requests:
        if isinstance(request, PutRequest):
            world.do(lambda w, r=request: put(w.writer(), r), flush=flush)
            twin.put(request)
        else:
            world.do(lambda w, r=request: delete(w.writer(), r), flush=flush)
            twin.delete_range(request)


@settings(max_examples=150)
@given(
    writes, writes, st.integers(-3, 8), reading_txns, st.integers(0, 1), writes, st.integers(0, 8)
)
def test_it_finds_what_the_transaction_saw(
    written: list[Any],
    staged: list[Any],
    compacted_back: int,
    txn: TxnRequest,
    at_once: int,
    written_after: list[Any],
    compacted_after: int,
) -> None:
    world, twin = World(), Twin()
    carry_out((world, twin), written, flush=True)
    carry_out((world, twin), staged, flush=False)
    for op in txn.success:
        if op.HasField("request_range"):
            op.request_range.CopyFrom(aged(op.request_range, twin.revision))
    if outcome(lambda: check_txn(txn, 128)) is not None:
        return
    with mock.patch.object(later, "ROWS_AT_ONCE", at_once):
        ours = outcome(lambda: world.do(lambda w: w.writer().txn(txn), flush=False))
    theirs = outcome(lambda: twin.txn(txn))
    promised = [] if isinstance(theirs, type) else promises(ours, theirs)
    assert ours == theirs
    carry_out((world, twin), written_after, flush=False)
    world.flush()
    compacted = world.store.revision - compacted_after
    if outcome(lambda: world.compact(compacted)) is None:
        world.remove_compacted()
    for long_range, expected in promised:
        assert run(long_range.read()) == expected
        report.count("long ranges read later", 1)


def filled(count: int) -> World:
    world = World()
    for number in range(count):
        world.do(lambda w, n=number: w.writer().put(name(n), b"old"), flush=False)
    world.flush()
    return world


def txn_of(*ops: PutRequest | RangeRequest) -> TxnRequest:
    return TxnRequest(
        success=[
            RequestOp(request_put=op) if isinstance(op, PutRequest) else RequestOp(request_range=op)
            for op in ops
        ]
    )


def test_few_rows_are_read_at_once_and_many_in_slices_later() -> None:
    world = filled(later.ROWS_AT_ONCE + 1)
    few, many = world.txn(txn_of(RangeRequest(key=b"k", range_end=name(9)), EVERYTHING)).results
    assert isinstance(few, RangeResult) and few.count == 9
    assert isinstance(many, LongRange)
    assert len(list(many.read())) >= 4, "pauses"
    assert len(run(many.read()).rows) == later.ROWS_AT_ONCE + 1


def test_many_ranges_of_few_rows_are_not_all_read_at_once() -> None:
    world = filled(200)
    results = world.txn(txn_of(*[EVERYTHING] * 20)).results
    at_once = [one for one in results if isinstance(one, RangeResult)]
    assert 200 * len(at_once) <= later.ROWS_AT_ONCE + 200
    assert all(run(one.read()) == at_once[0] for one in results if isinstance(one, LongRange))


def test_neither_are_large_ones() -> None:
    world = World()
    for number in range(8):
        world.put(name(number), bytes(1_000_000))
    *_, last = world.txn(txn_of(*[EVERYTHING] * 20)).results
    assert isinstance(last, LongRange)


def test_every_single_key_is_read_at_once() -> None:
    world = filled(later.ROWS_AT_ONCE + 1)
    results = world.txn(txn_of(EVERYTHING, *[RangeRequest(key=name(1))] * 100)).results
    assert isinstance(results[0], LongRange)
    assert all(isinstance(one, RangeResult) and one.count == 1 for one in results[1:])


def test_a_range_sees_the_puts_before_it_and_none_behind_it_or_of_later_commands() -> None:
    world = filled(later.ROWS_AT_ONCE + 1)
    changed, created = PutRequest(key=name(3), value=b"new"), PutRequest(key=b"kz")
    _, seen, _, behind = world.txn(txn_of(changed, EVERYTHING, created, EVERYTHING)).results
    world.delete(b"k", b"l")
    world.compact(world.store.revision)
    world.remove_compacted()
    assert isinstance(seen, LongRange) and isinstance(behind, LongRange)
    found = run(seen.read())
    assert (found.revision, found.count) == (world.store.revision - 1, later.ROWS_AT_ONCE + 1)
    assert KeyValue.FromString(found.rows[3]).value == b"new"
    assert run(seen.read()) == found, "it may be read again"
    assert run(behind.read()).count == found.count + 1


def test_what_it_has_counted_holds_for_those_who_ask_next() -> None:
    count = later.ROWS_AT_ONCE + 500
    world = filled(count)
    first = RangeRequest(key=b"k", range_end=b"kz", limit=2)
    _, one, _, other = world.txn(
        txn_of(PutRequest(key=b"k9"), first, PutRequest(key=b"k91"), first)
    ).results
    assert isinstance(one, LongRange) and isinstance(other, LongRange)
    world.delete(name(0))
    world.put(b"k92")
    assert [run(long.read()).count for long in (other, one, other)] == [
        count + 2,
        count + 1,
        count + 2,
    ]
    view = Counting(world.backend)
    assert run(range_steps(view, world.store, 0, first)).count == count + 2
    assert view.rows_read < 10
    (known,) = world.txn(txn_of(first)).results
    assert isinstance(known, RangeResult) and known.count == count + 2


def test_the_rest_is_not_counted_again_where_the_count_is_known() -> None:
    world = filled(later.ROWS_AT_ONCE + 500)
    world.range(b"k", b"kz", limit=1)
    limit = later.ROWS_AT_ONCE + 1
    (found,) = world.txn(txn_of(RangeRequest(key=b"k", range_end=b"kz", limit=limit))).results
    assert isinstance(found, LongRange)
    with mock.patch("chainfire.mvcc.read.ROWS_PER_SLICE", 1):
        assert (result := run(found.read())).count == later.ROWS_AT_ONCE + 500
    assert len(result.rows) == limit
