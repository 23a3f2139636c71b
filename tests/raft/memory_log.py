"""A log in memory: the reader that tests give to the core, and how they write it."""

from __future__ import annotations

from collections.abc import Sequence

from chainfire.raft.messages import Snapshot
from chainfire.types import ConfState, Entry, HardState


class MemoryLog:
    """What is written is durable at once; a test that crashes keeps copies."""

    def __init__(self, conf_state: ConfState | None = None) -> None:
        self.member = 0  # whose it is, for tests that look at several
        self.hard_state = HardState()
        self.conf_state = conf_state or ConfState()
        self.base = (0, 0)  # index and term of what precedes the first entry
        self.log: list[Entry] = []
        self.latest: Snapshot | None = None  # what a follower would be sent

    # ── LogReader ───────────────────────────────────────────────────────────

    def initial_state(self) -> tuple[HardState, ConfState]:
        return self.hard_state, self.conf_state

    def first_index(self) -> int:
        return self.base[0] + 1

    def last_index(self) -> int:
        return self.base[0] + len(self.log)

    def term(self, index: int) -> int:
        if index == self.base[0]:
            return self.base[1]
        if not self.first_index() <= index <= self.last_index():
            raise LookupError(index)
        return self.log[index - self.first_index()].term

    def entries(self, low: int, high: int, bytes_max: int) -> list[Entry]:
        if not self.first_index() <= low <= high <= self.last_index() + 1:
            raise LookupError((low, high))
        found: list[Entry] = []
        size = 0
        for entry in self.log[low - self.first_index() : high - self.first_index()]:
            size += len(entry.data)
            if found and size > bytes_max:
                break
            found.append(entry)
        return found

    def snapshot(self) -> Snapshot | None:
        return self.latest

    # ── writing ─────────────────────────────────────────────────────────────

    def append(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        first = entries[0].index
        assert self.first_index() <= first <= self.last_index() + 1, (first, self.last_index())
        del self.log[first - self.first_index() :]
        self.log.extend(entries)

    def compact(self, index: int) -> None:
        """Forget the entries up to and including `index`."""
        term = self.term(index)
        del self.log[: index + 1 - self.first_index()]
        self.base = (index, term)

    def install(self, snapshot: Snapshot) -> None:
        self.log = []
        self.base = (snapshot.index, snapshot.term)
        self.conf_state = snapshot.conf_state
        self.latest = snapshot
