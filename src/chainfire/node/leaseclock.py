"""What the replicated lease clock reads right now, as this member can tell.

The leader's reading is what it stamps into commands: the applied reading when
it came to lead, and its own monotonic time since; never wall time. What older
leaders have stamped and is applied later lifts it. Between leaders the clock
stands still, and what a leader that is gone had not stamped yet, up to a second
where nobody writes, is lost: leases end late by that, never early.

Other members only estimate, for what they tell callers.
"""

from __future__ import annotations

from typing import Final

from chainfire.machine import Machine
from chainfire.raft.rawnode import RawNode
from chainfire.raft.ready import Role

ESTIMATE_MS_MAX: Final = 1000  # the leader stamps at least that often while there are leases


class LeaseClock:
    def __init__(self, raft: RawNode, machine: Machine) -> None:
        self._core = raft.raft  # read, never written
        self._machine = machine
        self.leading_term = 0  # the term in which we lead, as last seen
        self._base_ms = 0  # the reading at `_since_ms`
        self._since_ms = 0
        self.now_ms = 0  # at the last reading

    def reading(self, now_ms: int) -> int:
        """`now_ms` is monotonic and never less than before: what a caller would take back of it
        would be added to the clock with the next stamp that is applied.
        """
        assert now_ms >= self.now_ms, (now_ms, self.now_ms)
        self.now_ms = now_ms
        applied_ms, elapsed_ms = self._machine.leader_clock_ms, now_ms - self._since_ms
        leading_term = self._core.term if self._core.role is Role.LEADER else 0
        if leading_term != self.leading_term:
            self.leading_term = leading_term
            return self._start_from(applied_ms, now_ms)
        if leading_term:
            reading = self._base_ms + elapsed_ms
            return reading if reading >= applied_ms else self._start_from(applied_ms, now_ms)
        if applied_ms != self._base_ms:
            return self._start_from(applied_ms, now_ms)
        return applied_ms + min(elapsed_ms, ESTIMATE_MS_MAX)

    @property
    def ahead_ms(self) -> int:
        """Of the monotonic clock. It stays what it is while a member leads that has heard of all
        that others have stamped."""
        return self._base_ms - self._since_ms

    def _start_from(self, reading_ms: int, now_ms: int) -> int:
        self._base_ms, self._since_ms = reading_ms, now_ms
        return reading_ms
