"""What the oracle asks of a leader."""

from __future__ import annotations

import pytest

from chainfire.sim.oracle import committed_before


@pytest.mark.parametrize(
    ("term", "ends", "index"),
    [
        (1, {}, 1),
        (4, {2: 461}, 461),
        (5, {2: 461, 4: 500}, 500),
        (4, {2: 461, 5: 537}, 461),  # it was paused with its votes in hand, and 5 was elected
        (6, {2: 461, 5: 537}, 537),
    ],
)
def test_a_leader_holds_what_earlier_terms_have_committed(
    term: int, ends: dict[int, int], index: int
) -> None:
    assert committed_before(term, ends) == index
