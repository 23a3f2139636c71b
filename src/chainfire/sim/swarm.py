"""What many seeds add up to, as plain data and as text that a stranger understands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Final

from chainfire.sim.run import HOUR_US, Outcome
from chainfire.sim.shape import EVERY_FAULT

# What need not happen in a run, so that a swarm tells what never did; beside these, which errors
# clients were answered.
RARE_BRANCHES: Final = (
    "applies put off",
    "commands refused",
    "commands void",
    "compactions",
    "connections closed",
    "died: DiskFull",
    "died: SyncFailed",
    "died: is an older copy",
    "died: killed",
    "died: lost its disk",
    "died: power cut",
    "died: power cut while starting",
    "died: power loss",
    "died: removed",
    "died: restarted",
    "died: set back",
    "died: spared",
    "durable entries replaced",
    "elections won",
    "lease clocks that go on with what was told",
    "leases expired",
    "leases revoked",
    "logs cut",
    "lost disks made good",
    "messages cut",
    "messages doubled",
    "messages late",
    "messages lost",
    "older copies found",
    "outcomes unknown",
    "peace prolonged for who is slow",
    "quorums lost",
    "snapshots installed",
    "snapshots sent",
    "starts refused by the disk",
    "starts that replay",
    "turns stalled",
    "watch events checked",
    "writes garbled",
)


@dataclass(slots=True)
class Summary:
    """Of the seeds so far. `+=` another part's."""

    seeds: int = 0
    broken: list[tuple[int, str]] = field(default_factory=list)  # (seed, what)
    counting_us: int = 0  # of chaos with three members or more, faults, and proposals enough
    events: int = 0
    operations: int = 0
    answered: int = 0
    writes: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    branches: Counter[str] = field(default_factory=Counter)
    # By how many members have founded the cluster.
    cpu_us: Counter[int] = field(default_factory=Counter)
    simulated_us: Counter[int] = field(default_factory=Counter)

    def add(self, outcome: Outcome, cpu_seconds: float) -> None:
        self.seeds += 1
        self.cpu_us[outcome.shape.members] += int(cpu_seconds * 1e6)
        self.simulated_us[outcome.shape.members] += outcome.simulated_us
        if outcome.broken:
            self.broken.append((outcome.shape.seed, outcome.broken))
        self.counting_us += outcome.shape.chaos_us if outcome.counts else 0
        self.events += outcome.events
        self.operations += outcome.operations
        self.answered += outcome.answered
        self.writes += outcome.writes
        self.faults += outcome.faults
        self.branches += outcome.branches

    def __iadd__(self, other: Summary) -> Summary:
        for item in fields(self):
            setattr(self, item.name, getattr(self, item.name) + getattr(other, item.name))
        return self

    def pace(self, least: int, most: int) -> float:
        """How many times as fast as in real time one core simulates clusters founded by so many."""
        sizes = range(least, most + 1)
        cpu_us = sum(self.cpu_us[size] for size in sizes)
        return sum(self.simulated_us[size] for size in sizes) / max(cpu_us, 1)


def lines(summary: Summary, wall_seconds: float) -> Iterator[str]:
    cpu = max(summary.cpu_us.total() / 1e6, 1e-9)
    simulated_us = summary.simulated_us.total()
    paces = ", ".join(
        f"{summary.pace(least, most):,.0f} × with {who}"
        for least, most, who in ((1, 2, "one or two members"), (3, 5, "three to five"))
        if any(summary.cpu_us[size] for size in range(least, most + 1))
    )
    yield (
        f"{summary.seeds:,} seeds in {wall_seconds:,.0f} s, "
        f"{summary.seeds / max(wall_seconds, 1e-9):.2f} per second, "
        f"{summary.seeds / cpu:.2f} per CPU second"
    )
    yield (
        f"{simulated_us / HOUR_US:,.2f} simulated hours, "
        f"{simulated_us / 1e6 / cpu:,.0f} × real time per core ({paces}); "
        f"{summary.counting_us / HOUR_US:,.2f} of them under faults and load, three members or more"
    )
    yield (
        f"{summary.events:,} events, {summary.operations:,} client operations checked "
        f"({summary.answered:,} answered), {summary.writes:,} revisions"
    )
    yield from _table("faults", summary.faults, sorted(EVERY_FAULT))
    yield from _table(
        "rare branches", summary.branches, sorted({*RARE_BRANCHES, *summary.branches})
    )
    for seed, what in summary.broken[:20]:
        yield f"BROKEN seed {seed}: {what[:300]}"
    yield f"{len(summary.broken)} seeds broke a promise"


def _table(title: str, counts: Counter[str], names: list[str]) -> Iterator[str]:
    yield f"{title}:"
    for name in names:
        yield f"  {counts[name]:>12,}  {name}" + ("" if counts[name] else "   (never)")
