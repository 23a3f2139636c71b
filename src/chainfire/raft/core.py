"""Who gets which message, and what a tick does. Nothing is decided elsewhere twice.

A message first meets the rules about terms (`step`), then the table of the
role. What a table does not list is ignored: a late answer, or somebody's error.
"""

from __future__ import annotations

from collections.abc import Callable

from chainfire.raft.election import campaign, on_vote_reply, on_vote_request
from chainfire.raft.follower import on_append, on_heartbeat, on_snapshot, on_timeout_now
from chainfire.raft.messages import NOBODY, TRANSFER, Message, MessageType, Refusal
from chainfire.raft.proposals import leave_joint_automatically, on_propose
from chainfire.raft.reads import on_read_index, on_read_index_reply, pass_on_read_index
from chainfire.raft.ready import Role, StepDown
from chainfire.raft.replication import broadcast_heartbeat
from chainfire.raft.replies import on_append_reply, on_heartbeat_reply
from chainfire.raft.state import Raft
from chainfire.raft.transfer import on_transfer_leader, pass_on_transfer_leader

Handler = Callable[[Raft, Message], Refusal | None]


def step(raft: Raft, message: Message) -> Refusal | None:
    term, type = message.term, message.type
    if term > raft.term:
        if type in _VOTE_REQUESTS:
            if raft.hears_leader and message.context != TRANSFER:
                return None  # a disturber, or one who cannot hear the leader that we hear
            if type is MessageType.VOTE:
                raft.follow_a_candidate(term)
        elif type is MessageType.PRE_VOTE_REPLY and not message.reject:
            pass  # granted for a term that nobody has entered yet
        else:
            raft.become_follower(term, message.sender if type in _FROM_LEADER else NOBODY)
    elif term and term < raft.term:
        _on_old_term(raft, message)
        return None
    handler = _HANDLERS[raft.role].get(type)
    return handler(raft, message) if handler is not None else None


def _on_old_term(raft: Raft, message: Message) -> None:
    """Usually ignored, but some senders must learn the newer term, and storage is always right."""
    type = message.type
    config = raft.config
    if type in (MessageType.HEARTBEAT, MessageType.APPEND):
        if config.check_quorum or config.pre_vote:
            # A member that was cut off campaigns in vain up to a higher term; the leader does
            # not hear its votes, and it does not hear the leader. Our answer ends that: the
            # leader steps down into our term. Without these two options our vote requests do.
            raft.after_append.append(
                Message(MessageType.APPEND_REPLY, message.sender, raft.id, raft.term)
            )
    elif type is MessageType.PRE_VOTE:
        # Or members that pre-vote and members that do not wait for each other (raft 3c7359d).
        raft.after_append.append(
            Message(MessageType.PRE_VOTE_REPLY, message.sender, raft.id, raft.term, reject=True)
        )
    elif type is MessageType.STORAGE_APPEND_REPLY and message.snapshot is not None:
        # Entries written in an older term may be others by now (unstable.py); a snapshot is
        # committed state in every term.
        _snapshot_installed(raft, message.snapshot.index)


# ── own storage ─────────────────────────────────────────────────────────────


def _on_storage_append_reply(raft: Raft, message: Message) -> None:
    if message.index:
        raft.log.unstable.stable_to(message.index, message.log_term)
    if message.snapshot is not None:
        _snapshot_installed(raft, message.snapshot.index)


def _on_storage_apply_reply(raft: Raft, message: Message) -> None:
    if message.entries:
        applied_to(raft, message.entries[-1].index)


def _snapshot_installed(raft: Raft, index: int) -> None:
    raft.log.unstable.stable_snapshot_to(index)
    applied_to(raft, index)


def applied_to(raft: Raft, index: int) -> None:
    """A snapshot that overtook an apply moves nothing back (openraft eed681d5)."""
    data_bytes = raft.log.applied_to(max(index, raft.log.applied))
    raft.uncommitted_bytes = max(0, raft.uncommitted_bytes - data_bytes)
    leave_joint_automatically(raft)


# ── time ────────────────────────────────────────────────────────────────────


def tick(raft: Raft) -> None:
    if raft.role is Role.LEADER:
        _tick_leader(raft)
        return
    raft.election_elapsed_ticks += 1
    if raft.promotable and raft.election_elapsed_ticks >= raft.election_timeout_ticks:
        raft.election_elapsed_ticks = 0
        campaign(raft)


def _tick_leader(raft: Raft) -> None:
    config = raft.config
    raft.heartbeat_elapsed_ticks += 1
    raft.election_elapsed_ticks += 1
    if raft.election_elapsed_ticks >= config.election_ticks:
        raft.election_elapsed_ticks = 0
        if config.check_quorum and not _check_quorum(raft):
            return
        raft.transferee = NOBODY  # it had its time
    if raft.heartbeat_elapsed_ticks >= config.heartbeat_ticks:
        raft.heartbeat_elapsed_ticks = 0
        broadcast_heartbeat(raft)
        leave_joint_automatically(raft)


def _check_quorum(raft: Raft) -> bool:
    """A leader that no quorum has answered for an election timeout leads no longer."""
    if not raft.tracker.quorum_active():
        raft.become_follower(raft.term, NOBODY, StepDown.QUORUM_SILENT)
        return False
    for id, peer in raft.tracker.progress.items():
        if id != raft.id:
            peer.recent_active = False
    return True


# ── the tables ──────────────────────────────────────────────────────────────


def _pass_on_transfer_leader(raft: Raft, message: Message) -> None:
    pass_on_transfer_leader(raft, message.sender)


def _as_follower(handler: Handler) -> Handler:
    """At a candidate: somebody leads in our term, so the election is over."""

    def follow(raft: Raft, message: Message) -> Refusal | None:
        raft.become_follower(message.term, message.sender)
        return handler(raft, message)

    return follow


_VOTE_REQUESTS = frozenset({MessageType.VOTE, MessageType.PRE_VOTE})
_FROM_LEADER = frozenset({MessageType.APPEND, MessageType.HEARTBEAT, MessageType.SNAPSHOT})

_EVERYONE: dict[MessageType, Handler] = {
    MessageType.VOTE: on_vote_request,
    MessageType.PRE_VOTE: on_vote_request,
    MessageType.PROPOSE: on_propose,
    MessageType.STORAGE_APPEND_REPLY: _on_storage_append_reply,
    MessageType.STORAGE_APPLY_REPLY: _on_storage_apply_reply,
}
_CANDIDATE: dict[MessageType, Handler] = {
    **_EVERYONE,
    MessageType.APPEND: _as_follower(on_append),
    MessageType.HEARTBEAT: _as_follower(on_heartbeat),
    MessageType.SNAPSHOT: _as_follower(on_snapshot),
    MessageType.PRE_VOTE_REPLY: on_vote_reply,
    MessageType.VOTE_REPLY: on_vote_reply,
}
_HANDLERS: dict[Role, dict[MessageType, Handler]] = {
    Role.FOLLOWER: {
        **_EVERYONE,
        MessageType.APPEND: on_append,
        MessageType.HEARTBEAT: on_heartbeat,
        MessageType.SNAPSHOT: on_snapshot,
        MessageType.TIMEOUT_NOW: on_timeout_now,
        MessageType.READ_INDEX: pass_on_read_index,
        MessageType.READ_INDEX_REPLY: on_read_index_reply,
        MessageType.TRANSFER_LEADER: _pass_on_transfer_leader,
    },
    Role.PRE_CANDIDATE: _CANDIDATE,
    Role.CANDIDATE: _CANDIDATE,
    Role.LEADER: {
        **_EVERYONE,
        MessageType.APPEND_REPLY: on_append_reply,
        MessageType.HEARTBEAT_REPLY: on_heartbeat_reply,
        MessageType.READ_INDEX: on_read_index,
        MessageType.TRANSFER_LEADER: on_transfer_leader,
    },
}
