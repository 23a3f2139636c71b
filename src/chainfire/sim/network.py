"""The wires between members: each directed pair has its own weather.

As over TCP: what was sent to an earlier life of a member never reaches the
next one, because the connection has gone with it, and nothing overtakes what
was sent before it. Harsher than TCP, in some seeds and in storms: messages are
lost one by one, doubled, and overtake each other. What is sent while a link is
slow takes a way of its own, and may arrive behind what is sent when it is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from chainfire.sim.schedule import Schedule, dice
from chainfire.sim.shape import Network as Weather

Deliver = Callable[[int, int, int, Any], None]  # sender, to, its life, what


@dataclass(slots=True)
class Counts:
    sent: int = 0
    lost: int = 0
    doubled: int = 0
    late: int = 0
    cut: int = 0  # met a partition


class Network:
    def __init__(self, schedule: Schedule, seed: int, weather: Weather) -> None:
        self._schedule = schedule
        self._dice = dice(seed, "network")
        self.weather = weather
        self.counts = Counts()
        self._blocked: dict[tuple[int, int], int] = {}  # directed pair: until when
        self._slow: dict[tuple[int, int], tuple[int, int]] = {}  # until when, how much later
        self._storm_until = 0
        self._arrives: dict[tuple[int, int], int] = {}  # directed pair: when the last one does

    # ── weather ─────────────────────────────────────────────────────────────

    def block(self, pairs: Iterable[tuple[int, int]], until: int) -> None:
        for pair in pairs:
            self._blocked[pair] = max(until, self._blocked.get(pair, 0))

    def is_blocked(self, sender: int, to: int) -> bool:
        return self._blocked.get((sender, to), 0) > self._schedule.now

    def unblock(self, pairs: Iterable[tuple[int, int]]) -> None:
        for pair in pairs:
            self._blocked.pop(pair, None)

    def slow_down(self, pair: tuple[int, int], until: int, delay_us: int) -> None:
        self._slow[pair] = until, delay_us

    def storm(self, until: int) -> None:
        self._storm_until = until

    def heal(self) -> None:
        """Good weather from now on."""
        self.weather = Weather()
        self._blocked.clear()
        self._slow.clear()
        self._storm_until = 0

    @property
    def is_calm(self) -> bool:
        """Nothing that is sent now meets a fate of its own."""
        weather = self.weather
        rough = weather.loss or weather.duplicates or weather.reordering
        return not rough and self._storm_until <= self._schedule.now

    # ── messages ────────────────────────────────────────────────────────────

    def send(self, sender: int, to: int, life: int, what: Any, deliver: Deliver) -> bool:
        """Maybe `deliver` it, maybe more than once. False: the sender may notice the loss."""
        schedule, weather, roll = self._schedule, self.weather, self._dice.random
        now, counts = schedule.now, self.counts
        counts.sent += 1
        pair = (sender, to)
        if self._blocked and self._blocked.get(pair, 0) > now:
            counts.cut += 1
            return False
        loss = weather.loss
        storm = self._storm_until > now
        if storm:
            loss = max(loss, 0.3)
        if loss and roll() < loss:
            counts.lost += 1
            return roll() < 0.5
        delay = weather.delay_us + int(weather.jitter_us * 2 * roll())
        if weather.reordering and roll() < weather.reordering:
            counts.late += 1
            delay += int(roll() * roll() * 400_000)
        if storm:
            delay += int(roll() * 200_000)
        if not (weather.reordering or storm):
            delay = max(delay, self._arrives.get(pair, 0) - now)
            self._arrives[pair] = now + delay
        if self._slow:
            until, later = self._slow.get(pair, (0, 0))
            if until > now:
                delay += later
        schedule.after(delay, deliver, sender, to, life, what)
        if weather.duplicates and roll() < weather.duplicates:
            counts.doubled += 1
            schedule.after(delay + int(roll() * 300_000), deliver, sender, to, life, what)
        return True
