"""What the core wants done: one `Ready` per turn. The duties are on the fields.

Rules for whoever carries it out, in either mode of storage:
1. Entries, hard state and snapshot of one Ready are durable before those of
   the next one are written (in order, possibly in one sync).
2. Nothing of a Ready is skipped; an empty Ready needs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum

from chainfire.raft.messages import NOBODY, Message, Snapshot
from chainfire.types import Entry, HardState


class Role(IntEnum):
    """
    FOLLOWER ──timeout──► PRE_CANDIDATE ──quorum──► CANDIDATE ──quorum──► LEADER
        ▲  (without pre-vote straight to CANDIDATE)                          │
        └── a newer term, a leader of this term, a lost vote, no quorum ─────┘
    """

    FOLLOWER = 0
    PRE_CANDIDATE = 1
    CANDIDATE = 2
    LEADER = 3


class StepDown(Enum):
    """Why a leader leads no longer, in words for its log."""

    HANDED_OVER = "leadership was handed over"
    NEWER_TERM = "another member has a newer term"
    QUORUM_SILENT = "no quorum has answered for an election timeout"
    REMOVED = "a membership change has left it without a vote"
    DISK_STALLS = "its disk has finished no sync for an election timeout"
    STATE_DIFFERS = "its state is not the majority's"


@dataclass(slots=True, frozen=True)
class SoftState:
    """What is worth knowing and need not be stored."""

    leader: int = NOBODY
    role: Role = Role.FOLLOWER


@dataclass(slots=True, frozen=True)
class ReadState:
    """A read that came with `context` may be answered once `index` is applied."""

    index: int
    context: bytes


@dataclass(slots=True)
class Ready:
    """One turn's work. With async storage writes only `messages` need be acted upon, and
    `soft_state` and `read_states` be looked at: the rest is repeated in the storage messages.
    """

    soft_state: SoftState | None = None  # only when it changed
    hard_state: HardState | None = None  # only when it changed; to be stored
    read_states: Sequence[ReadState] = ()
    entries: Sequence[Entry] = ()  # to be stored, replacing what is there from their index on
    snapshot: Snapshot | None = None  # to be installed before anything else of this Ready
    committed: Sequence[Entry] = ()  # to be applied
    # Synchronous mode: to be sent after entries, hard state and snapshot are durable.
    # Async mode: to be sent at once, but those of AFTER_SYNC when this Ready's STORAGE_APPEND is
    # durable; STORAGE_APPEND and STORAGE_APPLY go to the own storage.
    messages: list[Message] = field(default_factory=list)
    must_sync: bool = False  # entries, term or vote changed; a commit index alone needs no sync


@dataclass(slots=True, init=False)
class Work:
    """A Ready of the steady state, with asynchronous storage: see `RawNode.work`."""

    messages: Sequence[Message]  # to be sent at once; none is of AFTER_SYNC
    read_states: Sequence[ReadState]
    append: Message | None  # the STORAGE_APPEND, if there is one
    committed: Sequence[Entry]  # to be applied; then `applied_to`

    def __init__(
        self,
        messages: Sequence[Message],
        read_states: Sequence[ReadState],
        append: Message | None,
        committed: Sequence[Entry],
    ) -> None:
        self.messages = messages
        self.read_states = read_states
        self.append = append
        self.committed = committed
