"""Counts are exact, and paging with them is linear."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainfire.mvcc.count import LIVE_MAX, SETTLED_MAX, Counts
from chainfire.mvcc.ranges import Bounds
from chainfire.mvcc.read import Steps, range_steps, run
from chainfire.proto.kv_pb2 import KeyValue, PutRequest, RangeRequest, TxnRequest
from chainfire.storage.backend import Reader
from chainfire.types import RangeResult
from tests.mvcc.world import World


def name(number: int) -> bytes:
    return b"k%04d" % number


class Counting:
    """A Reader that counts what is read through it."""

    def __init__(self, base: Reader) -> None:
        self.base = base
        self.rows_read = 0

    def get(self, family: str, key: bytes) -> bytes | None:
        self.rows_read += 1
        return self.base.get(family, key)

    def iterate(
        self, family: str, lower: bytes = b"", upper: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        return self._counted(self.base.iterate(family, lower, upper, reverse=reverse))

    def keys(self, family: str, lower: bytes = b"", upper: bytes | None = None) -> Iterator[bytes]:
        return self._counted(self.base.keys(family, lower, upper))

    def _counted(self, found: Iterator) -> Iterator:  # type: ignore[type-arg]
        for row in found:
            self.rows_read += 1
            yield row


def filled(count: int) -> World:
    world = World()
    for number in range(count):
        world.do(lambda w, n=number: w.writer().put(name(n), b""), flush=False)
    world.flush()
    return world


def read(view: Reader, world: World, request: RangeRequest) -> RangeResult:
    return run(range_steps(view, world.store, 0, request))


def pages(view: Reader, world: World, request: RangeRequest, disturb: bool = False) -> int:
    """Read all pages, one after the other; return how many rows came."""
    total = left = -1
    seen = 0
    while True:
        page = read(view, world, request)
        if not disturb:
            assert left in (-1, page.count)
        total = page.count if total < 0 else total
        seen += len(page.rows)
        left = page.count - len(page.rows)
        if not page.more:
            return seen
        last = KeyValue.FromString(page.rows[-1]).key
        if request.sort_order == RangeRequest.DESCEND:
            request.range_end = last
        else:
            request.key = last + b"\0"
        if disturb:
            world.put(b"a%d" % seen)
            world.put(last + b"!")


KEYS, PAGE = 6000, 50
LINEAR = 4 * KEYS  # a count for every page would read KEYS * KEYS / PAGE / 2 = 360,000


@pytest.mark.interpreted
def test_paging_through_a_prefix_is_linear() -> None:
    world = filled(KEYS)
    view = Counting(world.backend)
    request = RangeRequest(key=b"k", range_end=b"l", limit=PAGE)
    assert pages(view, world, request) == KEYS
    assert view.rows_read < LINEAR


@pytest.mark.interpreted
def test_paging_backwards_is_linear() -> None:
    world = filled(KEYS)
    view = Counting(world.backend)
    request = RangeRequest(key=b"k", range_end=b"l", limit=PAGE, sort_order=RangeRequest.DESCEND)
    assert pages(view, world, request) == KEYS
    assert view.rows_read < LINEAR


def test_paging_at_an_old_revision_is_linear() -> None:
    world = filled(KEYS)
    revision = world.store.revision
    for number in range(0, KEYS, 3):
        world.put(name(number))
    world.delete(name(1), name(500))
    view = Counting(world.backend)
    request = RangeRequest(key=b"k", range_end=b"l", limit=PAGE, revision=revision)
    assert pages(view, world, request) == KEYS
    assert view.rows_read < 3 * LINEAR


def test_paging_at_a_pinned_revision_stays_linear_when_writes_come_in_between() -> None:
    world = filled(KEYS)
    view = Counting(world.backend)
    request = RangeRequest(key=b"k", range_end=b"l", limit=PAGE, revision=world.store.revision)
    assert pages(view, world, request, disturb=True) == KEYS
    assert view.rows_read < LINEAR


@pytest.mark.interpreted
def test_paging_through_the_newest_state_stays_linear_when_writes_come_in_between() -> None:
    world = filled(KEYS)
    view = Counting(world.backend)
    request = RangeRequest(key=b"k", range_end=b"l", limit=PAGE)
    assert pages(view, world, request, disturb=True) >= KEYS
    assert view.rows_read < LINEAR


@pytest.mark.interpreted
def test_the_whole_keyspace_is_never_counted() -> None:
    world = filled(1000)
    view = Counting(world.backend)
    assert read(view, world, RangeRequest(key=b"\0", range_end=b"\0", limit=1)).count == 1000
    assert (
        read(view, world, RangeRequest(key=b"\0", range_end=b"\0", count_only=True)).count == 1000
    )
    assert view.rows_read <= 2


def test_a_second_count_of_a_large_range_is_free_even_after_writes() -> None:
    world = filled(1000)
    request = RangeRequest(key=b"k", range_end=b"l", count_only=True)
    assert read(world.backend, world, request).count == 1000
    world.put(b"k-new")
    world.delete(name(5), name(8))
    view = Counting(world.backend)
    assert read(view, world, request).count == 998
    assert view.rows_read == 0


class Paging:
    """Readers and writers that take turns; every count is checked against sets of keys."""

    def __init__(self) -> None:
        self.world = filled(25)
        self.world.store.counts = Counts(rows_min=1)
        self.truth = {self.world.store.revision: {name(number) for number in range(25)}}
        self.requests: list[RangeRequest] = []  # of next pages
        self.walks: list[tuple[Steps[RangeResult], int]] = []  # and their counts

    def put(self, number: int, _: int) -> None:
        keys = self.truth[self.world.store.revision] | {name(number)}
        self.world.put(name(number))
        self.truth[self.world.store.revision] = keys

    def delete(self, number: int, _: int) -> None:
        keys = self.truth[self.world.store.revision] - {name(number)}
        self.world.delete(name(number))
        self.truth[self.world.store.revision] = keys

    def page(self, number: int, limit: int) -> None:
        self._check(RangeRequest(key=name(number // 3), range_end=b"l", limit=limit))

    def pinned_page(self, number: int, limit: int) -> None:
        revision = self.world.store.revision
        self._check(
            RangeRequest(key=name(number // 3), range_end=b"l", limit=limit, revision=revision)
        )

    def next_page(self, number: int, _: int) -> None:
        if self.requests:
            self._check(self.requests.pop(number % len(self.requests)))

    def count(self, number: int, _: int) -> None:
        self._check(RangeRequest(key=name(number // 3), range_end=b"l", count_only=True))

    def begin_walk(self, number: int, limit: int) -> None:
        request = RangeRequest(key=name(number // 3), range_end=b"l", limit=limit)
        walk = range_steps(self.world.backend, self.world.store, 0, request, rows_per_slice=3)
        if next(walk, "end") is None:
            self.walks.append((walk, self._expected(request)))

    def end_walk(self, number: int, _: int) -> None:
        if self.walks:
            walk, count = self.walks.pop(number % len(self.walks))
            assert run(walk).count == count

    def _expected(self, request: RangeRequest) -> int:
        keys = self.truth[request.revision or self.world.store.revision]
        return sum(request.key <= key < request.range_end for key in keys)

    def _check(self, request: RangeRequest) -> None:
        page = read(self.world.backend, self.world, request)
        assert page.count == self._expected(request)
        if page.more:
            request.key = KeyValue.FromString(page.rows[-1]).key + b"\0"
            self.requests.append(request)


STEPS = [step for step in vars(Paging) if not step.startswith("_")]


@given(
    st.lists(
        st.tuples(st.sampled_from(STEPS), st.integers(0, 30), st.integers(1, 9)),
        min_size=10,
        max_size=60,
    )
)
@settings(max_examples=150)
def test_counts_are_exact_whatever_is_read_and_written_in_between(
    steps: list[tuple[str, int, int]],
) -> None:
    paging = Paging()
    for step, number, limit in steps:
        getattr(paging, step)(number, limit)


def test_a_range_in_a_transaction_leaves_no_count_behind_for_its_unfinished_revision() -> None:
    world = filled(10)
    world.store.counts = Counts(rows_min=1)
    txn = TxnRequest()
    for number in (20, 21, 22):
        txn.success.add().request_put.CopyFrom(PutRequest(key=name(number)))
        txn.success.add().request_range.CopyFrom(RangeRequest(key=b"k", range_end=b"l", limit=2))
    counts = [result.count for result in world.txn(txn).results[1::2]]
    assert counts == [11, 12, 13]
    pinned = RangeRequest(key=b"k", range_end=b"l", limit=2, revision=world.store.revision)
    world.put(name(30))
    assert read(world.backend, world, pinned).count == 13


def test_what_is_remembered_is_bounded() -> None:
    counts = Counts(rows_min=1)
    for number in range(2000):
        bounds = Bounds(b"", b"%05d" % number, b"9")
        counts.finish(counts.begin(bounds), 5)
        counts.note_rest(bounds, 5)
        counts.note_settled(bounds, 7, 5)
        counts.note_settled(Bounds(b"", bytes(10_000), b"9"), 7, 5)
    assert len(counts._counted) <= LIVE_MAX
    assert len(counts._rests) <= LIVE_MAX
    assert len(counts._settled) <= SETTLED_MAX
    assert counts.find(bounds, live=False, settled=7) == 5
