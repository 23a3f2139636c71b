"""Staged reads like the base on which its effects were applied directly."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chainfire.storage.memory import MemoryBackend
from chainfire.storage.staged import Staged

KEYS = st.binary(max_size=2)
CHANGES = st.lists(st.tuples(KEYS, st.none() | st.binary(max_size=2)))


def _apply(backend: MemoryBackend, changes: list[tuple[bytes, bytes | None]]) -> None:
    batch = backend.batch()
    for key, value in changes:
        batch.delete("f", key) if value is None else batch.put("f", key, value)
    backend.write(batch)


@given(
    CHANGES,
    st.lists(st.tuples(CHANGES, KEYS, st.none() | KEYS, st.booleans()), max_size=4),
)
def test_reads_are_those_of_a_base_with_the_changes_applied(base_changes, rounds) -> None:
    base, twin = MemoryBackend(["f"]), MemoryBackend(["f"])
    _apply(base, base_changes)
    _apply(twin, base_changes)
    staged = Staged(base)
    for changes, lower, upper, reverse in rounds:
        for key, value in changes:
            staged.delete("f", key) if value is None else staged.put("f", key, value)
        _apply(twin, changes)
        assert list(staged.iterate("f", lower, upper, reverse=reverse)) == list(
            twin.iterate("f", lower, upper, reverse=reverse)
        )
        assert list(staged.keys("f", lower, upper)) == list(twin.keys("f", lower, upper))
        for key, _ in changes:
            assert staged.get("f", key) == twin.get("f", key)
    batch = base.batch()
    staged.drain_into(batch)
    base.write(batch)
    assert list(base.iterate("f")) == list(twin.iterate("f"))


@given(CHANGES, st.lists(st.tuples(CHANGES, KEYS, KEYS, st.booleans()), max_size=5), st.booleans())
def test_what_is_pinned_stays_as_it_was(base_changes, rounds, reverse) -> None:
    base = MemoryBackend(["f", "g"])
    _apply(base, base_changes)
    staged = Staged(base)
    pinned = []
    for changes, lower, upper, is_written in rounds:
        for key, value in changes:
            staged.delete("f", key) if value is None else staged.put("f", key, value)
        expected = list(staged.iterate("f", lower, upper, reverse=reverse))
        view = staged.pinned({"f": (lower, upper)})
        pinned.append((view, lower, upper, expected))
        if is_written:
            batch = base.batch()
            staged.drain_into(batch)
            base.write(batch)
            staged.clear()
    for view, lower, upper, expected in pinned:
        assert list(view.iterate("f", lower, upper, reverse=reverse)) == expected
        assert sorted(view.keys("f", lower, upper)) == sorted(key for key, _ in expected)
        assert all(view.get("f", key) == value for key, value in expected)


def test_iteration_does_not_see_changes_made_after_the_call() -> None:
    base = MemoryBackend(["f"])
    _apply(base, [(b"a", b"1"), (b"b", b"1"), (b"c", b"1")])
    staged = Staged(base)
    staged.put("f", b"bb", b"2")
    seen = []
    for key, _ in staged.iterate("f"):
        seen.append(key)
        staged.delete("f", key)
        staged.put("f", key + b"0", b"3")
    assert seen == [b"a", b"b", b"bb", b"c"]
    assert list(staged.keys("f")) == [b"a0", b"b0", b"bb0", b"c0"]


def test_take_rows_returns_each_change_once_in_writing_order() -> None:
    staged = Staged(MemoryBackend(["f", "g"]))
    staged.put("f", b"k", b"1")
    staged.delete("g", b"k")
    staged.put("f", b"k", b"2")
    assert staged.take_rows() == [
        ("f", b"k", b"1"),
        ("g", b"k", None),
        ("f", b"k", b"2"),
    ]
    staged.delete("f", b"k")
    assert staged.take_rows() == [("f", b"k", None)]
    assert staged.take_rows() == []


def test_a_key_changed_twice_is_one_row_of_the_batch() -> None:
    base = MemoryBackend(["f"])
    staged = Staged(base)
    staged.put("f", b"k", b"1")
    staged.put("f", b"k", b"2")
    batch = base.batch()
    staged.drain_into(batch)
    assert len(batch) == 1


def test_clear_forgets_rows_and_changes() -> None:
    base = MemoryBackend(["f"])
    _apply(base, [(b"a", b"1")])
    staged = Staged(base)
    staged.delete("f", b"a")
    staged.put("f", b"b", b"2")
    assert list(staged.iterate("f")) == [(b"b", b"2")]
    staged.clear()
    assert list(staged.iterate("f")) == [(b"a", b"1")]
    assert staged.take_rows() == []
