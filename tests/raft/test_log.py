from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainfire.errors import Damaged
from chainfire.raft.config import UNLIMITED
from chainfire.raft.log import ENTRY_OVERHEAD_BYTES, RaftLog, limited
from chainfire.types import Entry
from tests.raft.build import log_of


def raft_log(*terms: int, base: tuple[int, int] = (0, 0), room: int = UNLIMITED) -> RaftLog:
    return RaftLog(log_of(*terms, base=base), room)


def entries(first: int, *terms: int) -> list[Entry]:
    return [Entry(term, first + at) for at, term in enumerate(terms)]


def terms_of(log: RaftLog) -> list[int | None]:
    return [log.term(index) for index in range(log.first_index, log.last_index + 1)]


def test_term_is_unknown_and_not_zero_where_the_log_does_not_reach() -> None:
    """raft#31: an append behind (5, term 0) matched a hole and the follower panicked later."""
    log = raft_log(1, 1, base=(10, 1))
    assert [log.term(index) for index in (9, 10, 12, 13)] == [None, 1, 1, None]
    assert log.maybe_append(5, 0, entries(6, 1), 6) is None


def test_newer_log_is_decided_by_the_pair() -> None:
    log = raft_log(1, 2, 2)
    assert log.is_up_to_date(3, 2) and log.is_up_to_date(1, 3)
    assert not log.is_up_to_date(2, 2) and not log.is_up_to_date(9, 1)


def test_append_truncates_only_at_a_conflict() -> None:
    log = raft_log(1, 1, 1, 1)
    assert log.maybe_append(1, 1, entries(2, 1), 0) == 2
    assert terms_of(log) == [1, 1, 1, 1]
    assert log.maybe_append(1, 1, entries(2, 1, 2), 0) == 3
    assert terms_of(log) == [1, 1, 2]


def test_commit_moves_no_further_than_this_append_verified() -> None:
    """copycat#265: behind a verified entry may stand a stale suffix."""
    log = raft_log(1, 1, 1, 1)
    assert log.maybe_append(2, 1, [], 4) == 2
    assert log.committed == 2
    assert log.maybe_append(2, 1, entries(3, 1), 4) == 3
    assert log.committed == 3


def test_commit_never_moves_back() -> None:
    log = raft_log(1, 1, 1)
    log.commit_to(3)
    log.commit_to(1)
    assert log.committed == 3


def test_commit_beyond_the_log_is_damage() -> None:
    """etcd#10166: an unsynced tail was lost, and every start panicked."""
    log = raft_log(1)
    with pytest.raises(Damaged, match=r"entry 5 .* ends at 1"):
        log.commit_to(5)


def test_conflict_with_a_committed_entry_is_never_written() -> None:
    log = raft_log(1, 1)
    log.commit_to(2)
    with pytest.raises(AssertionError):
        log.maybe_append(1, 1, entries(2, 2), 2)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=12), st.integers(0, 15), st.integers(0, 8))
def test_search_by_term_is_what_a_walk_finds(steps: list[int], index: int, term: int) -> None:
    log_terms = [sum(steps[: at + 1]) + 1 for at in range(len(steps))]
    log = raft_log(*log_terms, base=(3, 1))

    def walk(at: int) -> tuple[int, int]:
        while at > 0:
            known = log.term(at)
            if known is None:
                return at, 0
            if known <= term:
                return at, known
            at -= 1
        return 0, 0

    assert log.last_index_not_above(index, term) == walk(index)


@given(st.lists(st.integers(0, 40), max_size=12), st.integers(0, 120))
def test_limit_takes_the_longest_prefix_that_fits_and_at_least_one(
    sizes: list[int], bytes_max: int
) -> None:
    items = [Entry(1, at, data=b"x" * size) for at, size in enumerate(sizes, 1)]
    taken, size = limited(items, bytes_max)
    weights = [len(item.data) + ENTRY_OVERHEAD_BYTES for item in items]
    assert taken == items[: len(taken)] and size == sum(weights[: len(taken)])
    assert len(taken) >= min(1, len(items))
    assert size <= bytes_max or len(taken) == 1 or not items
    assert len(taken) == len(items) or size + weights[len(taken)] > bytes_max


def test_pages_to_apply_share_one_limit_and_skip_nothing() -> None:
    """raft 2e0653d and 8ecce32."""
    log = raft_log(1, 1, 1, 1, room=2 * ENTRY_OVERHEAD_BYTES + 1)
    log.commit_to(4)
    seen: list[int] = []
    while len(seen) < 4:
        page, size = log.next_committed(True)
        log.accept_applying(page[-1].index, size, True)
        assert not log.has_next_committed(True)
        seen += [entry.index for entry in page]
        log.applied_to(page[-1].index)
    assert seen == [1, 2, 3, 4] and log.committed == 4


def test_followers_at_one_place_share_one_list() -> None:
    log = raft_log(1)
    log.append(entries(2, 1, 1))
    assert log.entries_from(2, UNLIMITED)[0] is log.entries_from(2, UNLIMITED)[0]
    log.append(entries(4, 1))
    assert len(log.entries_from(2, UNLIMITED)[0]) == 3


def test_unstable_entries_are_not_applied_while_storage_is_asynchronous() -> None:
    log = raft_log(1)
    log.append(entries(2, 1))
    log.commit_to(2)
    assert [entry.index for entry in log.next_committed(False)[0]] == [1]
    assert [entry.index for entry in log.next_committed(True)[0]] == [1, 2]
