"""What a leader learns from its followers' answers."""

from __future__ import annotations

from chainfire.raft.messages import Message
from chainfire.raft.progress import Progress, ProgressState
from chainfire.raft.reads import answer_read, release_held_reads
from chainfire.raft.replication import broadcast_commit, maybe_commit, maybe_send_append
from chainfire.raft.state import Raft
from chainfire.raft.transfer import send_timeout_now


def on_append_reply(raft: Raft, message: Message) -> None:
    peer = raft.tracker.progress.get(message.sender)
    if peer is None:
        return
    peer.recent_active = True
    if message.reject:
        _on_refusal(raft, message, peer)
    elif message.index > raft.log.last_index:
        return  # nobody holds more than its leader: not an answer to us
    elif peer.maybe_update(message.index) or (
        # A probe of somebody who has everything is answered with what we knew.
        peer.match == message.index and peer.state is ProgressState.PROBE
    ):
        _on_match(raft, message.sender, peer)


def _on_refusal(raft: Raft, message: Message, peer: Progress) -> None:
    """The follower's log differs at, or ends before, the entry that we sent behind.

    Its hint is its last entry whose term is not above the refused one's. We skip, on our
    side, all entries whose term is above the hint's: they cannot match either. So a
    divergent tail costs one round per term and not one per entry:

        index   1 2 3 4 5 6 7 8 9        we refuse to walk 9, 8, 7 …
        leader  1 3 3 3 5 5 5 5 5        probe behind 9 (term 5)
        B       1 1 1 1 2 2              refused: hint 6, term 2 → our last term <= 2 is at 1
    """
    hint_index = message.reject_hint
    if message.log_term > 0:
        hint_index, _ = raft.log.last_index_not_above(message.reject_hint, message.log_term)
    if peer.maybe_decrease(message.index, hint_index):
        if peer.state is ProgressState.REPLICATE:
            peer.become_probe()
        maybe_send_append(raft, message.sender, peer, even_empty=True)


def _on_match(raft: Raft, id: int, peer: Progress) -> None:
    state = peer.state
    if state is ProgressState.REPLICATE:
        peer.inflights.free_up_to(peer.match)
    elif state is ProgressState.PROBE:
        peer.become_replicate()
    elif peer.match + 1 >= raft.log.first_index:
        # The log reaches what it holds, whichever snapshot brought it there: it need not be
        # the one that we know of.
        peer.become_probe()
        peer.become_replicate()

    waits = raft.config.commits_wait
    # What others hold without it, was committed without it.
    if peer.match > raft.log.committed and maybe_commit(raft):
        release_held_reads(raft)
        broadcast_commit(raft)
    elif id != raft.id and not waits and peer.can_bump_commit(raft.log.committed):
        maybe_send_append(raft, id, peer, even_empty=True)
    if id == raft.id:
        return
    last_index = raft.log.last_index
    while peer.next <= last_index and maybe_send_append(raft, id, peer, even_empty=False):
        pass  # as much as the window, freed just now, allows
    if id == raft.transferee and peer.match == raft.log.last_index:
        send_timeout_now(raft, id)


def on_heartbeat_reply(raft: Raft, message: Message) -> None:
    """The member is alive: unpause it, and see what it lacks.

    Liveness and replication are one signal: a member that answers heartbeats
    while appends are stuck is sent an append.
    """
    peer = raft.tracker.progress.get(message.sender)
    if peer is None:
        return
    peer.recent_active = True
    peer.paused_flow = False
    if peer.match < raft.log.last_index or peer.state is ProgressState.PROBE:
        maybe_send_append(raft, message.sender, peer, even_empty=True)
    if message.context:
        for round in raft.reads.answered(message.sender, message.context, raft.tracker.conf):
            answer_read(raft, round.request, round.index)


# ── what the transport reports ──────────────────────────────────────────────


def on_snapshot_report(peer: Progress, *, arrived: bool) -> None:
    """The carrier is done; go on behind the snapshot, or from where the member was.

    Nothing is sent now: after success its APPEND_REPLY is on the way, after a
    failure the next heartbeat's reply is soon enough.
    """
    if peer.state is not ProgressState.SNAPSHOT:
        return
    if not arrived:
        peer.pending_snapshot = 0
    peer.become_probe()
    peer.paused_flow = True


def on_unreachable(peer: Progress) -> None:
    """Messages were probably lost; do not send ahead before the member has answered."""
    if peer.state is ProgressState.REPLICATE:
        peer.become_probe()
