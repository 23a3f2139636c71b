"""Peace lasts longer for members that are slow by their limits, and for nobody else."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from chainfire.raft.config import Config
from chainfire.sim.pace import Lag, entries_at_best, needed_us
from chainfire.sim.run import run_shape
from chainfire.sim.schedule import SECOND
from chainfire.sim.shape import Network, Shape

PROLONGED = "peace prolonged for who is slow"


def limited(append_bytes_max: int, inflight_messages_max: int) -> Config:
    return Config(
        id=1,
        draw=Random(1).randrange,
        append_bytes_max=append_bytes_max,
        inflight_messages_max=inflight_messages_max,
    )


@pytest.mark.parametrize(
    ("append_bytes_max", "inflight_messages_max", "entries"),
    [
        (1, 1, 94),  # a round of 10.6 ms for each
        (1, 4, 377),
        (500, 1, 188),
        (1 << 20, 256, 126_580_000),  # as in production: nobody is ever that slow
    ],
)
def test_limits_tell_the_pace(
    append_bytes_max: int, inflight_messages_max: int, entries: int
) -> None:
    shape = Shape(seed=1, sync_us=8000, turn_us=1000)
    config = limited(append_bytes_max, inflight_messages_max)
    assert entries_at_best(config, shape, SECOND) == pytest.approx(entries, rel=0.001)


@pytest.mark.parametrize(
    ("lags", "seconds"),
    [
        ([], 0),  # something else is wrong
        ([Lag(101, 499)], 0),
        ([Lag(5000, 600), Lag(200, 0)], 0),  # one is stuck
        ([Lag(200, 500)], 42),  # 12 s at 500 in 30 s, and 30 s
        ([Lag(200, 3000), Lag(5000, 600)], 330),
    ],
)
def test_who_keeps_half_the_pace_has_as_long_as_the_rest_takes(
    lags: list[Lag], seconds: int
) -> None:
    assert needed_us(lags, 1000, 30 * SECOND) == seconds * SECOND


def slow(**fields: Any) -> Shape:
    """One entry at a time, by a line that loses two messages of five; no snapshots."""
    return Shape(
        network=Network(delay_us=2000, loss=0.4),
        sync_us=8000,
        turn_us=1000,
        calls_per_second=15,
        append_bytes_max=1,
        inflight_messages_max=1,
        catchup_entries=1 << 30,
        **fields,
    )


def test_a_write_gets_the_time_for_all_that_is_before_it_in_the_log() -> None:
    """As seed 7000075 of 30 s, which showed it: nobody could apply anything, since the leader's
    own first entry lay behind some thousands that it had inherited.
    """
    shape = slow(seed=6, members=2, seconds=20, feed_per_second=400, faults=("isolate_leader",))
    outcome = run_shape(shape)
    assert not outcome.broken
    assert outcome.branches[PROLONGED] == 1


def test_a_learner_that_takes_entry_by_entry_gets_the_time_for_all_of_them() -> None:
    """As seed 3000655 of 30 s, which showed it: 3,300 entries behind, and 24 fewer each second."""
    shape = slow(seed=1, members=2, learners=1, seconds=8, feed_per_second=70, feed_batch=4)
    outcome = run_shape(shape)
    assert not outcome.broken
    assert outcome.branches[PROLONGED] == 1
