"""Ranges that contain a key, against a list that is searched from end to end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chainfire.watch.groups import Span, united
from chainfire.watch.tree import RangeTree

keys = st.binary(min_size=0, max_size=3)
few_keys = st.sampled_from([b"", b"a", b"b", b"b\0"])
ranges = (
    st.one_of(st.tuples(keys, keys), st.tuples(few_keys, few_keys))
    .map(sorted)
    .filter(lambda pair: pair[0] < pair[1])
    .map(tuple)
)


@given(st.lists(st.tuples(st.booleans(), ranges), max_size=60), st.lists(keys, min_size=1))
def test_a_tree_answers_as_a_list_does(
    steps: list[tuple[bool, tuple[bytes, bytes]]], asked: list[bytes]
) -> None:
    tree: RangeTree[int] = RangeTree()
    twin: list[tuple[tuple[bytes, bytes], int]] = []
    for number, (adds, bounds) in enumerate(steps):
        if adds or not twin:
            tree.add(*bounds, number)
            twin.append((bounds, number))
        else:
            gone = twin.pop(number % len(twin))
            tree.remove(*gone[0], gone[1])
    for key in asked:
        expected = [item for (lower, upper), item in twin if lower <= key < upper]
        assert sorted(tree.containing(key)) == sorted(expected)
    for bounds, _ in twin:
        assert set(tree.at(*bounds)) == {item for other, item in twin if other == bounds}
    assert bool(tree) == bool(twin)


def test_a_tree_stays_shallow_whatever_order_ranges_come_in() -> None:
    for order in (range(2000), range(2000, 0, -1)):
        tree: RangeTree[int] = RangeTree()
        for number in order:
            tree.add(b"%05d" % number, b"9", number)
        assert tree._root is not None
        assert tree._root.height <= 15


@given(st.lists(st.one_of(keys, ranges), min_size=1, max_size=8), st.lists(keys))
def test_united_spans_hold_the_same_keys_each_in_one_of_them(
    spans: list[Span], asked: list[bytes]
) -> None:
    def holds(span: Span, key: bytes) -> bool:
        return key == span if isinstance(span, bytes) else span[0] <= key < span[1]

    found = united(spans)
    for key in asked:
        assert sum(holds(span, key) for span in found) == any(holds(span, key) for span in spans)
