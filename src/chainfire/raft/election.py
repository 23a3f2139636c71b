"""Standing for election, voting, counting votes."""

from __future__ import annotations

from chainfire.raft.log import RaftLog
from chainfire.raft.messages import NOBODY, TRANSFER, Message, MessageType
from chainfire.raft.quorum import Verdict
from chainfire.raft.ready import Role
from chainfire.raft.replication import append_own, broadcast_append
from chainfire.raft.state import Raft
from chainfire.types import Entry, EntryType

_SCAN_BYTES = 1 << 20


def campaign(raft: Raft, *, transfer: bool = False) -> bool:
    """Stand for election, with a round of pre-votes first if so configured; False if barred.

    A transfer skips the pre-vote: the leader itself asks for it. A member with
    a committed but unapplied membership change waits: it does not know yet whose
    votes count.
    """
    if raft.role is Role.LEADER or not raft.promotable or _unapplied_conf_change(raft.log):
        return False
    if raft.config.pre_vote and not transfer:
        raft.become_pre_candidate()
        _ask(raft, MessageType.PRE_VOTE, raft.term + 1, b"")
    else:
        _stand(raft, TRANSFER if transfer else b"")
    return True


def _stand(raft: Raft, context: bytes) -> None:
    raft.become_candidate()
    _ask(raft, MessageType.VOTE, raft.term, context)


def _ask(raft: Raft, type: MessageType, term: int, context: bytes) -> None:
    """Ask every voter; our own vote counts when it is durable, like any other's."""
    log = raft.log
    last_index, last_term = log.last_index, log.last_term
    for id in raft.tracker.all_voters:
        if id == raft.id:
            raft.after_append.append(Message(_REPLY[type], id, id, term))
        else:
            raft.messages.append(
                Message(type, id, raft.id, term, last_term, last_index, context=context)
            )


_REPLY = {
    MessageType.PRE_VOTE: MessageType.PRE_VOTE_REPLY,
    MessageType.VOTE: MessageType.VOTE_REPLY,
}


def _unapplied_conf_change(log: RaftLog) -> bool:
    return log.applied < log.committed and _conf_change_in(log, log.applied + 1, log.committed)


def _conf_change_in(log: RaftLog, low: int, high: int) -> bool:
    """Whether there is a membership change from `low` to `high`, both included."""
    while low <= high:
        entries, _ = log.slice(low, high + 1, _SCAN_BYTES)
        if any(entry.type is not EntryType.NORMAL for entry in entries):
            return True
        low += len(entries)
    return False


# ── votes ───────────────────────────────────────────────────────────────────


def on_vote_request(raft: Raft, message: Message) -> None:
    """VOTE and PRE_VOTE, in every role; a newer term was taken over before this.

    Learners vote too: whoever asks counts us as a voter by a configuration that
    may be newer than ours (etcd#10998).
    """
    pre = message.type is MessageType.PRE_VOTE
    may_vote = (
        raft.vote == message.sender
        or (raft.vote == NOBODY and raft.leader == NOBODY)
        or (pre and message.term > raft.term)
    )
    reply = _REPLY[message.type]
    if may_vote and raft.log.is_up_to_date(message.index, message.log_term):
        # A granted pre-vote carries the asked term, which is not ours; a refusal carries
        # ours, so that a candidate left behind learns it (raft d4471b2, openraft#1796).
        raft.after_append.append(Message(reply, message.sender, raft.id, message.term))
        if not pre:
            raft.election_elapsed_ticks = 0
            raft.vote = message.sender
    else:
        log = raft.log
        settled = (log.committed, log.term(log.committed) or 0)
        raft.after_append.append(
            Message(reply, message.sender, raft.id, raft.term, reject=True, settled=settled)
        )


def on_vote_reply(raft: Raft, message: Message) -> None:
    """At a candidate, of the kind that it asked for; others are leftovers (openraft 511f33c7)."""
    expected = (
        MessageType.PRE_VOTE_REPLY if raft.role is Role.PRE_CANDIDATE else MessageType.VOTE_REPLY
    )
    if message.type is not expected:
        return
    if message.reject and _learns_membership(raft.log, message):
        raft.log.commit_to(message.settled[0])
        raft.become_follower(raft.term, NOBODY)
        return
    raft.tracker.record_vote(message.sender, not message.reject)
    verdict = raft.tracker.election_verdict()
    if verdict is Verdict.WON:
        if raft.role is Role.PRE_CANDIDATE:
            _stand(raft, b"")
        else:
            become_leader(raft)
            if raft.config.first_append_waits:
                raft.owes_first_append = True
            else:
                broadcast_append(raft)
    elif verdict is Verdict.LOST:
        # Not message.term: a refused pre-vote's may be of the future that we only asked about.
        raft.become_follower(raft.term, NOBODY)


def _learns_membership(log: RaftLog, message: Message) -> bool:
    """We hold a membership change and do not know, as the voter does, that it is committed.

    A and B are voters, A leads, both hold "B alone" and A's log is longer.
      1. A commits the change and applies it: it may not stand for election any more.
      2. A dies, or steps down, before B hears of the commit. It comes back.
      3. B needs A's vote, by the old membership; A's log is longer, so A refuses. For ever.
    The refusal therefore says what is committed: B becomes a follower again, applies the
    change, and needs nobody (etcd#10563; raft-rs does the same for every commit).
    """
    index, term = message.settled
    return (
        log.committed < index <= log.last_index
        and log.matches(index, term)
        and _conf_change_in(log, log.committed + 1, index)
    )


def become_leader(raft: Raft) -> None:
    """Begin the term with an empty entry: committing it commits all before it (Raft §8)."""
    assert raft.role is Role.CANDIDATE, raft.role
    raft.reset(raft.term)
    raft.leader = raft.id
    raft.role = Role.LEADER
    own = raft.tracker.progress[raft.id]
    own.become_replicate()
    own.recent_active = True
    # An uncommitted membership change may be among what we inherited; assume it is the last.
    raft.pending_conf_index = raft.log.last_index
    raft.inherited_term = raft.log.last_term
    append_own(raft, [Entry(raft.term, raft.log.last_index + 1)])
