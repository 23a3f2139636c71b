"""Who leads, since when, and what that means for who waits. Pure; observed after every event.

A change is a new pair (term, leader): the same member may lead again, and
what was sent to it in its earlier term may be lost all the same.
"""

from __future__ import annotations

from chainfire.errors import RequestError, Timeout, TimeoutConnectionLost, TimeoutLeaderFailure
from chainfire.raft.messages import NOBODY
from chainfire.raft.rawnode import RawNode


class Leadership:
    def __init__(self, raft: RawNode, election_timeout_ms: int) -> None:
        self._core = raft.raft  # read, never written
        self._election_timeout_ms = election_timeout_ms
        self._seen = (0, NOBODY)  # term and leader
        self._last_leader = NOBODY  # the last one that there was
        self._elected_at_ms = -1  # when the present leader was first heard of
        self._out_of_reach = False  # something for the leader could not be sent since then
        self.changes = 0  # leaders seen, the first one included

    def observe(self, now_ms: int) -> bool:
        """Whether there is another leader, or another term of it, or none any more."""
        core = self._core
        now = (core.term, core.leader)
        if now == self._seen:
            return False
        self._seen = now
        if core.leader:
            self._elected_at_ms = now_ms
            self._out_of_reach = False
            self.changes += core.leader != self._last_leader
            self._last_leader = core.leader
        return True

    def note_unreachable(self, peer: int) -> bool:
        """Something for this member was dropped; whether it is the leader."""
        if peer != self._core.leader:
            return False
        self._out_of_reach = True
        return True

    def timeout(self, since_ms: int) -> RequestError:
        """What somebody is told who has waited since then in vain (etcd's three texts)."""
        core, elected = self._core, self._elected_at_ms
        if elected - 2 * self._election_timeout_ms < since_ms < elected:
            return TimeoutLeaderFailure()
        lost = core.leader != NOBODY and self._out_of_reach
        return TimeoutConnectionLost() if lost else Timeout()
