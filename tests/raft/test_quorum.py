from __future__ import annotations

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from chainfire.raft.quorum import (
    EVERYTHING,
    Verdict,
    committed_index,
    joint_committed_index,
    joint_vote_verdict,
    vote_verdict,
)

IDS = st.sets(st.integers(1, 7), max_size=7)
MATCHES = st.dictionaries(st.integers(1, 7), st.integers(0, 9))
VOTES = st.dictionaries(st.integers(1, 7), st.booleans())


def slow_committed(voters: set[int], matches: dict[int, int]) -> int:
    """The highest index for which a head count finds a majority."""
    if not voters:
        return EVERYTHING
    for index in range(9, 0, -1):
        if 2 * sum(matches.get(voter, 0) >= index for voter in voters) > len(voters):
            return index
    return 0


def slow_verdict(voters: set[int], votes: dict[int, bool]) -> Verdict:
    """Play out every way in which the missing votes may still be cast."""
    missing = [voter for voter in sorted(voters) if voter not in votes]
    outcomes = set()
    for cast in product((True, False), repeat=len(missing)):
        final = votes | dict(zip(missing, cast, strict=True))
        outcomes.add(2 * sum(final[voter] for voter in voters) > len(voters) or not voters)
    if outcomes == {True}:
        return Verdict.WON
    return Verdict.LOST if outcomes == {False} else Verdict.PENDING


@settings(max_examples=300)
@given(IDS, MATCHES)
def test_committed_index_is_what_a_head_count_finds(
    voters: set[int], matches: dict[int, int]
) -> None:
    assert committed_index(voters, matches) == slow_committed(voters, matches)


@settings(max_examples=300)
@given(IDS, VOTES)
def test_verdict_is_final_exactly_when_no_missing_vote_can_change_it(
    voters: set[int], votes: dict[int, bool]
) -> None:
    assert vote_verdict(voters, votes) is slow_verdict(voters, votes)


@given(IDS, IDS, MATCHES)
def test_joint_quorum_commits_what_both_halves_commit(
    incoming: set[int], outgoing: set[int], matches: dict[int, int]
) -> None:
    both = min(slow_committed(incoming, matches), slow_committed(outgoing, matches))
    assert joint_committed_index(incoming, outgoing, matches) == both


@given(IDS, IDS, VOTES)
def test_joint_vote_is_won_by_both_halves_and_lost_by_either(
    incoming: set[int], outgoing: set[int], votes: dict[int, bool]
) -> None:
    halves = {slow_verdict(incoming, votes), slow_verdict(outgoing, votes)}
    verdict = joint_vote_verdict(incoming, outgoing, votes)
    assert (verdict is Verdict.WON) == (halves == {Verdict.WON})
    assert (verdict is Verdict.LOST) == (Verdict.LOST in halves)
    assert joint_vote_verdict(outgoing, incoming, votes) is verdict
