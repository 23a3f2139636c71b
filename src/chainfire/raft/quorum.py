"""Arithmetic of majorities and of two majorities at once (joint consensus, thesis §4.3).

Nothing here knows members; sets of ids and what is known of each go in, a
number or a verdict comes out. The empty set agrees to everything, which makes
it the neutral half of a joint configuration.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import IntEnum
from typing import Final

EVERYTHING: Final = 2**64 - 1  # what an empty quorum has committed


class Verdict(IntEnum):
    PENDING = 1
    LOST = 2
    WON = 3


def committed_index(voters: Collection[int], matches: Mapping[int, int]) -> int:
    """The highest index that a majority of `voters` holds; an absent match counts as 0."""
    count = len(voters)
    if count == 1:
        for voter in voters:
            return matches.get(voter, 0)
    if not count:
        return EVERYTHING
    return majority_index([matches.get(voter, 0) for voter in voters])


def majority_index(matches: list[int]) -> int:
    """The highest index that a majority of these has reached; there is one at least."""
    # n - (n // 2 + 1) voters may be behind it. Even n included: hashicorp/raft 163a55f.
    return sorted(matches)[(len(matches) - 1) // 2]


def joint_committed_index(
    incoming: Collection[int], outgoing: Collection[int], matches: Mapping[int, int]
) -> int:
    """Both halves must hold it (openraft 6c0ccaf3 asked only one)."""
    index = committed_index(incoming, matches)
    return min(index, committed_index(outgoing, matches)) if outgoing else index


def vote_verdict(voters: Collection[int], votes: Mapping[int, bool]) -> Verdict:
    """WON once a majority said yes, LOST once no majority can say yes any more."""
    if not voters:
        return Verdict.WON
    needed = len(voters) // 2 + 1
    yes = no = 0
    for voter in voters:
        vote = votes.get(voter)
        if vote is True:
            yes += 1
        elif vote is False:
            no += 1
    if yes >= needed:
        return Verdict.WON
    return Verdict.LOST if len(voters) - no < needed else Verdict.PENDING


def joint_vote_verdict(
    incoming: Collection[int], outgoing: Collection[int], votes: Mapping[int, bool]
) -> Verdict:
    """WON by both halves; LOST by either."""
    first, second = vote_verdict(incoming, votes), vote_verdict(outgoing, votes)
    if first is second:
        return first
    if Verdict.LOST in (first, second):
        return Verdict.LOST
    return Verdict.PENDING
