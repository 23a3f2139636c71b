"""What a member of a Raft group is told once, when it is made.

Time comes as ticks and randomness as a function, so that the core itself has
neither clock nor dice and a seed replays a whole cluster.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from chainfire.raft.messages import LOCAL_APPLY_THREAD, NOBODY

UNLIMITED: Final = 2**63 - 1


class ReadOnly(Enum):
    """How a linearizable read proves that its leader still leads."""

    SAFE = "safe"  # a round of heartbeats answered by a quorum
    LEASE_BASED = "lease-based"  # trust in clocks: CheckQuorum found a quorum lately


@dataclass(slots=True, frozen=True, kw_only=True)
class Config:
    """`…_max` in bytes count the data of entries plus a small fixed cost per entry (log.py)."""

    id: int
    # Draws an integer in [0, n). Each election timeout is election_ticks + draw(election_ticks);
    # members must not draw alike, or they split votes for ever.
    draw: Callable[[int], int]
    election_ticks: int = 10  # followers wait one to two of these; at least five heartbeats
    heartbeat_ticks: int = 1
    # What the state machine holds already; committed entries up to here are not handed out again.
    applied_index: int = 0
    # True: Ready names storage work as messages that carry their replies (see rawnode.py).
    async_storage_writes: bool = False
    append_bytes_max: int = 1 << 20  # one APPEND carries no more, but always one entry
    applying_bytes_max: int = UNLIMITED  # handed out to be applied and not yet applied
    uncommitted_bytes_max: int = UNLIMITED  # a leader without a quorum refuses proposals beyond
    inflight_messages_max: int = 256  # unanswered APPENDs per follower
    inflight_bytes_max: int = 0  # and their data; 0 = no limit, else >= append_bytes_max
    pre_vote: bool = True
    check_quorum: bool = True
    read_only: ReadOnly = ReadOnly.SAFE
    forward_proposals: bool = True  # False: a follower drops them, the caller forwards itself
    validate_conf_changes: bool = True  # False only where the proposer knows better
    # True: a commit index that no entries carry waits until RawNode.tell_commit is called, but for
    # that of a membership change.
    commits_wait: bool = False
    # True: a leader's first APPENDs leave with the Ready that follows its election, and take along
    # what was proposed by then. A follower gets no second one before it has answered the first.
    first_append_waits: bool = False
    # True: a request for a read index names its sender's term, and counts as that member's word
    # for the leader (see reads.py).
    asking_confirms: bool = False
    # True: a round of reads is asked of those whose answers confirmed the last one, and of the
    # others when RawNode.ask_all is called, or with the next heartbeat.
    rounds_ask_few: bool = False
    step_down_on_removal: bool = False  # a leader that removes or demotes itself follows at once

    def __post_init__(self) -> None:
        assert NOBODY < self.id < LOCAL_APPLY_THREAD, self.id
        assert 0 < self.heartbeat_ticks < self.election_ticks, (
            self.heartbeat_ticks,
            self.election_ticks,
        )
        assert self.inflight_messages_max > 0, self.inflight_messages_max
        assert not self.inflight_bytes_max or self.inflight_bytes_max >= self.append_bytes_max, (
            self.inflight_bytes_max,
            self.append_bytes_max,
        )
        assert self.read_only is ReadOnly.SAFE or self.check_quorum, "a lease needs check_quorum"
