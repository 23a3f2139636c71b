from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chainfire.raft.inflights import Inflights


def test_full_by_messages() -> None:
    window = Inflights(2, 0)
    window.add(1, 10_000)
    assert not window.full
    window.add(2, 10_000)
    assert window.full


def test_full_by_bytes_after_one_message_that_overshoots() -> None:
    window = Inflights(10, 100)
    window.add(1, 99)
    assert not window.full
    window.add(2, 5000)
    assert window.full


def test_reset_forgets_bytes_with_messages() -> None:
    """raft#54: bytes that outlived their messages stalled the stream for ever."""
    window = Inflights(10, 100)
    window.add(1, 100)
    window.reset()
    assert not window.full and window.bytes == 0


def test_limit_may_grow_while_in_use() -> None:
    """cockroach#135223: a ring that did not grow with its limit panicked."""
    window = Inflights(1, 0)
    window.add(1, 1)
    window.messages_max = 3
    window.add(2, 1)
    window.add(3, 1)
    assert len(window) == 3 and window.full


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 60), st.integers(0, 30)), max_size=60))
def test_same_as_a_plain_list(steps: list[tuple[bool, int, int]]) -> None:
    window, plain, last = Inflights(5, 70), [], 0
    for is_add, number, size in steps:
        if is_add:
            full = len(plain) >= 5 or sum(each for _, each in plain) >= 70
            assert window.full == full
            if not full:
                last += 1 + number
                window.add(last, size)
                plain.append((last, size))
        else:
            window.free_up_to(last - number)
            plain = [each for each in plain if each[0] > last - number]
        assert len(window) == len(plain) and window.bytes == sum(each for _, each in plain)
