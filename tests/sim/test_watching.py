"""Readers are heard out before what they have heard is judged."""

from __future__ import annotations

from chainfire.sim.schedule import SECOND
from chainfire.sim.shape import Shape
from chainfire.sim.watching import QUIET_US, WatchClient, hear_out
from chainfire.sim.world import World

PERIOD_US = QUIET_US - SECOND // 2  # between two events that a slow reader hears of


def slow_readers(events: int) -> World:
    """Of two readers the second one is told of an event in each period."""
    world = World(Shape(seed=1, watchers=2))
    reader = world.watchers[1]

    def hear(reader: WatchClient) -> None:
        reader.heard_at = world.schedule.now

    for period in range(1, events + 1):
        world.schedule.at(period * PERIOD_US, hear, reader)
    return world


def test_slow_reader_far_behind_is_waited_for() -> None:
    world = slow_readers(events=5)
    hear_out(world.schedule, world.watchers, 30 * SECOND)
    assert world.watchers[1].heard_at == 5 * PERIOD_US
    assert world.schedule.now >= 5 * PERIOD_US + QUIET_US


def test_who_hears_nothing_is_waited_for_once() -> None:
    world = slow_readers(events=0)
    hear_out(world.schedule, world.watchers, 30 * SECOND)
    assert world.schedule.now == QUIET_US


def test_nobody_is_waited_for_without_end() -> None:
    world = slow_readers(events=100)
    hear_out(world.schedule, world.watchers, 30 * SECOND)
    assert world.schedule.now == 30 * SECOND
