"""What is said to be known of the keys is true, whatever was created, deleted and forgotten."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chainfire.mvcc import spans
from chainfire.mvcc.spans import KEYS_MAX, Spans

Bounds = tuple[bytes, bytes]

NAMES = st.integers(0, 60).map(lambda number: b"%02d" % number)
BOUNDS = st.tuples(NAMES, NAMES).filter(lambda pair: pair[0] < pair[1])
STEPS = st.lists(st.tuples(st.sampled_from(["learn", "toggle", "toggle"]), NAMES, BOUNDS))


def between(keys: set[bytes], lower: bytes, upper: bytes) -> list[bytes]:
    return sorted(key for key in keys if lower <= key < upper)


@given(st.sampled_from([700, 1500, 1 << 20]), st.sampled_from([2, 5, KEYS_MAX]), STEPS)
def test_what_is_found_is_what_there_is(bytes_max: int, keys_max: int, steps: list) -> None:  # type: ignore[type-arg]
    keys: set[bytes] = set()
    known = Spans(bytes_max)
    before, spans.KEYS_MAX = spans.KEYS_MAX, keys_max
    try:
        for what, name, (lower, upper) in steps:
            if what == "learn":
                known.learn(lower, upper, between(keys, lower, upper))
            elif name in keys:
                keys.remove(name)
                known.deleted(name)
            else:
                keys.add(name)
                known.created(name)
            found = known.find(lower, upper)
            assert found is None or found == between(keys, lower, upper)
            assert known._lowers == sorted(known._lowers)
            assert known._bytes == sum(spans._size(span.keys) for span in known._spans)
    finally:
        spans.KEYS_MAX = before


@given(BOUNDS, BOUNDS, st.sets(NAMES))
def test_what_was_learned_is_known_together_too(
    one: Bounds, other: Bounds, keys: set[bytes]
) -> None:
    known = Spans(1 << 20)
    known.learn(*one, between(keys, *one))
    known.learn(*other, between(keys, *other))
    for bounds in (one, other):
        assert known.find(*bounds) == between(keys, *bounds)
    if one[0] <= other[0] <= one[1]:
        whole = one[0], max(one[1], other[1])
        assert known.find(*whole) == between(keys, *whole)


def name(number: int) -> bytes:
    return b"k%06d" % number


def test_all_that_is_created_after_an_empty_range_is_known() -> None:
    known = Spans(1 << 20)
    known.learn(b"a", b"z", ())
    for number in range(5000):
        known.created(name(number))
    for first in (0, 250, 4990):
        assert known.find(name(first), name(first + 10)) == [
            name(n) for n in range(first, min(first + 10, 5000))
        ]
    assert known.find(name(0), name(KEYS_MAX + 1)) is None  # that many are read by walking


def test_it_stays_within_its_bytes_and_keeps_what_is_used() -> None:
    bytes_max = 100_000
    known = Spans(bytes_max)
    hot = [name(n) for n in range(10)]
    known.learn(hot[0], name(10), hot)
    for first in range(20, 100_000, 20):
        cold = [name(n) for n in range(first, first + 10)]
        known.learn(cold[0], name(first + 10), cold)
        assert known.find(hot[0], name(10)) == hot
        assert known._bytes <= bytes_max
