"""Medians over the rounds, ratios within each round, and the machine they were taken on."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench.h2load import Sample


@dataclass(frozen=True, slots=True)
class Measured:
    """One run on one server; CPU is the server's, all threads."""

    sample: Sample
    cpu_us: float


@dataclass(slots=True)
class Row:
    """One load at one number in flight: the runs of both servers, round by round."""

    load: str
    in_flight: int
    peer: list[Measured] = field(default_factory=list)
    ours: list[Measured] = field(default_factory=list)

    def ratios(self) -> list[float]:
        pairs = zip(self.ours, self.peer, strict=True)
        return [ours.sample.per_second / peer.sample.per_second for ours, peer in pairs]


HOT_KEY = "load, one hot key"
HEADER = (
    "in flight",
    "server",
    "per s",
    "p50 ms",
    "p99 ms",
    "CPU µs",
    "ratio",
)


def lines_of(row: Row, peer: str, ours: str) -> list[list[str]]:
    """Two lines: the peer's figures, then ours with the ratio of the rates."""
    ratios = row.ratios()
    spread = f" ({min(ratios):.2f}–{max(ratios):.2f})" if len(ratios) > 1 else ""
    ratio = f"{median(ratios):.2f}{spread}"
    begin = [row.load, str(row.in_flight)]
    return [[*begin, peer, *_figures(row.peer), ""], [*begin, ours, *_figures(row.ours), ratio]]


def _figures(runs: Sequence[Measured]) -> list[str]:
    return [
        f"{median(run.sample.per_second for run in runs):,.0f}",
        f"{median(run.sample.p50_ms for run in runs):.2f}",
        f"{median(run.sample.p99_ms for run in runs):.2f}",
        microseconds(median(run.cpu_us for run in runs)),
    ]


def microseconds(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def as_text(rows: Sequence[Row], peer: str, ours: str, what: str = HOT_KEY) -> str:
    table = [[what, *HEADER], *(line for row in rows for line in lines_of(row, peer, ours))]
    return aligned(table)


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """For a terminal."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )


def piped(lines: Sequence[Sequence[str]]) -> str:
    """For Markdown."""
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def as_markdown(rows: Sequence[Row], peer: str, ours: str, what: str = HOT_KEY) -> str:
    rule = ["---", "---:", "---", "---:", "---:", "---:", "---:", "---:"]
    table = [[what, *HEADER], rule, *(line for row in rows for line in lines_of(row, peer, ours))]
    return piped(table)


def machine(directory: Path) -> str:
    """Processor, cores, memory, kernel and the filesystem of the data directories."""
    model = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    filesystem = subprocess.run(
        ["df", "--output=fstype", str(directory)], capture_output=True, text=True, check=False
    ).stdout.split()
    return ", ".join(
        [
            model[1] if model else platform.machine(),
            f"{os.cpu_count()} cores shared by server and load generator",
            f"{int(memory[1]) // 2**20} GiB memory" if memory else "",
            f"Linux {platform.release()}",
            f"{filesystem[-1]} filesystem" if filesystem else "",
            f"Python {platform.python_version()}",
        ]
    )
