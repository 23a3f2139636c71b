"""What members say to each other, and what the core says to its own storage.

Rules of this file: plain data, no behaviour. A message is never changed after
it was handed out; its entries may be shared with other messages.

    from a leader      APPEND, HEARTBEAT, SNAPSHOT, TIMEOUT_NOW
    from a candidate   PRE_VOTE, VOTE
    replies            the same names with _REPLY
    passed on          PROPOSE, READ_INDEX, TRANSFER_LEADER (follower to leader)
    own storage        STORAGE_APPEND, STORAGE_APPLY and their _REPLY

Messages between members carry their sender's term; those that are passed on
carry none, because they are not claims about a term; but for a READ_INDEX that is meant as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from chainfire.errors import ChainfireError
from chainfire.types import ConfState, Entry

NOBODY: Final = 0  # no member has this id
LOCAL_APPEND_THREAD: Final = 2**64 - 1  # who is told to write the log
LOCAL_APPLY_THREAD: Final = 2**64 - 2  # who is told to apply committed entries

TRANSFER: Final = b"transfer"  # context of a VOTE that was asked for by the leader itself


class MessageType(IntEnum):
    """The numbers travel between members; never reuse one."""

    APPEND = 1
    APPEND_REPLY = 2
    HEARTBEAT = 3
    HEARTBEAT_REPLY = 4
    SNAPSHOT = 5
    TIMEOUT_NOW = 6
    PRE_VOTE = 7
    PRE_VOTE_REPLY = 8
    VOTE = 9
    VOTE_REPLY = 10
    PROPOSE = 11
    READ_INDEX = 12
    READ_INDEX_REPLY = 13
    TRANSFER_LEADER = 14
    STORAGE_APPEND = 15
    STORAGE_APPEND_REPLY = 16
    STORAGE_APPLY = 17
    STORAGE_APPLY_REPLY = 18


@dataclass(slots=True, frozen=True)
class Snapshot:
    """A state that replaces the log up to `index`. `data` is opaque and mostly empty."""

    index: int
    term: int
    conf_state: ConfState
    data: bytes = b""


@dataclass(slots=True, init=False)
class Message:
    """One message; which fields count depends on `type`.

    APPEND           log_term, index: the entry before `entries`; commit; quiet: do not acknowledge
    APPEND_REPLY     index: last matching; or reject, the refused index, reject_hint, log_term
    VOTE, PRE_VOTE   log_term, index: the candidate's last entry
    their _REPLY     reject, and then settled: index and term of the voter's last committed entry
    HEARTBEAT        commit, capped by what the receiver is known to hold; context of a read round
    READ_INDEX…      context, and in the reply index
    STORAGE_APPEND   entries, snapshot, and term, vote, commit when the hard state changed
    STORAGE_APPLY    entries
    """

    type: MessageType
    to: int
    sender: int
    term: int
    log_term: int
    index: int
    entries: Sequence[Entry]
    commit: int
    vote: int
    reject: bool
    reject_hint: int
    context: bytes
    snapshot: Snapshot | None
    responses: Sequence[Message]
    settled: tuple[int, int]
    quiet: bool

    def __init__(
        self,
        type: MessageType,
        to: int,
        sender: int,
        term: int = 0,
        log_term: int = 0,
        index: int = 0,
        entries: Sequence[Entry] = (),
        commit: int = 0,
        vote: int = 0,
        reject: bool = False,
        reject_hint: int = 0,
        context: bytes = b"",
        snapshot: Snapshot | None = None,
        responses: Sequence[Message] = (),
        settled: tuple[int, int] = (0, 0),
        quiet: bool = False,
    ) -> None:
        self.type = type
        self.to = to
        self.sender = sender
        self.term = term
        self.log_term = log_term
        self.index = index
        self.entries = entries
        self.commit = commit
        self.vote = vote
        self.reject = reject
        self.reject_hint = reject_hint
        self.context = context
        self.snapshot = snapshot
        self.responses = responses
        self.settled = settled
        self.quiet = quiet


# With asynchronous storage these wait until the STORAGE_APPEND of their Ready is durable. A
# candidate that asks for votes in a term it may forget by a crash could stand in it twice, with
# a shorter log the second time, and be elected by an answer to the first (etcd's library leaves
# this to its user). All other messages of a Ready may leave at once.
AFTER_SYNC: Final = frozenset({MessageType.VOTE})


class Refusal(IntEnum):
    """Why `step` did not take a message. The network may send anything, so none of it raises."""

    PROPOSAL_DROPPED = 1  # no leader, a transfer under way, or too much uncommitted
    PEER_NOT_FOUND = 2  # a reply from somebody outside the configuration
    LOCAL_MESSAGE = 3  # of a kind, or without the term, that no other member may send


class ProposalDropped(ChainfireError):
    """The proposal was not taken and left no trace; the caller may try again elsewhere or later."""

    text = "raft proposal dropped"
