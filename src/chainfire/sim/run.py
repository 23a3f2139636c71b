"""One seed from beginning to end, as plain data: what happened, and whether anything was broken."""

from __future__ import annotations

import gc
import traceback
from collections import Counter
from dataclasses import dataclass, field

from chainfire.sim.course import Course
from chainfire.sim.history import Refused, Violation
from chainfire.sim.schedule import SECOND
from chainfire.sim.shape import Shape
from chainfire.sim.world import World

# Of an hour that counts (docs/verification.md).
COUNTING_PROPOSALS_PER_SECOND = 50
COUNTING_EVENTS_PER_HOUR = 1_000_000
HOUR_US = 3600 * SECOND


@dataclass(slots=True)
class Outcome:
    shape: Shape
    broken: str = ""  # which promise, or what was raised; empty: all is well
    traceback: str = ""
    digest: int = 0  # of the trace
    events: int = 0
    chaos_events: int = 0
    simulated_us: int = 0
    operations: int = 0
    answered: int = 0
    writes: int = 0  # revisions
    entries: int = 0  # committed in chaos
    faults: Counter[str] = field(default_factory=Counter)
    branches: Counter[str] = field(default_factory=Counter)
    trace: list[str] = field(default_factory=list)

    @property
    def counts(self) -> bool:
        """Whether its chaos counts as simulated under load and faults."""
        shape, seconds = self.shape, self.shape.seconds
        return (
            bool(self.faults)
            and shape.members >= 3
            and self.entries >= COUNTING_PROPOSALS_PER_SECOND * seconds
            and self.chaos_events >= COUNTING_EVENTS_PER_HOUR * shape.chaos_us / HOUR_US
        )

    @property
    def kind(self) -> str:
        """What was broken, without the numbers: two runs with the same fault have the same."""
        words = self.broken.split()
        return " ".join(word for word in words[:12] if word.isalpha())


def run_shape(shape: Shape, *, traced: bool = False) -> Outcome:
    collects = gc.isenabled()
    gc.disable()  # nearly all that is made lives as long as the run
    try:
        return _run(shape, traced)
    finally:
        gc.collect(0)  # its world, which is full of cycles
        if collects:
            gc.enable()


def _run(shape: Shape, traced: bool) -> Outcome:
    world = World(shape, traced=traced)
    outcome = Outcome(shape)
    try:
        Course(world).run()
    except Violation as violation:
        outcome.broken = str(violation)
    except Exception as exc:
        outcome.broken = f"{type(exc).__name__}: {exc}"
        outcome.traceback = traceback.format_exc()
    outcome.digest = world.digest & 0xFFFFFFFFFFFFFFFF
    outcome.events = world.schedule.events
    outcome.chaos_events = world.events
    outcome.simulated_us = world.schedule.now
    outcome.operations = len(world.history.operations)
    outcome.answered = sum(
        operation.response is not None and not isinstance(operation.response, Refused)
        for operation in world.history.operations
    )
    outcome.writes = world.oracle.revision - 1
    outcome.entries = world.entries
    outcome.faults = world.faults.counts
    outcome.branches = world.seen_branches()
    outcome.trace = world.lines or []
    world.forget()
    return outcome
