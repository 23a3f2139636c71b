"""Each command at most once, in whatever order: intervals against a plain set."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainfire.machine import rows
from chainfire.machine.sender import Sender


class SlowSender:
    """The rule in its plainest words."""

    def __init__(self) -> None:
        self.start = 0
        self.lowest = 0
        self.applied: set[int] = set()

    def accept(self, start: int, sequence: int, lowest: int) -> bool:
        if start < self.start:
            return False
        if start > self.start:
            self.start, self.lowest, self.applied = start, 0, set()
        if sequence < self.lowest or sequence in self.applied:
            return False
        self.applied.add(sequence)
        self.lowest = max(self.lowest, lowest)
        return True

    def intervals(self) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        for sequence in sorted(self.applied):
            if sequence < self.lowest:
                continue
            if found and found[-1][1] == sequence - 1:
                found[-1] = (found[-1][0], sequence)
            else:
                found.append((sequence, sequence))
        return found


COMMANDS = st.lists(
    st.tuples(st.integers(1, 3), st.integers(1, 15), st.integers(0, 12)), max_size=60
)


@given(COMMANDS)
def test_intervals_equal_a_set(commands: list[tuple[int, int, int]]) -> None:
    sender, slow = Sender(), SlowSender()
    for start, sequence, lowest in commands:
        assert sender.accept(start, sequence, lowest) == slow.accept(start, sequence, lowest)
        assert (sender.start_number, sender.lowest_unsettled) == (slow.start, slow.lowest)
        assert list(zip(sender.firsts, sender.lasts, strict=True)) == slow.intervals()
        sender = rows.decode_sender(rows.encode_sender(sender))  # a restart at any moment


@given(st.permutations(range(1, 10)))
def test_any_order_gives_the_same_row(order: list[int]) -> None:
    sender, in_order = Sender(), Sender()
    assert all(sender.accept(1, sequence, 1) for sequence in order)
    assert all(in_order.accept(1, sequence, 1) for sequence in sorted(order))
    assert rows.encode_sender(sender) == rows.encode_sender(in_order)
    assert (sender.firsts, sender.lasts) == ([1], [9])


@pytest.mark.parametrize(
    ("start", "sequence", "why"),
    [
        (2, 5, "applied before"),
        (2, 2, "settled: below the lowest unsettled"),
        (1, 9, "of an earlier start"),
    ],
)
def test_a_void_command_changes_nothing(start: int, sequence: int, why: str) -> None:
    sender = Sender()
    assert sender.accept(2, 5, 4)
    before = rows.encode_sender(sender)
    assert not sender.accept(start, sequence, 9), why
    assert rows.encode_sender(sender) == before


def test_a_new_start_begins_afresh() -> None:
    sender = Sender()
    assert sender.accept(1, 100, 90)
    assert sender.accept(2, 1, 1)
    assert (sender.start_number, sender.lowest_unsettled, sender.lasts) == (2, 1, [1])


def test_a_sender_that_settles_keeps_one_interval() -> None:
    sender = Sender()
    for sequence in range(1, 5_000):
        assert sender.accept(1, sequence, max(1, sequence - 100))
    assert (sender.firsts, sender.lasts) == ([4_899], [4_999])
