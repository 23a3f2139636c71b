"""Runs of puts that are staged in one call leave what the general way leaves."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainfire.command import stamp
from chainfire.machine import Machine
from chainfire.machine.plain import Plain
from chainfire.machine.runs import RUN_MAX, run_of
from chainfire.proto.command_pb2 import LeaseGrant
from chainfire.proto.kv_pb2 import DeleteRangeRequest, PutRequest
from chainfire.types import Entry, PutResult
from tests import report
from tests.machine.test_plain import without_codec
from tests.machine.world import as_log, bootstrapped, comparable, encode, opened, rows_of

native = pytest.importorskip("chainfire_native", reason="chainfire-native is not installed")

KEYS = st.sampled_from([b"a", b"b", b"c", b"d"])
plain_puts = st.builds(PutRequest, key=KEYS, value=st.binary(max_size=3))
bodies = st.one_of(
    *[plain_puts] * 8,
    st.builds(PutRequest, key=KEYS, lease=st.just(7)),
    st.builds(DeleteRangeRequest, key=KEYS),
)


@st.composite
def runs(draw: st.DrawFn) -> list[Entry]:
    """Mostly puts of mostly one sender; its sequences mostly in order."""
    commands = [encode(LeaseGrant(id=7, ttl_ms=9000), 1)]
    last = Counter({1: 1})
    for body in draw(st.lists(bodies, min_size=12, max_size=40)):
        sender = draw(st.sampled_from([1, 1, 1, 1, 2]))
        last[sender] += draw(st.sampled_from([1] * 15 + [0, 2]))
        sequence = last[sender] = max(1, last[sender])
        lowest = draw(st.integers(max(1, sequence - 5), sequence))
        clock_ms = draw(st.integers(0, 9))
        command = encode(body, sequence, sender=sender, lowest=lowest, clock_ms=clock_ms)
        commands.append(command + draw(st.sampled_from([b"", stamp(3, 12)])))
    return as_log(commands)


@settings(max_examples=300)
@given(runs(), st.booleans())
@pytest.mark.interpreted
def test_runs_leave_what_the_general_way_leaves(log: list[Entry], keeps_changes: bool) -> None:
    backends = bootstrapped(), bootstrapped()
    one, two = opened(backends[0]), without_codec(backends[1])
    one.keeps_changes = two.keeps_changes = keeps_changes
    staged: list[int] = []
    stage_puts = one._plain.stage_puts

    def counted(*of: object) -> int:
        staged.append(stage_puts(*of))  # type: ignore[arg-type]
        return staged[-1]

    one._plain.stage_puts = counted  # type: ignore[assignment, method-assign]
    assert comparable(one.apply(log)) == comparable(two.apply(log))
    assert one.take_changes() == two.take_changes()
    assert one.store.keyspace(0) == two.store.keyspace(0)
    assert rows_of(backends[0]) == rows_of(backends[1])
    assert [one.hash_at(e.index) for e in log] == [two.hash_at(e.index) for e in log]
    assert one.leader_clock_ms == two.leader_clock_ms
    assert one.statistics() == two.statistics()
    report.count("puts staged in runs", sum(staged))


def decoded(log: list[Entry]) -> list[tuple[Entry, Plain]]:
    return [(entry, native.parse_plain(entry.data)) for entry in log]


def puts(count: int, value: bytes = b"v") -> list[tuple[Entry, Plain]]:
    body = PutRequest(key=b"k", value=value)
    return decoded(as_log([encode(body, number) for number in range(1, count + 1)]))


def test_a_run_is_bounded_in_entries_and_bytes() -> None:
    first, *behind = puts(RUN_MAX + 10)
    run = run_of(*first, behind, 1 << 20)
    assert run is not None and len(run.entries) == RUN_MAX
    first, *behind = puts(10, bytes(1000))
    run = run_of(*first, behind, 4000)
    assert run is not None and len(run.entries) == 3


def test_what_was_foreseen_is_the_result_of_its_run() -> None:
    machine: Machine = opened(bootstrapped())
    log = [entry for entry, _ in puts(8)]
    machine.apply(log[:1])
    foreseen = machine.foresee(log[1:])
    results = machine.apply(log[1:])
    assert [one.result for one in results] == [PutResult(3 + at) for at in range(7)]
    assert all(real is told for real, told in zip(results, foreseen, strict=True))
