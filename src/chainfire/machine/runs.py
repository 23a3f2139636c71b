"""Runs of plain puts of one sender, in the order of its sequences, each staged in one call."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from chainfire.machine.plain import PUT, Plain
from chainfire.types import Entry

RUN_MAX: Final = 256  # entries


@dataclass(slots=True, init=False)
class Run:
    entries: list[Entry]
    plains: list[Plain]

    def __init__(self, entries: list[Entry], plains: list[Plain]) -> None:
        self.entries = entries
        self.plains = plains

    @property
    def row_keys(self) -> list[bytes]:
        return [plain[6][0] for plain in self.plains]

    def cut(self, count: int) -> None:
        """Only so many of them."""
        del self.entries[count:], self.plains[count:]


def run_of(
    entry: Entry,
    first: Plain,
    behind: Iterable[tuple[Entry, tuple[object, object] | Plain | None]],
    bytes_max: int,
) -> Run | None:
    """The run that begins with this put, and goes on in what is decoded `behind` it; None: it is
    alone. `bytes_max` bounds their data.

    All of them are accepted if the first one is: as from `Sender.expects`, one by one.
    """
    member_id, start_number, sequence = first[:3]
    if first[3] > sequence:
        return None
    run = Run([entry], [first])
    entries, plains, term = run.entries, run.plains, entry.term
    size = len(entry.data)
    for other, decoded in behind:
        sequence += 1
        size += len(other.data)
        if (
            decoded is None
            or len(decoded) == 2
            or decoded[5] != PUT
            or decoded[2] != sequence
            or decoded[0] != member_id
            or decoded[1] != start_number
            or decoded[3] > sequence
            or other.term != term
            or len(entries) >= RUN_MAX
            or size > bytes_max
        ):
            break
        entries.append(other)
        plains.append(decoded)
    return run if len(entries) > 1 else None
