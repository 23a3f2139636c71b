"""The whole store against its twin, with turns, crashes, slices and compaction in between."""

from __future__ import annotations

from typing import Any
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
)

from chainfire.errors import Compacted, RequestError
from chainfire.mvcc import later
from chainfire.mvcc.compact import Compaction
from chainfire.mvcc.count import Counts
from chainfire.mvcc.hash import hash_kv
from chainfire.mvcc.lines import Lines
from chainfire.mvcc.ranges import Bounds
from chainfire.mvcc.read import range_steps, run
from chainfire.mvcc.rows import keyspace_prefix
from chainfire.mvcc.spans import Spans
from chainfire.mvcc.stream import stream_steps
from chainfire.mvcc.syntax import check_put, check_txn
from chainfire.mvcc.verify import recount
from chainfire.proto.kv_pb2 import (
    DeleteRangeRequest,
    KeyValue,
    PutRequest,
    RangeRequest,
    TxnRequest,
)
from chainfire.storage.memory import MemoryBackend
from chainfire.types import LongRange, RangeResult, TxnResult
from tests import report
from tests.mvcc.strategies import (
    KEYS,
    aged,
    deletes,
    firsts,
    paged_ranges,
    plain_puts,
    puts,
    ranges,
    reading_txns,
    touches,
    txns,
)
from tests.mvcc.twin import Twin, TwinEvent
from tests.mvcc.world import World, delete, put


def outcome(call: Any) -> Any:
    """What a call answers, or the class of its error."""
    try:
        return call()
    except RequestError as error:
        return type(error)


def promises(ours: TxnResult, theirs: TxnResult) -> list[tuple[LongRange, RangeResult]]:
    """The long ranges of a transaction with what they are to find, which they are replaced with."""
    found = []
    for at, (our, their) in enumerate(zip(ours.results, theirs.results, strict=True)):
        if isinstance(our, TxnResult):
            assert isinstance(their, TxnResult)
            found += promises(our, their)
        elif isinstance(our, LongRange):
            assert isinstance(their, RangeResult) and our.revision == their.revision
            found.append((our, their))
            ours.results[at] = their
    return found


class StoreMachine(RuleBasedStateMachine):
    pages = Bundle("pages")
    long_ranges = Bundle("long_ranges")
    walks = Bundle("walks")

    def __init__(self) -> None:
        super().__init__()
        self.world = World(cache_bytes=4000, keyspace=5)
        self.twin = Twin()
        # Applies the same, but never removes a row.
        self.lazy = World(cache_bytes=0, keyspace=5)
        self.opened = 0
        self.count_everything()

    def count_everything(self) -> None:
        self.world.store.counts = Counts(rows_min=1)
        self.world.store.spans = Spans(2000)
        self.world.store.lines = Lines(keys_min=1, bytes_max=3000)
        self.opened += 1

    def do(self, command: Any, twin: Any, flush: bool) -> None:
        ours = outcome(lambda: self.world.do(command, flush=flush))
        theirs = outcome(twin)
        assert ours == theirs
        assert outcome(lambda: self.lazy.do(command)) == theirs
        if flush:
            self.world.flush()

    def settle(self) -> None:
        """Reads from outside come between turns."""
        self.world.flush()

    # ── commands ────────────────────────────────────────────────────────────

    @initialize(requests=st.lists(plain_puts, min_size=5, max_size=15))
    def fill(self, requests: list[PutRequest]) -> None:
        for request in requests:
            self.put([request], True)

    @rule(
        requests=st.lists(st.one_of(plain_puts, touches, puts), min_size=1, max_size=4),
        flush=st.booleans(),
    )
    def put(self, requests: list[PutRequest], flush: bool) -> None:
        for request in requests:
            if outcome(lambda r=request: check_put(r)) is None:
                self.do(
                    lambda world, r=request: put(world.writer(), r),
                    lambda r=request: self.twin.put(r),
                    flush,
                )

    @rule(request=deletes, flush=st.booleans())
    def delete(self, request: DeleteRangeRequest, flush: bool) -> None:
        self.do(
            lambda world: delete(world.writer(), request),
            lambda: self.twin.delete_range(request),
            flush,
        )

    @rule(request=txns, flush=st.booleans())
    def txn(self, request: TxnRequest, flush: bool) -> None:
        if outcome(lambda: check_txn(request, 128)) is None:
            self.do(
                lambda world: world.writer().txn(request), lambda: self.twin.txn(request), flush
            )

    @rule(target=long_ranges, request=reading_txns, at_once=st.integers(0, 1), flush=st.booleans())
    def txn_with_long_ranges(self, request: TxnRequest, at_once: int, flush: bool) -> Any:
        """What it reads is read after who knows what."""
        for op in request.success:
            if op.HasField("request_range"):
                op.request_range.CopyFrom(aged(op.request_range, self.twin.revision))
        if outcome(lambda: check_txn(request, 128)) is not None:
            return []
        with mock.patch.object(later, "ROWS_AT_ONCE", at_once):
            txn = lambda world: world.writer().txn(request)  # noqa: E731
            ours, lazy = (
                outcome(lambda: self.world.do(txn, flush=flush)),
                outcome(lambda: self.lazy.do(txn)),
            )
        theirs = outcome(lambda: self.twin.txn(request))
        promised = []
        if isinstance(theirs, TxnResult):
            promised = promises(ours, theirs) + promises(lazy, theirs)
        assert ours == lazy == theirs
        return promised

    @rule(promised=consumes(long_ranges), often=st.integers(0, 2))
    def read_long_ranges(self, promised: Any, often: int) -> None:
        for long_range, expected in promised * often:
            assert run(long_range.read()) == expected
            report.count("long ranges read later", 1)

    @rule(back=st.integers(-1, 8), flush=st.booleans())
    def compact(self, back: int, flush: bool) -> None:
        revision = self.twin.revision - back

        def command(world: World) -> None:
            world.writer().compact(revision)

        self.do(command, lambda: self.twin.compact(revision), flush)

    # ── upkeep, failures ────────────────────────────────────────────────────

    @rule(max_rows=st.integers(1, 4), steps=st.integers(1, 5))
    def remove_some(self, max_rows: int, steps: int) -> None:
        self.settle()
        compaction = Compaction(self.world.backend, self.world.store, 5)
        done = False
        for _ in range(steps):
            done = done or compaction.step(max_rows)
        if done:
            revision, freed = compaction.revision, compaction.freed_bytes
            finish = lambda world: world.store.finish_compaction(5, revision, freed)  # noqa: E731
            self.world.do(finish)
            self.lazy.do(finish)

    @rule()
    def sync(self) -> None:
        self.settle()
        self.world.backend.sync()

    @rule()
    def restart(self) -> None:
        self.settle()
        self.world.restart()
        self.count_everything()

    @rule(lost=st.integers(0, 5))
    def crash(self, lost: int) -> None:
        assert isinstance(self.world.backend, MemoryBackend)
        self.world.crash(max(self.world.backend.unsynced_batches - lost, 0))
        self.settle()
        self.count_everything()

    # ── reads ───────────────────────────────────────────────────────────────

    def read(self, request: RangeRequest, rows_per_slice: int = 2) -> Any:
        self.settle()
        world = self.world
        return range_steps(world.backend, world.store, 5, request, rows_per_slice=rows_per_slice)

    @rule(request=ranges)
    def range(self, request: RangeRequest) -> None:
        request = aged(request, self.twin.revision)
        assert outcome(lambda: run(self.read(request))) == outcome(lambda: self.twin.range(request))

    @rule(request=ranges)
    def poured_range(self, request: RangeRequest) -> None:
        """Slice by slice, for an answer that nobody holds as rows."""
        self.settle()
        request = aged(request, self.twin.revision)
        world, poured = self.world, list[bytes]()
        walk = range_steps(
            world.backend, world.store, 5, request, rows_per_slice=1, pour=poured.extend
        )
        found = outcome(lambda: run(walk))
        if isinstance(found, RangeResult):
            found.rows = [*poured, *found.rows]
        assert found == outcome(lambda: self.twin.range(request))
        report.count("ranges that were poured", bool(poured))

    @rule(request=ranges)
    def small_range(self, request: RangeRequest) -> None:
        """By the short way, where that is possible: noted by a range before."""
        if request.range_end:
            plain = RangeRequest(key=request.key, range_end=request.range_end)
            expected = self.twin.range(plain)
            assert run(self.read(plain, rows_per_slice=100)) == expected
            rows = self.world.store.get_rows(5, plain.key, plain.range_end)
            assert rows is None or rows == expected.rows
            report.count("small ranges", 1)
            report.count("small ranges by the short way", rows is not None)

    @rule(request=firsts, often=st.integers(1, 3))
    def first_ones(self, request: RangeRequest, often: int) -> None:
        """Where they are in the order of creation is known from the second time on."""
        bounds = Bounds.of(keyspace_prefix(5), request.key, request.range_end)
        assert bounds is not None
        request = aged(request, self.twin.revision)
        for _ in range(often):
            known = self.world.store.lines.find(bounds) is not None
            found = outcome(lambda: run(self.read(request)))
            assert found == outcome(lambda: self.twin.range(request))
            report.count("first ones of a line that was known", known)

    @rule(target=pages, request=paged_ranges)
    def first_page(self, request: RangeRequest) -> RangeRequest:
        return self.next_page(aged(request, self.twin.revision))

    @rule(target=pages, request=consumes(pages))
    def next_page(self, request: RangeRequest) -> RangeRequest:
        page = outcome(lambda: run(self.read(request)))
        assert page == outcome(lambda: self.twin.range(request))
        following = RangeRequest.FromString(request.SerializeToString())
        if isinstance(page, RangeResult) and page.rows:
            last = KeyValue.FromString(page.rows[-1]).key
            if request.sort_order == RangeRequest.DESCEND:
                following.range_end = last
            else:
                following.key = last + b"\0"
        return following

    @rule(target=walks, request=ranges)
    def begin_walk(self, request: RangeRequest) -> Any:
        """A read in slices; what comes later does not change its answer."""
        request = aged(request, self.twin.revision)
        expected = outcome(lambda: self.twin.range(request))
        revision = request.revision if request.revision > 0 else self.twin.revision
        walk = self.read(request, rows_per_slice=1)
        first = outcome(lambda: next(walk, "end"))
        if first is not None:
            if isinstance(first, type):
                assert first == expected
            return None
        return walk, expected, revision, self.opened

    @rule(walk=consumes(walks))
    def finish_walk(self, walk: Any) -> None:
        self.settle()
        if walk is None or walk[3] != self.opened:
            return
        steps, expected, revision, _ = walk
        result = outcome(lambda: run(steps))
        if result is Compacted:
            assert revision < self.twin.compacted
        else:
            assert result == expected

    @rule(request=ranges, chunk_bytes=st.integers(1, 100))
    def stream(self, request: RangeRequest, chunk_bytes: int) -> None:
        request = RangeRequest(
            key=request.key,
            range_end=request.range_end,
            limit=request.limit,
            revision=aged(request, self.twin.revision).revision,
            keys_only=request.keys_only,
            count_only=request.count_only,
        )
        self.settle()
        world = self.world
        steps = stream_steps(
            world.backend, world.store, 5, request, chunk_bytes=chunk_bytes, rows_per_slice=2
        )
        found: list[bytes] = []

        def collect() -> RangeResult:
            while True:
                try:
                    chunk = next(steps)
                except StopIteration as stop:
                    result: RangeResult = stop.value
                    result.rows = found + list(result.rows)
                    return result
                found.extend(chunk or ())

        assert outcome(collect) == outcome(lambda: self.twin.range(request))

    @rule(back=st.integers(-1, 8), rows_max=st.integers(1, 5))
    def events(self, back: int, rows_max: int) -> None:
        """From a few revisions before the compacted one on."""
        self.settle()
        start = max(self.twin.compacted - 2 + back, 0)

        def collect() -> list[TwinEvent]:
            events, revision = [], start
            while revision <= self.twin.revision:
                found = self.world.history(revision, rows_max=rows_max)
                assert found.next_revision > revision
                revision = found.next_revision
                events += [
                    TwinEvent(event.main, event.sub, event.key, event.row, event.prev)
                    for event in found.changes
                ]
            return events

        if start <= self.twin.revision:
            assert outcome(collect) == outcome(lambda: self.twin.events(start))

    @rule(back=st.integers(0, 6))
    def hashes_do_not_show_how_far_rows_are_removed(self, back: int) -> None:
        self.settle()
        revision = self.twin.revision - back
        hashes = [
            outcome(lambda: run(hash_kv(w.backend, w.store, 5, revision, rows_per_slice=2)))  # noqa: B023
            for w in (self.world, self.lazy)
        ]
        assert hashes[0] == hashes[1]

    # ── always ──────────────────────────────────────────────────────────────

    @invariant()
    def agrees(self) -> None:
        world, twin = self.world, self.twin
        assert world.store.revision == twin.revision
        state = world.store.keyspace(5)
        assert state.compacted == twin.compacted
        assert state.keys == len(list(twin.live_keys()))

    @invariant()
    def counters_are_what_the_rows_say(self) -> None:
        self.settle()
        for world in (self.world, self.lazy):
            state = world.store.keyspace(5)
            assert recount(world.backend, world.store, 5) == state
        assert self.world.store.keyspace(5) == self.lazy.store.keyspace(5)

    def teardown(self) -> None:
        self.settle()
        for key in KEYS:
            kv = self.twin.at(key, self.twin.revision)
            expected = None if kv is None else kv.SerializeToString()
            assert self.world.store.get_row(5, key) == expected


StoreMachine.TestCase.settings = settings(max_examples=120, stateful_step_count=40)
TestStoreMachine = StoreMachine.TestCase
