"""How many entries a leader's limits let through to a member: slow is not the same as stuck.

Peace has a bound. With one entry to a message and one message under way a
member takes 95 entries per second from a slow disk, while 75 new ones come:
some thousands behind, it needs minutes, and nothing is wrong. Whoever takes
far fewer than these limits allow is stuck; the others have as long as the rest
takes at half of that pace.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from chainfire.raft.config import Config
from chainfire.sim.shape import Network, Shape

ENTRY_BYTES: Final = 200  # more than most


def entries_at_best(config: Config, shape: Shape, duration_us: int) -> int:
    """In good weather, from one answer to the next."""
    weather = Network()
    way_us = weather.delay_us + weather.jitter_us
    round_us = 2 * way_us + shape.turn_us + shape.sync_us
    each = max(1, config.append_bytes_max // ENTRY_BYTES)
    return duration_us * config.inflight_messages_max * each // round_us


class Lag(NamedTuple):
    """Of one member, in entries."""

    lacking: int
    took: int  # lately


def needed_us(lags: Sequence[Lag], at_best: int, duration_us: int) -> int:
    """For how much longer these may lag behind, after `duration_us` in which they might have taken
    `at_best` entries. 0: nobody does, or somebody is stuck.
    """
    least = at_best // 2
    if not lags or any(lag.took < least for lag in lags):
        return 0
    rest = max(lag.lacking for lag in lags)
    return duration_us + duration_us * rest // max(1, least)
