"""New entries: who may propose, how much, and which membership changes wait."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count, repeat

from chainfire.raft.changes import ConfChange
from chainfire.raft.messages import NOBODY, Message, MessageType, Refusal
from chainfire.raft.ready import Role
from chainfire.raft.replication import append_own, broadcast_append
from chainfire.raft.state import Raft
from chainfire.types import Entry, EntryType


def propose(raft: Raft, datas: Sequence[bytes]) -> bool:
    """Append normal entries, or pass them on; False if nothing could be done with them."""
    if raft.role is not Role.LEADER:
        return _pass_on(raft, list(map(Entry, repeat(0), repeat(0), repeat(_NORMAL), datas)))
    entries = make_entries(raft, datas)
    if entries is None:
        return False
    append_own(raft, entries)
    broadcast_append(raft)
    return True


def make_entries(raft: Raft, datas: Sequence[bytes]) -> list[Entry] | None:
    """Normal entries behind a leader's log, which the caller appends; None if it may not."""
    data_bytes = sum(map(len, datas))
    if not _may_append(raft, data_bytes):
        return None
    first = raft.log.unstable.last_index + 1
    raft.uncommitted_bytes += data_bytes
    return list(map(Entry, repeat(raft.term), count(first), repeat(_NORMAL), datas))


def propose_entry(raft: Raft, type: EntryType, data: bytes) -> bool:
    """Append one entry of any type, or pass it on."""
    entries = [Entry(0, 0, type, data)]
    return _append(raft, entries) if raft.role is Role.LEADER else _pass_on(raft, entries)


def on_propose(raft: Raft, message: Message) -> Refusal | None:
    """Entries that a follower passed on."""
    if raft.role is Role.LEADER:
        taken = _append(raft, message.entries)
    else:
        taken = _pass_on(raft, message.entries)
    return None if taken else Refusal.PROPOSAL_DROPPED


def leave_joint_automatically(raft: Raft) -> None:
    """Called when something was applied, and with each heartbeat.

    Not before the change that entered it is applied, and once: while one is
    unapplied `pending_conf_index` lies ahead (raft bd3c759, etcd#12136). A
    transfer under way drops the proposal; in a group that then is idle nothing is
    applied any more, and without the heartbeat it would stay joint (etcd does). So
    it would where the leader is in neither half, if that did not propose this one
    entry: elected under an older configuration, it may find its own removal in its
    log and, behind that, the change that entered the joint one.
    """
    if (
        raft.tracker.conf.auto_leave
        and raft.role is Role.LEADER
        and raft.log.applied >= raft.pending_conf_index
        and raft.transferee == NOBODY
    ):
        _take(raft, [Entry(0, 0, EntryType.CONF_CHANGE_V2)])


_NORMAL = EntryType.NORMAL


def _pass_on(raft: Raft, entries: Sequence[Entry]) -> bool:
    if raft.role is not Role.FOLLOWER or raft.leader == NOBODY:
        return False
    if not raft.config.forward_proposals:
        return False
    raft.messages.append(Message(MessageType.PROPOSE, raft.leader, raft.id, entries=entries))
    return True


def _may_append(raft: Raft, data_bytes: int) -> bool:
    if raft.id not in raft.tracker.progress:
        return False  # removed while leading: nothing new from here
    if raft.transferee != NOBODY:
        return False  # or the transferee would never catch up (hashicorp#581)
    # A first proposal of any size passes; empty ones always do.
    return not (
        raft.uncommitted_bytes
        and data_bytes
        and raft.uncommitted_bytes + data_bytes > raft.config.uncommitted_bytes_max
    )


def _append(raft: Raft, entries: Sequence[Entry]) -> bool:
    data_bytes = sum([len(entry.data) for entry in entries])
    if not entries or not _may_append(raft, data_bytes):
        return False
    _take(raft, entries)
    return True


def _take(raft: Raft, entries: Sequence[Entry]) -> None:
    own: list[Entry] = []
    data_bytes = 0
    for index, entry in enumerate(entries, raft.log.last_index + 1):
        type, data = entry.type, entry.data
        if type is not _NORMAL:
            if _conf_change_waits(raft, data):
                # In its place an empty entry, so that whoever counts entries is not confused.
                type, data = _NORMAL, b""
            else:
                raft.pending_conf_index = index
        data_bytes += len(data)
        own.append(Entry(raft.term, index, type, data))
    # What was appended, not what was asked for: a difference would add up (raft a370b6f).
    raft.uncommitted_bytes += data_bytes
    append_own(raft, own)
    broadcast_append(raft)


def _conf_change_waits(raft: Raft, data: bytes) -> bool:
    """One change at a time, and only out of a joint configuration while there is one."""
    if not raft.config.validate_conf_changes:
        return False
    if raft.pending_conf_index > raft.log.applied:
        return True
    return raft.tracker.is_joint is not ConfChange.decode(data).leaves_joint
