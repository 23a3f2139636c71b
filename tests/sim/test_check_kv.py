"""The checker accepts every right history and finds each planted lie."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from chainfire.sim.check_kv import changes_something, check_kv
from chainfire.sim.history import (
    NEVER,
    Compact,
    CompactDone,
    Delete,
    Operation,
    Put,
    PutDone,
    Range,
    RangeDone,
    Refused,
    Revision,
    Txn,
    TxnDone,
    Violation,
)
from chainfire.sim.model import Model
from tests import report
from tests.sim.histories import changed, history, local


@pytest.mark.parametrize("seed", range(8))
def test_right_histories_pass(seed: int) -> None:
    operations, feed = history(seed, 1000, unknown=0.2)
    assert check_kv(operations, feed).revision == len(feed) + 1
    report.count("operations of histories checked", len(operations))


@pytest.mark.slow
def test_a_million_operations_in_less_than_a_minute() -> None:
    operations, feed = history(1, 1_000_000, unknown=0.01)
    started = time.process_time()
    check_kv(operations, feed)
    assert time.process_time() - started < 60
    report.count("operations of histories checked", len(operations))


OPERATIONS, FEED = history(7, 600)


def is_read(operation: Operation) -> bool:
    return (
        isinstance(operation.response, RangeDone)
        and bool(operation.response.rows)
        and not operation.request[1]
    )


def is_put(operation: Operation) -> bool:
    return isinstance(operation.response, PutDone)


def rejected(operations: list[Operation], feed: list[Revision] | None = None) -> str:
    with pytest.raises(Violation) as caught:
        check_kv(operations, FEED if feed is None else feed)
    report.count("planted violations found by checkers")
    return str(caught.value)


def test_an_acknowledged_write_that_is_gone() -> None:
    """The last of a key, so that nobody could have seen it."""
    last = next(at for at in reversed(range(len(OPERATIONS))) if is_put(OPERATIONS[at]))
    kept = OPERATIONS[: last + 1]
    response = kept[last].response
    assert isinstance(response, PutDone)
    assert "lost" in rejected(kept, FEED[: response.revision - 2])


def test_a_write_acknowledged_under_anothers_revision() -> None:
    def earlier(operation: Operation) -> Operation:
        assert isinstance(operation.response, PutDone)
        done = operation.response._replace(revision=operation.response.revision - 1)
        return replace(operation, response=done)

    rejected(changed(OPERATIONS, is_put, earlier))


def test_a_stale_read() -> None:
    """True of the past, and called after something newer was answered."""

    def late(operation: Operation) -> Operation:
        return replace(operation, call=operation.call + 4000, ret=operation.ret + 4000)

    assert "answered before the call" in rejected(changed(OPERATIONS, is_read, late))


def test_a_stale_read_at_a_weaker_level_is_none() -> None:
    def late(operation: Operation) -> Operation:
        return replace(local(operation), call=operation.call + 4000, ret=operation.ret + 4000)

    check_kv(changed(OPERATIONS, is_read, late), FEED)


def test_a_read_of_a_state_that_never_was() -> None:
    def other(operation: Operation) -> Operation:
        assert isinstance(operation.response, RangeDone)
        rows = tuple(kv._replace(value=b"never") for kv in operation.response.rows)
        return replace(operation, response=operation.response._replace(rows=rows))

    weak = changed(OPERATIONS, is_read, lambda operation: other(local(operation)))
    assert "should have seen" in rejected(weak)


def test_a_session_that_goes_back() -> None:
    reads = [op for op in OPERATIONS if is_read(op)]
    first, second = local(reads[-1]), local(reads[0])
    first, second = replace(first, session=5), replace(second, session=5)
    second.call, second.ret = first.ret + 1, first.ret + 2
    assert "session" in rejected([*OPERATIONS, first, second])


def test_a_read_older_than_asked_for() -> None:
    def newer(operation: Operation) -> Operation:
        assert isinstance(operation.request, Range)
        return replace(operation, request=operation.request._replace(min_revision=10_000))

    assert "older than asked" in rejected(changed(OPERATIONS, is_read, newer))


def test_a_refused_write_that_was_carried_out() -> None:
    def refused(operation: Operation) -> Operation:
        return replace(operation, response=Refused("TooManyRequests"))

    assert "refused" in rejected(changed(OPERATIONS, is_put, refused))


def test_a_write_carried_out_twice() -> None:
    """Sent again after a change of leader, under another id; its answer was lost."""
    model = Model()
    put = Put(b"a", b"once")
    operation = Operation(1, 1, 1, 0, put)
    feed = []
    for revision in (2, 3):
        _, changes = model.carry_out(put)
        feed.append(Revision(revision, changes))
        model.apply(feed[-1])
    assert "twice" in rejected([operation], feed)


def test_a_write_before_its_call() -> None:
    before = Operation(1, 1, 1, 0, Put(b"a", b"1"), 10, PutDone(3))
    after = Operation(2, 1, 2, 20, Put(b"a", b"2"), NEVER, None)
    model, feed = Model(), []
    for put in (after.request, before.request):
        assert isinstance(put, Put)
        _, changes = model.carry_out(put)
        feed.append(Revision(model.revision + 1, changes))
        model.apply(feed[-1])
    assert "before its call" in rejected([before, after], feed)


def test_changes_that_nobody_asked_for() -> None:
    operations = [op for op in OPERATIONS if not (op.response is None and op.request)]
    rejected(operations)


def test_two_deletes_are_not_explained_by_one_request() -> None:
    puts = [Operation(1, 1, 1, at, Put(b"a", b"%d" % at), at + 1, PutDone(2 + at)) for at in (0, 2)]
    lost = Operation(2, 1, 2, 0, Delete(b"a"))
    model, feed = Model(), []
    for request in (puts[0].request, Delete(b"a"), puts[1].request, Delete(b"a")):
        assert isinstance(request, Put | Delete)
        _, changes = model.carry_out(request)
        feed.append(Revision(model.revision + 1, changes))
        model.apply(feed[-1])
    check_kv([*puts, lost, replace(lost)], feed)
    assert "nobody's" in rejected([*puts, lost], feed)


def test_a_transaction_on_the_wrong_branch() -> None:
    def is_quiet_txn(operation: Operation) -> bool:
        return isinstance(operation.response, TxnDone) and not changes_something(operation)

    def other_branch(operation: Operation) -> Operation:
        assert isinstance(operation.response, TxnDone)
        assert isinstance(operation.request, Txn)
        done = operation.response._replace(succeeded=not operation.response.succeeded)
        return replace(operation, response=done)

    rejected(changed(OPERATIONS, is_quiet_txn, other_branch))


# ── compaction ──────────────────────────────────────────────────────────────

COMPACTION = Operation(9, 1, 9, 2000, Compact(30), 2010, CompactDone(100))


def historic(revision: int, call: int, why: str = "") -> Operation:
    seen = Model()
    for at in FEED:
        if at.main > revision:
            break
        seen.apply(at)
    answer = seen.range(Range(b"k", b"l"))._replace(revision=200)
    request = Range(b"k", b"l", revision=revision)
    return Operation(9, 1, 9, call, request, call + 1, Refused(why) if why else answer)


def with_compaction(*reads: Operation) -> list[Operation]:
    at_100 = next(
        op for op in OPERATIONS if isinstance(op.response, PutDone) and op.response.revision > 99
    )
    assert isinstance(at_100.response, PutDone)
    compaction = replace(COMPACTION, response=CompactDone(at_100.response.revision))
    compaction.call, compaction.ret = at_100.call, at_100.ret
    for read in reads:
        if isinstance(read.response, RangeDone):
            top = FEED[-1].main
            read.response = read.response._replace(revision=top)
        read.call += at_100.ret + 10_000
        read.ret += at_100.ret + 10_000
    return [*OPERATIONS, compaction, *reads]


def test_reads_around_a_compaction() -> None:
    check_kv(with_compaction(historic(29, 0, "Compacted"), historic(30, 0)), FEED)


def test_a_read_of_what_is_compacted() -> None:
    assert "was compacted before" in rejected(with_compaction(historic(29, 0)))


def test_a_read_of_what_nobody_has_compacted() -> None:
    assert "nobody has asked" in rejected(with_compaction(historic(30, 0, "Compacted")))


def test_a_past_that_is_called_the_future() -> None:
    assert "answered before" in rejected(with_compaction(historic(60, 0, "FutureRevision")))


def test_a_read_of_another_past() -> None:
    read = historic(40, 0)
    assert isinstance(read.request, Range)
    read.request = read.request._replace(revision=45)
    rejected(with_compaction(read))
