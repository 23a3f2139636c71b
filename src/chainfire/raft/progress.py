"""What a leader knows of one member's log, and how fast it may send.

    PROBE      match is not known well: one APPEND at a time, then wait for an answer
    REPLICATE  match is known: send ahead, bounded by the window
    SNAPSHOT   the log does not reach back far enough: wait until the snapshot has arrived

PROBE ──first matching reply──► REPLICATE ──refusal, unreachable──► PROBE
  any ──entries are gone──► SNAPSHOT ──reply within the log──► REPLICATE
                            SNAPSHOT ──report of the carrier──► PROBE
"""

from __future__ import annotations

from enum import IntEnum

from chainfire.raft.inflights import Inflights


class ProgressState(IntEnum):
    PROBE = 0
    REPLICATE = 1
    SNAPSHOT = 2


class Progress:
    """One member as its leader sees it."""

    __slots__ = (
        "inflights",
        "is_learner",
        "match",
        "next",
        "paused_flow",
        "pending_snapshot",
        "recent_active",
        "sent_commit",
        "state",
    )

    def __init__(self, next_index: int, inflights: Inflights) -> None:
        self.match = 0  # highest index known to be durable there
        self.next = next_index  # invariant: match < next; in REPLICATE entries below it are sent
        self.sent_commit = 0  # highest commit index sent; spares repeating it (raft#171)
        self.state = ProgressState.PROBE
        self.pending_snapshot = 0  # index of the snapshot under way, only in SNAPSHOT
        # Heard from since the last CheckQuorum; a new member is judged at the next one only.
        self.recent_active = True
        self.paused_flow = False  # PROBE: asked once; REPLICATE: the window is full and was told
        self.is_learner = False  # follows the configuration (tracker.py)
        self.inflights = inflights

    @property
    def paused(self) -> bool:
        """Nothing is sent now; a heartbeat's reply lifts it except in SNAPSHOT."""
        return self.paused_flow or self.state is ProgressState.SNAPSHOT

    # ── transitions ─────────────────────────────────────────────────────────

    def become_probe(self) -> None:
        """Ask again. After a snapshot that arrived, from behind it."""
        if self.state is ProgressState.SNAPSHOT:
            self.next = max(self.match, self.pending_snapshot) + 1
        else:
            self.next = self.match + 1
        self._enter(ProgressState.PROBE)
        self.sent_commit = min(self.sent_commit, self.next - 1)

    def become_replicate(self) -> None:
        self._enter(ProgressState.REPLICATE)
        self.next = self.match + 1

    def become_snapshot(self, snapshot_index: int) -> None:
        self._enter(ProgressState.SNAPSHOT)
        self.pending_snapshot = snapshot_index
        self.next = snapshot_index + 1
        self.sent_commit = snapshot_index

    def _enter(self, state: ProgressState) -> None:
        self.state = state
        self.paused_flow = False
        self.pending_snapshot = 0
        self.inflights.reset()

    # ── what was sent, what was answered ────────────────────────────────────

    def sent_entries(self, count: int, size_bytes: int) -> None:
        """An APPEND with `count` entries from `next` on is on its way."""
        if self.state is ProgressState.REPLICATE:
            if count:
                self.next += count
                self.inflights.add(self.next - 1, size_bytes)
            # etcd#14633: with a full window even empty APPENDs stop after this one, which
            # then is a probe: the follower's answer, or a heartbeat's, opens the flow again.
            self.paused_flow = self.inflights.full
        else:
            assert self.state is ProgressState.PROBE, self.state
            if count:
                self.paused_flow = True

    def maybe_update(self, index: int) -> bool:
        """The member holds everything up to `index`; False if that was known."""
        if index <= self.match:
            return False
        self.match = index
        if self.next <= index:
            self.next = index + 1
        self.paused_flow = False
        return True

    def maybe_decrease(self, refused_index: int, hint_index: int) -> bool:
        """The member refused an APPEND behind `refused_index`; False if that is old news.

        Never lets `next` fall to `match` or below, whatever the hint says (raft#149).
        """
        if self.state is ProgressState.REPLICATE:
            if refused_index <= self.match:
                return False
            self.next = self.match + 1
        else:
            if self.next - 1 != refused_index:
                return False
            self.next = max(min(refused_index, hint_index + 1), self.match + 1)
            self.paused_flow = False
        self.sent_commit = min(self.sent_commit, self.next - 1)
        return True

    def note_commit_sent(self, commit: int) -> None:
        self.sent_commit = commit

    def can_bump_commit(self, commit: int) -> bool:
        """Telling it `commit` may move its commit index, which cannot pass what it was sent."""
        return self.sent_commit < commit and self.sent_commit < self.next - 1

    def can_tell_commit(self, commit: int) -> bool:
        """The same by a message that nothing hangs on: no probe, and not into a full window."""
        return (
            self.state is ProgressState.REPLICATE
            and not self.paused_flow
            and self.can_bump_commit(commit)
        )
