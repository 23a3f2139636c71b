"""A read is answered when, and only when, its level's condition holds."""

from __future__ import annotations

from chainfire.errors import RequestDeadlineExceeded, RequestError, Timeout
from chainfire.node.reads import Reads


class Reader:
    finished = False

    def ready(self) -> None: ...

    def refused(self, error: RequestError) -> None: ...


def test_a_read_waits_for_its_index_and_its_revision() -> None:
    reads, a, b = Reads(7000, 1), Reader(), Reader()
    reads.wait(5, 0, 0, None, a)
    reads.wait(3, 9, 0, None, b)
    assert reads.ready(applied=4, revision=8) == []
    assert reads.ready(applied=5, revision=8) == [a]
    assert reads.ready(applied=5, revision=9) == [b]
    assert len(reads) == 0


def test_all_reads_of_a_turn_share_one_round_and_later_ones_do_not() -> None:
    reads, a, b, late = Reads(7000, 1), Reader(), Reader(), Reader()
    reads.wait_for_round(0, 0, None, a)
    reads.wait_for_round(0, 0, None, b)
    first = reads.start_round()
    assert first is not None and reads.start_round() is None
    reads.wait_for_round(0, 0, None, late)
    reads.confirm_round(first, 7)
    assert reads.ready(7, 1) == [a, b]
    assert len(reads) == 1


def test_a_repeated_round_gets_a_new_number_and_the_old_answer_is_ignored() -> None:
    reads, a = Reads(7000, 1), Reader()
    reads.wait_for_round(0, 0, None, a)
    old = reads.start_round()
    assert old is not None
    reads.repeat_rounds()
    new = reads.start_round()
    assert new is not None and new != old
    reads.confirm_round(old, 1)
    assert reads.ready(100, 1) == []
    reads.confirm_round(new, 2)
    assert reads.ready(2, 1) == [a]


def test_rounds_that_are_asked_a_third_time_are_counted() -> None:
    reads = Reads(7000, 1)
    reads.wait_for_round(0, 0, None, Reader())
    reads.start_round()
    assert reads.repeat_rounds() == 0
    reads.start_round()
    assert reads.repeat_rounds() == 1
    assert reads.repeat_rounds() == 0  # nobody has asked meanwhile


def test_the_callers_deadline_and_ours_give_different_errors() -> None:
    reads, mine, yours = Reads(7000, 1), Reader(), Reader()
    reads.wait(9, 0, 0, None, mine)
    reads.wait(9, 0, 0, 100, yours)
    [(who, error)] = reads.overdue(100)
    assert who is yours and isinstance(error, RequestDeadlineExceeded)
    [(who, error)] = reads.overdue(7000)
    assert who is mine and isinstance(error, Timeout)


def test_reads_whose_caller_is_gone_are_forgotten_long_before_their_deadline() -> None:
    reads, gone, there = Reads(7000, 1), Reader(), Reader()
    for who in (gone, there):
        reads.wait(9, 5, 0, 3_600_000, who)
        reads.wait_for_round(0, 0, None, who)
    gone.finished = True
    assert reads.overdue(100) == []
    assert len(reads) == 2 and reads.take_all() == [there, there]
