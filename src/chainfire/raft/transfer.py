"""Handing leadership over (thesis §3.10), and forgetting a leader that is known to be dead."""

from __future__ import annotations

from chainfire.raft.config import ReadOnly
from chainfire.raft.messages import NOBODY, Message, MessageType
from chainfire.raft.replication import maybe_send_append
from chainfire.raft.state import Raft


def transfer_leader(raft: Raft, transferee: int) -> None:
    """At the leader: bring the member up to date, then tell it to stand for election at once.

    Given up after an election timeout. A learner, or a stranger, cannot lead
    (raft-rs#165); the leader itself already does, which ends another transfer.
    """
    peer = raft.tracker.progress.get(transferee)
    if peer is None or peer.is_learner or transferee == raft.transferee:
        return
    raft.transferee = NOBODY
    if transferee == raft.id:
        return
    raft.election_elapsed_ticks = 0
    raft.transferee = transferee
    if peer.match == raft.log.last_index:
        send_timeout_now(raft, transferee)
    else:
        maybe_send_append(raft, transferee, peer, even_empty=True)


def send_timeout_now(raft: Raft, id: int) -> None:
    raft.messages.append(Message(MessageType.TIMEOUT_NOW, id, raft.id, raft.term))


def on_transfer_leader(raft: Raft, message: Message) -> None:
    """At the leader; the sender is who wants to lead, or whom somebody else wants to."""
    transfer_leader(raft, message.sender)


def pass_on_transfer_leader(raft: Raft, transferee: int) -> bool:
    """At a follower; whether there was a leader to tell."""
    if raft.leader == NOBODY:
        return False
    raft.messages.append(Message(MessageType.TRANSFER_LEADER, raft.leader, transferee, raft.term))
    return True


def forget_leader(raft: Raft) -> None:
    """At a follower: stay in the term, but do not refuse votes on that leader's behalf.

    The election timeout runs on. Not under leases: the leader may be alive and
    reading on the strength of the votes that we would give away.
    """
    if raft.config.read_only is not ReadOnly.LEASE_BASED:
        raft.leader = NOBODY
