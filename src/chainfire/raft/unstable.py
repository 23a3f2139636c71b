"""Entries and a snapshot that are not known to be durable yet.

    ... stored ... | offset … in_progress-1 | in_progress … last_index
                     being written             to be handed out next

Invariants: offset <= in_progress <= last_index + 1; entries[i].index == offset + i.
`offset` moves only when storage says that what it holds now is this very entry,
by index and term: an older write of the same index may finish late (the ABA
race of asynchronous writes), and then says nothing about its replacement.
"""

from __future__ import annotations

from collections.abc import Sequence

from chainfire.raft.messages import Snapshot
from chainfire.types import Entry


class Unstable:
    __slots__ = (
        "entries",
        "in_progress",
        "last_index",
        "offset",
        "snapshot",
        "snapshot_in_progress",
    )

    def __init__(self, stored_last_index: int) -> None:
        self.entries: list[Entry] = []
        self.offset = self.in_progress = stored_last_index + 1
        self.last_index = stored_last_index  # of the whole log
        self.snapshot: Snapshot | None = None
        self.snapshot_in_progress = False

    def term(self, index: int) -> int | None:
        """Term at `index` if it is held here."""
        if index >= self.offset:
            return self.entries[index - self.offset].term if index <= self.last_index else None
        if self.snapshot is not None and self.snapshot.index == index:
            return self.snapshot.term
        return None

    def append(self, entries: Sequence[Entry]) -> None:
        """Put entries behind the log, or over its end from their first index on."""
        first = entries[0].index
        if first == self.last_index + 1:
            self.entries.extend(entries)
        elif first <= self.offset:
            # Stored entries, or a write under way, will be replaced by these.
            self.entries = list(entries)
            self.offset = self.in_progress = first
        else:
            del self.entries[first - self.offset :]
            self.entries.extend(entries)
            self.in_progress = min(self.in_progress, first)
        self.last_index = entries[-1].index

    def restore(self, snapshot: Snapshot) -> None:
        """Nothing of the log counts any more; it begins behind the snapshot."""
        self.entries = []
        self.offset = self.in_progress = snapshot.index + 1
        self.last_index = snapshot.index
        self.snapshot = snapshot
        self.snapshot_in_progress = False

    # ── handing out and hearing back ────────────────────────────────────────

    def next_entries(self) -> list[Entry]:
        """Entries that nobody is writing yet."""
        return self.entries[self.in_progress - self.offset :]

    def next_snapshot(self) -> Snapshot | None:
        return None if self.snapshot_in_progress else self.snapshot

    def accept(self) -> None:
        """What `next_…` returned is being written now."""
        if self.entries:
            self.in_progress = self.last_index + 1
        if self.snapshot is not None:
            self.snapshot_in_progress = True

    def stable_to(self, index: int, term: int) -> None:
        """Everything up to the entry (index, term) is durable, if that entry is still the one."""
        if index < self.offset or self.term(index) != term:
            return
        if index == self.last_index:
            self.all_stable()
            return
        del self.entries[: index + 1 - self.offset]
        self.offset = index + 1
        if self.in_progress < self.offset:
            self.in_progress = self.offset

    def all_stable(self) -> None:
        """All of the log is durable."""
        self.entries = []
        self.offset = self.in_progress = self.last_index + 1

    def stable_snapshot_to(self, index: int) -> None:
        if self.snapshot is not None and self.snapshot.index == index:
            self.snapshot = None
            self.snapshot_in_progress = False
