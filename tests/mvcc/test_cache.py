from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chainfire.mvcc.cache import ENTRY_OVERHEAD_BYTES, RowCache

SMALL_KEYS = st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"f", b"g"])


@given(
    st.integers(0, 2000),
    st.lists(st.tuples(SMALL_KEYS, st.one_of(st.none(), st.integers(0, 400)))),
)
def test_the_cache_never_tells_a_stale_row_and_stays_within_its_bytes(
    bytes_max: int, steps: list[tuple[bytes, int | None]]
) -> None:
    cache, truth = RowCache(bytes_max), {}
    for number, (key, size) in enumerate(steps):
        if size is None:
            cache.drop(key)
            truth.pop(key, None)
        else:
            row = number.to_bytes(2) + bytes(size)
            cache.put(key, row)
            truth[key] = row
        found = {k: cache.get(k) for k in (b"a", b"b", b"c", b"d", b"e", b"f", b"g")}
        assert all(row is None or row == truth[k] for k, row in found.items())
        held = sum(len(k) + len(r) + ENTRY_OVERHEAD_BYTES for k, r in found.items() if r)
        assert held <= bytes_max


def test_a_hot_row_outlives_any_number_of_cold_ones() -> None:
    cache = RowCache(10 * 2 * (ENTRY_OVERHEAD_BYTES + 4))
    cache.put(b"hot", b"1")
    for number in range(1000):
        cache.put(b"%03d" % number, b"2")
        assert cache.get(b"hot") == b"1"
    assert len(cache) <= 20


def test_nothing_is_given_up_before_there_are_too_many_bytes() -> None:
    row_bytes = 8 + ENTRY_OVERHEAD_BYTES + 8
    cache = RowCache(1000 * row_bytes)
    for number in range(1000):
        cache.put(b"%08d" % number, b"1" * 8)
    assert len(cache) == 1000
    assert all(cache.get(b"%08d" % number) for number in range(1000))


def test_what_was_new_lately_is_there_where_all_does_not_fit() -> None:
    row_bytes = 8 + ENTRY_OVERHEAD_BYTES + 8
    cache = RowCache(1000 * row_bytes)
    for number in range(5000):
        cache.put(b"%08d" % number, b"1" * 8)
        if number > 1600:
            assert cache.get(b"%08d" % (number - 200)), number
            assert len(cache) > 400


def test_a_row_that_is_put_again_and_again_drives_nothing_out() -> None:
    cache = RowCache(1000)
    cache.put(b"quiet", b"1")
    for _ in range(100):
        cache.put(b"loud", b"2")
    assert cache.get(b"quiet") == b"1"
