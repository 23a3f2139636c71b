"""What a member of the core looks like from outside, all at once: to show it, not to act on it."""

from __future__ import annotations

from dataclasses import dataclass

from chainfire.raft.progress import ProgressState
from chainfire.raft.ready import Role
from chainfire.raft.state import Raft
from chainfire.types import ConfState


@dataclass(slots=True, frozen=True)
class PeerStatus:
    """What a leader knows of one member, itself included."""

    match: int
    next: int
    state: ProgressState
    is_learner: bool
    paused: bool
    recent_active: bool
    pending_snapshot: int
    inflight_messages: int
    inflight_full: bool


@dataclass(slots=True, frozen=True)
class Status:
    id: int
    role: Role
    leader: int
    term: int
    vote: int
    commit: int
    applied: int
    last_index: int
    transferee: int
    conf: ConfState
    peers: dict[int, PeerStatus]  # of a leader; empty elsewhere


def status_of(raft: Raft) -> Status:
    peers = {}
    if raft.role is Role.LEADER:
        for id, peer in raft.tracker.progress.items():
            peers[id] = PeerStatus(
                peer.match,
                peer.next,
                peer.state,
                peer.is_learner,
                peer.paused,
                peer.recent_active,
                peer.pending_snapshot,
                len(peer.inflights),
                peer.inflights.full,
            )
    return Status(
        raft.id,
        raft.role,
        raft.leader,
        raft.term,
        raft.vote,
        raft.log.committed,
        raft.log.applied,
        raft.log.last_index,
        raft.transferee,
        raft.tracker.conf,
        peers,
    )
