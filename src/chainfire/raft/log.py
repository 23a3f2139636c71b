"""One member's log: what is stored, what is being stored, what is committed, what is applied.

Invariants: applied <= applying <= committed <= last_index, and
first_index - 1 <= applied (checked where each of them moves).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

from chainfire.errors import OlderCopy
from chainfire.raft.messages import Snapshot
from chainfire.raft.unstable import Unstable
from chainfire.types import ConfState, Entry, HardState

# Counted beside an entry's data, so that empty entries are not free of charge.
ENTRY_OVERHEAD_BYTES: Final = 16


class LogReader(Protocol):
    """The stored log, as the core reads it. Between writes its answers do not change."""

    def initial_state(self) -> tuple[HardState, ConfState]:
        """Hard state, and the configuration as of the applied index; asked once, at the start."""

    def first_index(self) -> int:
        """The first entry that is still there, or last_index + 1 when none is."""

    def last_index(self) -> int: ...

    def term(self, index: int) -> int:
        """Known from first_index - 1 to last_index; raises LookupError elsewhere."""

    def entries(self, low: int, high: int, bytes_max: int) -> list[Entry]:
        """low <= index < high, cut after `bytes_max` but never empty.

        Raises LookupError when `low` is truncated. The caller does not change the list.
        """

    def snapshot(self) -> Snapshot | None:
        """The state to send to a member that the log cannot catch up; None = not now, ask again."""


def limited(entries: list[Entry], bytes_max: int) -> tuple[list[Entry], int]:
    """As many entries as fit, at least one, and the size of them."""
    size = sum([len(entry.data) for entry in entries]) + ENTRY_OVERHEAD_BYTES * len(entries)
    if size <= bytes_max or len(entries) < 2:
        return entries, size
    size = 0
    for count, entry in enumerate(entries):
        more = size + len(entry.data) + ENTRY_OVERHEAD_BYTES
        if more > bytes_max and count:
            return entries[:count], size
        size = more
    raise AssertionError((size, bytes_max))


class RaftLog:
    def __init__(self, storage: LogReader, applying_bytes_max: int) -> None:
        self.storage = storage
        self.unstable = Unstable(storage.last_index())
        self.committed = self.applying = self.applied = storage.first_index() - 1
        self.applying_bytes_max = applying_bytes_max
        self._applying_pages: deque[tuple[int, int, int]] = deque()  # (last index, count, bytes)
        self._applying_bytes = 0
        self.is_paused = False  # nothing is handed out before something is applied
        self._tail: tuple[int, list[Entry], int] | None = None  # low, and the answer for it

    # ── reading ─────────────────────────────────────────────────────────────

    @property
    def last_index(self) -> int:
        return self.unstable.last_index

    @property
    def last_term(self) -> int:
        term = self.term(self.unstable.last_index)
        assert term is not None, self.unstable.last_index
        return term

    @property
    def first_index(self) -> int:
        snapshot = self.unstable.snapshot
        return self.storage.first_index() if snapshot is None else snapshot.index + 1

    def term(self, index: int) -> int | None:
        """None where the log does not reach: truncated, or not there yet.

        Never 0 for a hole, or a predecessor of term 0 would match it (raft#31).
        """
        if index >= self.unstable.offset or self.unstable.snapshot is not None:
            return self.unstable.term(index)
        try:
            return self.storage.term(index)
        except LookupError:
            return None

    def matches(self, index: int, term: int) -> bool:
        return self.term(index) == term

    def is_up_to_date(self, last_index: int, last_term: int) -> bool:
        """Raft §5.4.1: the pairs are compared as pairs, never part by part (openraft a48a3282)."""
        return (last_term, last_index) >= (self.last_term, self.unstable.last_index)

    def slice(self, low: int, high: int, bytes_max: int) -> tuple[list[Entry], int]:
        """Entries low <= index < high that fit, and their size; LookupError when truncated."""
        unstable = self.unstable
        offset = unstable.offset
        if low >= offset:
            found = unstable.entries[low - offset : high - offset]
        else:
            found = self.storage.entries(low, min(high, offset), bytes_max)
            if high > offset and len(found) == offset - low:
                found = found + unstable.entries[: high - offset]
        return limited(found, bytes_max)

    def entries_from(self, low: int, bytes_max: int) -> tuple[list[Entry], int]:
        """Entries from `low` on that fit, and their size. Followers at one place share the list."""
        if low > self.unstable.last_index:
            return [], 0
        tail = self._tail
        if tail is None or tail[0] != low:
            entries, size = self.slice(low, self.unstable.last_index + 1, bytes_max)
            tail = self._tail = (low, entries, size)
        return tail[1], tail[2]

    def last_index_not_above(self, index: int, term: int) -> tuple[int, int]:
        """The highest entry at or below `index` whose term is not above `term`, as (index, term).

        Where the log does not reach, the guess is "may match" and the term 0.
        Terms never fall along a log, so this bisects instead of walking
        (openraft 6d53aa12: long conflicting tails).
        """
        lowest = self.first_index - 1
        if index > self.unstable.last_index or index < lowest:
            return index, 0
        candidates = range(lowest, index + 1)
        found = lowest - 1 + bisect_right(candidates, term, key=lambda at: self.term(at) or 0)
        return (found, self.term(found) or 0) if found >= lowest else (max(found, 0), 0)

    def contradiction(
        self, prev_index: int, prev_term: int, entries: Sequence[Entry]
    ) -> tuple[int, int] | None:
        """Where a leader's piece of log differs from what is committed here, and its term there.

        Logs that agree at an index agree below it (Raft §5.3): both ends of what is shared will do.
        """
        if self.term(prev_index) not in (None, prev_term):
            return prev_index, prev_term
        index = min(self.committed, prev_index + len(entries))
        if index > prev_index:
            entry = entries[index - prev_index - 1]
            if entry.index == index and self.term(index) not in (None, entry.term):
                return index, entry.term
        return None

    def snapshot(self) -> Snapshot | None:
        return self.unstable.snapshot or self.storage.snapshot()

    # ── writing ─────────────────────────────────────────────────────────────

    def append(self, entries: Sequence[Entry]) -> None:
        """Own entries behind the log, or a leader's over its uncommitted end."""
        first = entries[0].index
        assert first > self.committed, (first, self.committed)
        assert first <= self.unstable.last_index + 1, (first, self.unstable.last_index)
        self._tail = None
        self.unstable.append(entries)

    def maybe_append(
        self, prev_index: int, prev_term: int, entries: Sequence[Entry], commit: int
    ) -> int | None:
        """Take a leader's entries if the one before them matches; the last index known to match.

        Only a real conflict truncates, so that a late, shorter APPEND takes nothing
        away (Raft §5.3). The commit index moves no further than what this APPEND
        itself has verified: behind it may stand a stale suffix (copycat#265).
        """
        if self.term(prev_index) != prev_term:
            return None
        last_new = prev_index + len(entries)
        if entries:
            if prev_index == self.unstable.last_index:
                self.append(entries)
            else:
                known = self._matching_prefix(entries)
                if known < len(entries):
                    self.append(entries[known:])
        self.commit_to(min(commit, last_new))
        return last_new

    def _matching_prefix(self, entries: Sequence[Entry]) -> int:
        for count, entry in enumerate(entries):
            if self.term(entry.index) != entry.term:
                return count
        return len(entries)

    def commit_to(self, index: int) -> None:
        """Never moves back. Raises OlderCopy when this log does not reach so far any more."""
        if index <= self.committed:
            return
        if index > self.unstable.last_index:
            # The leader was promised these entries by us; they are lost (etcd#10166).
            raise OlderCopy(
                f"entry {index} is committed and was acknowledged here, "
                f"but the log ends at {self.unstable.last_index}"
            )
        self.committed = index

    def restore(self, snapshot: Snapshot) -> None:
        self._tail = None
        self.unstable.restore(snapshot)
        self.committed = snapshot.index

    # ── handing out committed entries ───────────────────────────────────────

    def appliable_index(self, allow_unstable: bool) -> int:
        """How far entries may be applied: committed, and durable here unless the caller stores
        and applies in one go."""
        if allow_unstable:
            return self.committed
        return min(self.committed, self.unstable.offset - 1)

    def has_next_committed(self, allow_unstable: bool) -> bool:
        return (
            self.applying < self.committed
            and not self.is_paused
            and self.unstable.snapshot is None
            and self.applying < self.appliable_index(allow_unstable)
        )

    def next_committed(self, allow_unstable: bool) -> tuple[list[Entry], int]:
        """The next page to apply, and its size.

        The limit holds over all pages that are out (raft 2e0653d), and cuts the
        list of entries, never the commit index (raft 8ecce32).
        """
        if not self.has_next_committed(allow_unstable):
            return [], 0
        room = self.applying_bytes_max - self._applying_bytes
        assert room > 0, (self._applying_bytes, self.applying_bytes_max)
        return self.slice(self.applying + 1, self.appliable_index(allow_unstable) + 1, room)

    def accept_applying(self, last_index: int, size: int, allow_unstable: bool) -> None:
        """The page up to `last_index` is being applied now."""
        assert self.applying < last_index <= self.committed, (self.applying, last_index)
        self._applying_pages.append((last_index, last_index - self.applying, size))
        self.applying = last_index
        self._applying_bytes += size
        # A page that was cut used up the room, even if its own size leaves a rest.
        self.is_paused = (
            self._applying_bytes >= self.applying_bytes_max
            or last_index < self.appliable_index(allow_unstable)
        )

    def commit_stored(self) -> list[Entry] | None:
        """Everything is durable, and to be committed: the entries that become it, handed out.

        None, and nothing done, where they are more than one page or not the next ones.
        """
        unstable = self.unstable
        entries = unstable.entries
        size = sum([len(entry.data) for entry in entries]) + ENTRY_OVERHEAD_BYTES * len(entries)
        room = self.applying_bytes_max - self._applying_bytes
        if not entries or self.is_paused or self.applying + 1 != unstable.offset or size > room:
            return None
        last_index = unstable.last_index
        unstable.all_stable()
        self.committed = last_index
        self.accept_applying(last_index, size, False)
        return entries

    def applied_to(self, index: int) -> int:
        """Everything up to `index` is in the state machine; the bytes of data in those pages."""
        assert self.applied <= index <= self.committed, (self.applied, index, self.committed)
        self.applied = index
        self.applying = max(self.applying, index)
        pages = self._applying_pages
        data_bytes = 0
        while pages and pages[0][0] <= index:
            _, count, size = pages.popleft()
            self._applying_bytes -= size
            data_bytes += size - count * ENTRY_OVERHEAD_BYTES
        self.is_paused = self._applying_bytes >= self.applying_bytes_max
        return data_bytes
