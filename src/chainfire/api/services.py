"""What handlers may use: the node's face, limits, and counters.

`NodeFace` is all that the api knows of a node, so that tests can stand in for
it (tests/api/fake_node.py) and no handler reaches into Raft.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from chainfire import quota
from chainfire.api.counters import ApiCounters
from chainfire.api.encode import Headers
from chainfire.api.leaderless import Leaderless
from chainfire.api.longreplies import LongReplies
from chainfire.api.places import Places
from chainfire.api.renewing import Renewing
from chainfire.api.rounds import WatchRounds
from chainfire.errors import FatalError, Stopped
from chainfire.machine import Machine
from chainfire.mvcc.store import Mvcc
from chainfire.node.archiving import StateArchive
from chainfire.node.audience import Follower, Outlet
from chainfire.node.frames import Report
from chainfire.node.reads import ReadPending
from chainfire.node.reports import Heard
from chainfire.node.status import NodeStatus
from chainfire.node.worker import fatal
from chainfire.proto.cluster_pb2 import Member
from chainfire.raft.changes import ConfChange
from chainfire.storage.backend import StorageBackend
from chainfire.types import Pending, RenewResult
from chainfire.watch.hub import Hub

WATCH_OVERHEAD_BYTES = 512 * 1024  # of a response that is not fragmented, as in etcd
T = TypeVar("T")


class Work(Protocol):
    """Sliced work under way (`NodeFace.run_steps`)."""

    def cancel(self) -> None: ...


class OverviewFace(Protocol):
    """What a member tells of itself and has heard of others."""

    def match_indexes(self) -> Mapping[int, int]:
        """How far each member's log is known to reach; empty where the leader has not said."""
        ...

    def connected_seconds(self, peer: int) -> float | None:
        """For how long this member has been heard of without a gap; None: it is not there."""
        ...

    def own_report(self) -> Report: ...

    def reports(self) -> Mapping[int, Heard]:
        """What other members last said of themselves; who was never heard is not in it."""
        ...

    def status(self) -> NodeStatus: ...


class NodeFace(Protocol):
    """A member as handlers see it. All calls return at once; nothing here blocks."""

    cluster_id: int
    member_id: int
    backend: StorageBackend  # the state, for reads

    @property
    def overview(self) -> OverviewFace: ...

    @property
    def machine(self) -> Machine:
        """The state, with all that was answered."""
        ...

    @property
    def machine_as_applied(self) -> Machine:
        """The same, which may lack some of what was answered: for who only wants a bound."""
        ...

    @property
    def store(self) -> Mvcc:
        """The machine's, with all that was answered."""
        ...

    def catch_up(self) -> None:
        """Apply all that was answered, and tell the follower, before somebody new is told."""
        ...

    @property
    def term(self) -> int: ...

    @property
    def leader_id(self) -> int:
        """0 = none known."""
        ...

    def propose(
        self,
        kind: int,
        body: bytes,
        pending: Pending,
        *,
        keyspace: int = 0,
        user: str = "",
        auth_revision: int = 0,
    ) -> None:
        """Replicate a command; `pending` hears what became of it."""
        ...

    def kept(self, ids: Sequence[int]) -> RenewResult:
        """Let the TTLs of these leases begin anew, as far as that can be said at once.

        UNWRITTEN in the place of a TTL: ask `renew`.
        """
        ...

    def renew(self, ids: Sequence[int], pending: Pending) -> None:
        """Let the TTLs of these leases begin anew; `pending` gets a RenewResult in their order."""
        ...

    @property
    def lease_clock_ms(self) -> int:
        """What the replicated lease clock reads, as far as this member can tell."""
        ...

    def propose_conf_change(
        self, change: ConfChange, members: Sequence[Member], pending: Pending
    ) -> None:
        """Change the membership; `members` describes whom it adds, and whose peer URLs it moves."""
        ...

    def move_leader(self, target: int, pending: Pending) -> None:
        """Let this voter lead; refused where this member does not."""
        ...

    def read(
        self, level: int, min_revision: int, deadline: float | None, pending: ReadPending
    ) -> None:
        """`pending.ready()` once the store may be read at this level, at once where possible."""
        ...

    @property
    def is_barred(self) -> bool:
        """Nothing may be read now, as while the disk does not take the state; see `read`."""
        ...

    def run_steps(
        self,
        work: Generator[None, None, T],
        on_done: Callable[[T], None],
        on_error: Callable[[Exception], None],
    ) -> Work:
        """Drive sliced work between turns. The first slice runs before this returns."""
        ...

    def follow(self, follower: Follower) -> None:
        """Tell it of all that is applied from now on, before anybody is answered."""
        ...

    def answer_through(self, outlet: Outlet) -> None:
        """Answers are told to leave as soon as a turn has given them, before more is applied."""
        ...

    def take_turn(self) -> None:
        """Carry out now what was proposed in this pass of the loop: no other call comes in it."""
        ...

    def when_compacted(self, revision: int, pending: ReadPending) -> None:
        """`pending.ready()` once everything up to `revision` is physically gone here."""
        ...

    def nudge_compaction(self) -> None:
        """Ask the storage engine to give space back; returns at once."""
        ...

    def archive(self) -> StateArchive:
        """The whole state as one stream of bytes, while the member goes on."""
        ...

    def halt(self, error: FatalError) -> None:
        """A read met what no member may live with: stop."""
        ...


@dataclass(slots=True, frozen=True)
class Limits:
    """etcd's flags of the same names; a body may be as large as `max_request_bytes`."""

    max_request_bytes: int = 1_572_864
    max_txn_ops: int = 128
    quota_bytes: int = quota.DEFAULT_BYTES  # negative = no quota
    request_timeout_seconds: float = 7.0  # what the member grants a request of its own
    strict_reconfig_check: bool = True  # refuse membership changes that endanger the quorum
    max_learners: int = 1
    lease_ttl_seconds_min: int = 2  # a shorter TTL becomes this one
    progress_seconds: float = 600.0  # between two words to watchers that asked for progress
    leaderless_seconds: float = 3.0  # then streams that require a leader end


class Serving:
    """Whether this member takes requests (grpc.health.v1). Cleared before a shutdown."""

    def __init__(self) -> None:
        self.now = True
        self.change = asyncio.Event()  # set, and replaced, when `now` changes
        self.waiting: dict[object, Callable[[], None]] = {}  # who might wait for ever: end it

    def set(self, now: bool) -> None:
        if now != self.now:
            self.now = now
            self.change.set()
            self.change = asyncio.Event()
            for end in () if now else tuple(self.waiting.values()):
                end()


@dataclass(slots=True)
class Services:
    """One member's services; shared by all its doors."""

    node: NodeFace
    limits: Limits = field(default_factory=Limits)
    counters: ApiCounters = field(default_factory=ApiCounters)
    serving: Serving = field(default_factory=Serving)
    headers: Headers = field(init=False)
    watches: Hub = field(init=False)
    rounds: WatchRounds = field(init=False)
    leaderless: Leaderless = field(init=False)
    renewing: Renewing = field(init=False)
    long_replies: LongReplies = field(init=False)
    line_walk: asyncio.Lock = field(default_factory=asyncio.Lock)  # of locks and elections
    places: Places = field(default_factory=Places)

    def __post_init__(self) -> None:
        node = self.node
        self.long_replies = LongReplies(
            node.run_steps, self.serving.waiting, is_barred=lambda: node.is_barred
        )
        self.headers = Headers(node.cluster_id, node.member_id)
        self.watches = Hub(
            node.machine_as_applied,
            node.machine.revision,
            header=self.header,
            run=self._run,
            may_read=lambda: node.machine_as_applied.may_be_read,
            catch_up=node.catch_up,
            fragment_bytes_max=self.limits.max_request_bytes + WATCH_OVERHEAD_BYTES,
        )
        node.follow(self.watches)
        self.rounds = WatchRounds(
            self.limits.progress_seconds,
            tell_progress=lambda: self._run(self.watches.progress_steps()),
        )
        self.leaderless = Leaderless(
            self.limits.leaderless_seconds, has_leader=lambda: bool(node.leader_id)
        )
        self.renewing = Renewing(node, self.header)

    def _run(self, work: Generator[None, None, None]) -> None:
        """Drive sliced work that nobody waits for."""
        self.node.run_steps(work, _nothing, self._failed)

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, Stopped):
            self.node.halt(fatal(error))

    def header(self, revision: int) -> bytes:
        """Field 1 of a reply: its header, ready to be joined."""
        return self.headers.field(revision, self.node.term)


def _nothing(_: None) -> None:
    """Nobody waits for it."""
