"""What a follower does with what its leader sends. Senders and terms were checked in core.

A leader has all that was committed before it (Raft §5.4). Where it has other entries than
those that are committed here, one of the two is wrong, by a mistake of ours or because
disks were set back; nothing that is sent mends that, so it is not answered. Once the leader
has committed its own there, a quorum holds them, and this member is the one.
"""

from __future__ import annotations

from chainfire.errors import Diverged
from chainfire.raft.election import campaign
from chainfire.raft.membership import restore_snapshot
from chainfire.raft.messages import Message, MessageType
from chainfire.raft.state import Raft

_APPEND_REPLY = MessageType.APPEND_REPLY


def on_append(raft: Raft, message: Message) -> None:
    log = raft.log
    prev_index = message.index
    _heard(raft, message)
    if prev_index < log.committed:
        found = log.contradiction(prev_index, message.log_term, message.entries)
        if found is not None:
            _contradicted(raft, message.sender, *found, message.commit)
            return
        # Old news; what is committed is settled and matches.
        if not message.quiet:
            _acknowledge(raft, message.sender, log.committed)
        return
    entries = message.entries
    if entries and not (
        entries[0].index == prev_index + 1 and entries[-1].index == prev_index + len(entries)
    ):
        return  # not a piece of a log (etcd#13603)
    last_new = log.maybe_append(prev_index, message.log_term, entries, message.commit)
    if last_new is not None:
        if not message.quiet:
            _acknowledge(raft, message.sender, last_new)
        return
    if prev_index == log.committed:
        _contradicted(raft, message.sender, prev_index, message.log_term, message.commit)
        return
    # The hint lets the leader skip our whole divergent tail of newer terms; see replies.py.
    hint_index, hint_term = log.last_index_not_above(
        min(prev_index, log.last_index), message.log_term
    )
    raft.after_append.append(
        Message(
            _APPEND_REPLY,
            message.sender,
            raft.id,
            raft.term,
            hint_term,
            prev_index,
            reject=True,
            reject_hint=hint_index,
        )
    )


def on_heartbeat(raft: Raft, message: Message) -> None:
    """The commit index in it is one that the leader knows us to hold."""
    _heard(raft, message)
    raft.log.commit_to(message.commit)
    raft.messages.append(
        Message(
            MessageType.HEARTBEAT_REPLY,
            message.sender,
            raft.id,
            raft.term,
            context=message.context,
        )
    )


def on_snapshot(raft: Raft, message: Message) -> None:
    _heard(raft, message)
    snapshot = message.snapshot
    assert snapshot is not None, message
    if snapshot.index <= raft.log.committed:
        found = raft.log.contradiction(snapshot.index, snapshot.term, ())
        if found is not None:
            _contradicted(raft, message.sender, *found, snapshot.index)
            return
    restored = restore_snapshot(raft, snapshot)
    _acknowledge(raft, message.sender, raft.log.last_index if restored else raft.log.committed)


def on_timeout_now(raft: Raft, message: Message) -> None:
    """The leader wants us to take over."""
    campaign(raft, transfer=True)


def _heard(raft: Raft, message: Message) -> None:
    raft.election_elapsed_ticks = 0
    raft.leader = message.sender


def _contradicted(raft: Raft, leader: int, index: int, term: int, commit: int) -> None:
    """Raises Diverged when the leader has committed what it has there: up to `commit`."""
    raft.contradicted_at = index
    if commit >= index:
        raise Diverged(
            f"entry {index} of term {raft.log.term(index)} is committed here; member {leader:x}, "
            f"which leads term {raft.term}, has committed another one of term {term} there"
        )


def _acknowledge(raft: Raft, leader: int, index: int) -> None:
    raft.after_append.append(Message(_APPEND_REPLY, leader, raft.id, raft.term, 0, index))
