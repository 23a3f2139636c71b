"""When the other members hear how far the log is committed. Pure; for the one who leads.

An APPEND carries the commit index, so under load nothing else is needed. What is left:

    a member waits for it, for what it forwarded    at once
    a member waits for it, to read                  at once (raft/reads.py)
    all others                                      soon: after WAIT_SECONDS, or twice that
    the same, where one put follows the other       after FLOW_SECONDS: the next will tell them

So a put costs a follower one message, and its apply comes with the next one. Who is told
does not answer; if it is lost, a heartbeat brings it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from chainfire.raft.rawnode import RawNode
from chainfire.raft.ready import Role

WAIT_SECONDS: Final = 0.001
FLOW_SECONDS: Final = 0.005  # two commits within that time are one after the other


class Commits:
    def __init__(self, raft: RawNode) -> None:
        self._raft = raft
        self._core = raft.raft  # read, never written
        self._awaited: dict[int, int] = {}  # member: the last entry that it forwarded
        self._seen = 0  # commit index at the last look
        self._lags = False  # somebody has not been sent that
        self._due_index: int | None = None  # who has not been sent this when time is up, is told
        self._changed_ms = 0
        self._is_flowing = False

    def forwarded(self, members: Iterable[int], index: int) -> None:
        """Entries up to this one are theirs."""
        for member in members:
            self._awaited[member] = index

    def tell_awaited(self, now_ms: int) -> bool:
        """After a commit: tell those that wait. Whether there was anything to say."""
        core = self._core
        if core.role is not Role.LEADER:
            self._awaited.clear()
            self._lags = False
            return False
        committed = core.log.committed
        if committed == self._seen:
            return False
        self._seen, self._lags = committed, False
        self._is_flowing = now_ms - self._changed_ms <= FLOW_SECONDS * 1000
        self._changed_ms = now_ms
        told = False
        for id, peer in core.tracker.progress.items():
            if id == core.id or not peer.can_tell_commit(committed):
                continue
            if peer.sent_commit < self._awaited.get(id, 0) and self._raft.tell_commit(id):
                told = True
            else:
                self._lags = True
        return told

    def begin_wait(self) -> float:
        """In how many seconds `tell` is wanted, 0: not at all; once for each call of it."""
        if not self._lags or self._due_index is not None:
            return 0.0
        self._due_index = self._seen
        return FLOW_SECONDS if self._is_flowing else WAIT_SECONDS

    def tell(self) -> float:
        """The time is up. In how many seconds `tell` is wanted once more, as by `begin_wait`."""
        due, self._due_index = self._due_index, None
        if due is None or self._core.role is not Role.LEADER:
            return 0.0
        committed = self._seen = self._core.log.committed
        self._lags = False
        for id, peer in self._core.tracker.progress.items():
            if id == self._core.id:
                continue
            # Who waits, too, if the turn of this commit is still to come: it finds it seen.
            if peer.sent_commit < max(due, self._awaited.get(id, 0)):
                self._raft.tell_commit(id)
            self._lags = self._lags or peer.can_tell_commit(committed)
        return self.begin_wait()
