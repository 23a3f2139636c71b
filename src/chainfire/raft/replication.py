"""A leader's sending: entries, commit indexes, snapshots, heartbeats."""

from __future__ import annotations

from collections.abc import Iterable

from chainfire.raft.log import ENTRY_OVERHEAD_BYTES
from chainfire.raft.messages import Message, MessageType
from chainfire.raft.progress import Progress, ProgressState
from chainfire.raft.state import Raft
from chainfire.types import Entry

_APPEND = MessageType.APPEND
_APPEND_REPLY = MessageType.APPEND_REPLY


def append_own(raft: Raft, entries: list[Entry]) -> None:
    """A leader's new entries. It acknowledges them to itself once its disk has them."""
    raft.log.append(entries)
    raft.after_append.append(
        Message(_APPEND_REPLY, raft.id, raft.id, raft.term, 0, entries[-1].index)
    )


def maybe_commit(raft: Raft) -> bool:
    """Move the commit index if a quorum allows it.

    Raft §5.4.2: only entries of the current term are committed by counting, older
    ones ride along; or figure 8 loses a committed entry (async-raft#106).
    """
    log = raft.log
    index = raft.tracker.committed()
    if index <= log.committed or log.term(index) != raft.term:
        return False
    log.commit_to(index)
    return True


def broadcast_append(raft: Raft) -> None:
    """Tell every member what is new, if only the commit index."""
    for id, peer in raft.tracker.progress.items():
        if id != raft.id:
            maybe_send_append(raft, id, peer, even_empty=True)


def broadcast_entries(raft: Raft) -> None:
    """Send entries to whom they are missing; no empty messages."""
    for id, peer in raft.tracker.progress.items():
        if id != raft.id:
            maybe_send_append(raft, id, peer, even_empty=False)


def broadcast_commit(raft: Raft) -> None:
    """The commit index has moved; with `commits_wait` it goes with the next entries.

    Of a membership change all must hear now: whom it removes is not spoken with afterwards.
    """
    if not raft.config.commits_wait or raft.log.applied < raft.pending_conf_index:
        broadcast_append(raft)


def tell_commit(raft: Raft, id: int) -> bool:
    """Send the commit index alone, if it is news there; nothing need be answered."""
    peer = raft.tracker.progress.get(id)
    commit = raft.log.committed
    if peer is None or not peer.can_tell_commit(commit):
        return False  # a heartbeat will
    prev_index = peer.next - 1
    prev_term = raft.log.term(prev_index)
    if prev_term is None:
        return False
    raft.messages.append(
        Message(_APPEND, id, raft.id, raft.term, prev_term, prev_index, commit=commit, quiet=True)
    )
    peer.note_commit_sent(commit)
    return True


def maybe_send_append(raft: Raft, id: int, peer: Progress, *, even_empty: bool) -> bool:
    """Send one APPEND, or the snapshot that must come before it; whether anything was sent."""
    if peer.paused_flow or peer.state is ProgressState.SNAPSHOT:
        return False
    log = raft.log
    prev_index = peer.next - 1
    prev_term = log.term(prev_index)
    if prev_term is None:
        return _maybe_send_snapshot(raft, id, peer)
    entries: list[Entry] = []
    size = 0
    # With a full window only an empty APPEND goes out: should all that is in the window be
    # lost, its answer is what frees the window again (etcd#14633).
    if peer.state is not ProgressState.REPLICATE or not peer.inflights.full:
        try:
            entries, size = log.entries_from(peer.next, raft.config.append_bytes_max)
        except LookupError:
            return _maybe_send_snapshot(raft, id, peer)
    if not entries and not even_empty:
        return False
    commit = log.committed
    raft.messages.append(
        Message(_APPEND, id, raft.id, raft.term, prev_term, prev_index, entries, commit)
    )
    peer.sent_entries(len(entries), size - ENTRY_OVERHEAD_BYTES * len(entries))
    peer.note_commit_sent(commit)
    return True


def _maybe_send_snapshot(raft: Raft, id: int, peer: Progress) -> bool:
    """Only to a member that answers; a dead one would pin a snapshot for nobody."""
    if not peer.recent_active:
        return False
    snapshot = raft.log.snapshot()
    if snapshot is None:
        return False  # not now; the next heartbeat's reply asks again
    assert snapshot.index > 0, snapshot
    peer.become_snapshot(snapshot.index)
    raft.messages.append(Message(MessageType.SNAPSHOT, id, raft.id, raft.term, snapshot=snapshot))
    return True


def broadcast_heartbeat(raft: Raft) -> None:
    """To everyone, in every state."""
    send_heartbeats(raft, raft.tracker.progress)


def send_heartbeats(raft: Raft, ids: Iterable[int]) -> None:
    """They carry the last read round that waits for a quorum."""
    context = raft.reads.context()
    committed = raft.log.committed
    for id in ids:
        peer = raft.tracker.progress.get(id)
        if peer is None or id == raft.id:
            continue
        # Capped by match: beyond it the follower's log is not verified (atomix/copycat#265).
        commit = min(peer.match, committed)
        raft.messages.append(
            Message(
                MessageType.HEARTBEAT,
                id,
                raft.id,
                raft.term,
                commit=commit,
                context=context,
            )
        )
        peer.note_commit_sent(commit)
