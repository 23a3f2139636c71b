"""What members tell each other of themselves, about once a second.

Nothing that needs agreement hangs on it. It lets every member answer for the
whole cluster, count who has been there for a while, and know at a follower how
far a learner has come, which only the leader sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from chainfire.machine import Machine
from chainfire.node.effects import Effects
from chainfire.node.frames import Report
from chainfire.raft.rawnode import RawNode
from chainfire.raft.ready import Role
from chainfire.version import API_VERSION

REPORT_MS: Final = 1000
LOST_MS: Final = 3000  # silence after which a member counts as not there


@dataclass(slots=True, frozen=True)
class Heard:
    """A member's last report."""

    report: Report
    age_ms: int
    since_ms: int  # for so long it has reported without a gap


@dataclass(slots=True)
class _Peer:
    report: Report
    at_ms: int
    first_ms: int  # of the unbroken series of reports
    is_gone: bool = False  # its process has ended


class Reports:
    def __init__(self, raft: RawNode, machine: Machine, effects: Effects) -> None:
        self._raft = raft
        self._core = raft.raft  # read, never written
        self._machine = machine
        self._effects = effects
        self._peers: dict[int, _Peer] = {}
        self._applied: dict[int, int] = {}  # the highest index that each has said to have applied
        self._due_ms = 0

    def heard(self, sender: int, report: Report, now_ms: int) -> None:
        known = self._peers.get(sender)
        unbroken = known is not None and not known.is_gone and now_ms - known.at_ms <= LOST_MS
        first_ms = known.first_ms if known is not None and unbroken else now_ms
        self._peers[sender] = _Peer(report, now_ms, first_ms)
        self.heard_applied(sender, report.applied_index)

    def heard_applied(self, sender: int, index: int) -> None:
        """It has applied the entry at this index, and with it all before."""
        if index > self._applied.get(sender, 0):
            self._applied[sender] = index

    def applied(self, peer: int) -> int:
        """The highest index that it is known to have applied, in whatever life; 0: none.

        A log never ends before what was applied of it: the entry was durable there by then.
        """
        return self._applied.get(peer, 0)

    def gone(self, peer: int) -> None:
        """Its process has ended: it is not there, as of now."""
        if peer in self._peers:
            self._peers[peer].is_gone = True

    def tick(self, now_ms: int) -> None:
        """Tell the others, if it is time."""
        if now_ms < self._due_ms or self._core.tracker.is_singleton:
            return
        self._due_ms = now_ms + REPORT_MS
        report = self.own()
        members = self._machine.members
        for peer in sorted(members):
            if peer != self._core.id:
                self._effects.send(peer, report)
        for gone in sorted(self._peers.keys() - members.keys()):
            del self._peers[gone]
            self._applied.pop(gone, None)

    def own(self) -> Report:
        core, machine = self._core, self._machine
        return Report(
            term=core.term,
            leader=core.leader,
            commit_index=core.log.committed,
            applied_index=machine.applied_index,
            revision=machine.revision,
            in_use_bytes=machine.usage(0),
            version=API_VERSION,
            matches=tuple(sorted(self._own_matches().items())),
        )

    def _own_matches(self) -> dict[int, int]:
        if self._core.role is not Role.LEADER:
            return {}
        return {id: peer.match for id, peer in self._core.tracker.progress.items()}

    # ── what was heard ──────────────────────────────────────────────────────

    def of_others(self, now_ms: int) -> dict[int, Heard]:
        """Who has been heard of, however long ago."""
        return {
            id: Heard(peer.report, now_ms - peer.at_ms, peer.at_ms - peer.first_ms)
            for id, peer in sorted(self._peers.items())
        }

    def connected_ms(self, peer: int, now_ms: int) -> int | None:
        """For how long it has been heard of without a gap; None: it is not there."""
        known = self._peers.get(peer)
        if known is None or known.is_gone or now_ms - known.at_ms > LOST_MS:
            return None
        return now_ms - known.first_ms

    def match_indexes(self) -> dict[int, int]:
        """How far each member's log is known to reach, as its leader last said; else empty."""
        if self._core.role is Role.LEADER:
            return self._own_matches()
        leader = self._peers.get(self._core.leader)
        if leader is None or leader.report.term != self._core.term:
            return {}
        return dict(leader.report.matches)
