"""Sequences are settled once, and the lowest unsettled one never overtakes a waiter."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chainfire.errors import RequestError
from chainfire.node.proposals import Proposals
from chainfire.types import Result


class Caller:
    def __init__(self) -> None:
        self.finished = False

    def done(self, result: Result) -> None: ...

    def refused(self, error: RequestError) -> None: ...


def test_a_sequence_is_settled_once() -> None:
    proposals, caller = Proposals(pending_max=10, timeout_ms=7000), Caller()
    sequence = proposals.add(caller, 16, b"").sequence
    assert proposals.settle(sequence) is caller
    assert proposals.settle(sequence) is None


@given(st.lists(st.integers(1, 20), max_size=40))
def test_lowest_unsettled_is_the_lowest_that_waits(settled: list[int]) -> None:
    proposals = Proposals(pending_max=100, timeout_ms=7000)
    waiting = {proposals.add(Caller(), 16, b"").sequence for _ in range(20)}
    for sequence in settled:
        proposals.settle(sequence)
        waiting.discard(sequence)
        assert proposals.lowest_unsettled == min(waiting, default=21)


def test_whose_caller_is_gone_is_settled_and_nobody_hears_of_it() -> None:
    proposals, gone, there = Proposals(pending_max=10, timeout_ms=100), Caller(), Caller()
    owns = [proposals.add(caller, 16, b"") for caller in (gone, there)]
    proposals.mark_turn(now_ms=0)
    gone.finished = True
    assert proposals.wanted(owns) == owns[1:] and proposals.lowest_unsettled == 2
    assert proposals.wanted(owns) == owns[1:]
    assert proposals.overdue(100) == [there]


def test_only_what_is_older_than_the_timeout_is_overdue() -> None:
    proposals, old, young = Proposals(pending_max=10, timeout_ms=100), Caller(), Caller()
    proposals.add(old, 16, b"")
    proposals.mark_turn(now_ms=0)
    proposals.add(young, 16, b"")
    proposals.mark_turn(now_ms=50)
    assert proposals.overdue(99) == []
    assert proposals.overdue(100) == [old]
    assert proposals.overdue(150) == [young]
    assert proposals.lowest_unsettled == 3
