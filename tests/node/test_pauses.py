"""The collector's pauses are noted while somebody wants to know of them."""

from __future__ import annotations

import gc

from chainfire.node.pauses import CollectorPauses


def test_a_pause_counts_between_begin_and_end_only() -> None:
    pauses = CollectorPauses()
    gc.collect()
    assert pauses.seconds_max == 0.0
    pauses.begin()
    pauses.begin()
    try:
        gc.collect()
    finally:
        pauses.end()
    longest = pauses.seconds_max
    assert longest > 0.0
    rings = [[] for _ in range(200_000)]  # type: list[list[object]]
    for ring in rings:
        ring.append(ring)
    gc.collect()
    assert pauses.seconds_max == longest
