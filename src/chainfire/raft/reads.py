"""Linearizable reads on a leader: hold, start a round, answer (thesis §6.4).

Who asks confirms (`Config.asking_confirms`). A follower that asks says which term it is in, and
core drops what is said of an older one. If it and the leader are a quorum, as any two voters of
three are, no round is needed:

    Read r begins, then F, in term T, asks L; L leads T when it hears that.
    Say something was committed before r in a term above T. Each member of the quorum that
    acknowledged it was in that term before r, and terms never fall. F was in T after r began, L
    later still. So neither is of that quorum, which therefore is none.
    What was committed in T or before, L knows: it has committed an entry of T.

The word counts for this request alone. A round of L's own may be younger than it, and what was
said before a read began proves nothing for that read.
"""

from __future__ import annotations

from chainfire.raft.config import ReadOnly
from chainfire.raft.messages import NOBODY, Message, MessageType
from chainfire.raft.readindex import ReadRequest
from chainfire.raft.ready import ReadState
from chainfire.raft.replication import broadcast_heartbeat, send_heartbeats, tell_commit
from chainfire.raft.state import Raft


def start_read(raft: Raft, request: ReadRequest) -> None:
    """The leader's part of a read, its own or a follower's.

    Until an entry of this term is committed the commit index may lie behind what
    an earlier leader has answered (etcd#7331). A sole voter waits too: after a
    restart its commit index is the stored one, which lags (raft#105).
    """
    if not raft.committed_in_term:
        raft.held_reads.append(request)
    elif raft.tracker.is_singleton and raft.id in raft.tracker.conf.voters:
        answer_read(raft, request, raft.log.committed)
    elif raft.config.read_only is ReadOnly.LEASE_BASED and raft.transferee == NOBODY:
        # During a transfer the successor may win inside our lease (openraft#1747).
        answer_read(raft, request, raft.log.committed)
    elif request.confirms and raft.tracker.is_quorum((raft.id, request.sender)):
        answer_read(raft, request, raft.log.committed)
    else:
        raft.reads.start(raft.log.committed, request, raft.id)
        if raft.config.rounds_ask_few and raft.tracker.is_quorum(raft.reads.helpers):
            send_heartbeats(raft, raft.reads.helpers)
        else:
            broadcast_heartbeat(raft)


def ask_all(raft: Raft) -> None:
    """Those who were asked keep silent: ask everybody, and see who answers first."""
    if len(raft.reads):
        raft.reads.helpers = ()
        broadcast_heartbeat(raft)


def release_held_reads(raft: Raft) -> None:
    """The commit index moved; what waited for the first entry of this term goes on."""
    if raft.held_reads and raft.committed_in_term:
        held, raft.held_reads = raft.held_reads, []
        for request in held:
            start_read(raft, request)


def answer_read(raft: Raft, request: ReadRequest, index: int) -> None:
    if request.sender == raft.id:
        raft.read_states.append(ReadState(index, request.context))
    else:
        raft.messages.append(
            Message(
                MessageType.READ_INDEX_REPLY,
                request.sender,
                raft.id,
                raft.term,
                index=index,
                context=request.context,
            )
        )
        if raft.config.commits_wait:
            tell_commit(raft, request.sender)


# ── messages ────────────────────────────────────────────────────────────────


def on_read_index(raft: Raft, message: Message) -> None:
    """At the leader, from a follower."""
    start_read(raft, ReadRequest(message.sender, message.context, message.term == raft.term))


def pass_on_read_index(raft: Raft, message: Message) -> None:
    """At a follower that was taken for the leader; the reply goes to the first sender."""
    if raft.leader != NOBODY and raft.leader != message.sender:
        raft.messages.append(
            Message(MessageType.READ_INDEX, raft.leader, message.sender, context=message.context)
        )


def on_read_index_reply(raft: Raft, message: Message) -> None:
    """At a follower, from the leader of this term."""
    raft.read_states.append(ReadState(message.index, message.context))
