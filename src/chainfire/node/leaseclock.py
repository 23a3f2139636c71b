"""What the replicated lease clock reads right now, as this member can tell.

The leader's reading is what it stamps into commands, and tells the others with
each heartbeat while there are leases: its reading when it came to lead, and its
own monotonic time since; never wall time. It begins with the greatest reading
that it has applied or was told. What older leaders have stamped and is applied
later lifts it. Between leaders the clock stands still, and what a leader that is
gone had not told yet, at most a heartbeat interval, is lost: leases end late by
that, never early.

What a leader has told counts for another one whose log ends, before its own
entries, with an entry of that leader's term: then all that it has inherited was
granted by that clock, or by earlier ones, which are not behind it.

    A, B, C. A leads term 1, and tells C, not B, that 900 ms have passed since its last stamp.
    B leads term 2, on the clock of that stamp; it grants a lease of a second, and dies.
    C leads term 3. By what A has told it, that lease would end after 100 ms.

Who leads again goes on with its own clock by the same rule. Members that do not
lead only estimate, for what they tell callers.
"""

from __future__ import annotations

from typing import Final

from chainfire.machine import Machine
from chainfire.node.effects import Effects
from chainfire.node.frames import Clock
from chainfire.raft.rawnode import RawNode
from chainfire.raft.ready import Role

ESTIMATE_MS_MAX: Final = 1000  # the leader stamps at least that often while there are leases


class LeaseClock:
    def __init__(self, raft: RawNode, machine: Machine, effects: Effects) -> None:
        self._core = raft.raft  # read, never written
        self._machine = machine
        self._effects = effects
        self.leading_term = 0  # the term in which we lead, as last seen
        self.base_ms = 0  # the reading at `since_ms`, from which it goes on
        self.since_ms = 0
        self._heard_term = 0  # its leader,
        self._heard_ms = 0  # and the greatest reading of it that we know of
        self.now_ms = 0  # at the last reading

    def reading(self, now_ms: int) -> int:
        """`now_ms` is monotonic and never less than before: what a caller would take back of it
        would be added to the clock with the next stamp that is applied.
        """
        assert now_ms >= self.now_ms, (now_ms, self.now_ms)
        self.now_ms = now_ms
        core = self._core
        applied_ms, elapsed_ms = self._machine.leader_clock_ms, now_ms - self.since_ms
        leading_term = core.term if core.role is Role.LEADER else 0
        if leading_term != self.leading_term:
            if self.leading_term:
                self.heard(self.leading_term, self.base_ms + elapsed_ms)
            self.leading_term = leading_term
            counts = not leading_term or self._heard_term == core.inherited_term
            return self._start_from(max(applied_ms, self._heard_ms * counts), now_ms)
        if leading_term:
            reading = self.base_ms + elapsed_ms
            return reading if reading >= applied_ms else self._start_from(applied_ms, now_ms)
        known_ms = max(applied_ms, self._heard_ms)
        if known_ms != self.base_ms:
            return self._start_from(known_ms, now_ms)
        return known_ms + min(elapsed_ms, ESTIMATE_MS_MAX)

    def _start_from(self, reading_ms: int, now_ms: int) -> int:
        self.base_ms, self.since_ms = reading_ms, now_ms
        return reading_ms

    # ── between members ─────────────────────────────────────────────────────

    def heard(self, term: int, reading_ms: int) -> None:
        """The leader of this term has read this; words may come late, twice, and in any order."""
        if (term, reading_ms) > (self._heard_term, self._heard_ms):
            self._heard_term, self._heard_ms = term, reading_ms

    def tick(self, now_ms: int) -> None:
        """With each heartbeat: tell all."""
        for id in self._core.tracker.progress:
            self.tell(id, now_ms)

    def tell(self, to: int, now_ms: int) -> None:
        """If this member leads, and it matters."""
        core = self._core
        if core.role is Role.LEADER and to != core.id and len(self._machine.leases):
            self._effects.send(to, Clock(core.term, self.reading(now_ms)))
