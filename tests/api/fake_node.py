"""A node for handler tests: a real machine over memory, no Raft, no loop, no disk.

Commands are applied, and reads granted, at once; with `held` they wait for
`release()`, as they would for the log.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, TypeVar

from chainfire.api.call import Call
from chainfire.api.services import Limits, Services
from chainfire.api.table import METHODS, run
from chainfire.command import CommandKind, Envelope
from chainfire.errors import FatalError, RequestError
from chainfire.lease import UNWRITTEN
from chainfire.machine import Machine, bootstrap
from chainfire.mvcc.compact import Compaction
from chainfire.mvcc.store import Mvcc
from chainfire.node.archiving import StateArchive
from chainfire.node.audience import Follower, Outlet
from chainfire.node.changing import check
from chainfire.node.frames import Report
from chainfire.node.reads import ReadPending
from chainfire.node.reports import Heard
from chainfire.node.status import NodeStatus
from chainfire.proto.cluster_pb2 import Member
from chainfire.proto.command_pb2 import ConfChangeContext, LeaseExpire, LeaseRenew
from chainfire.raft.changes import ChangeKind, ConfChange
from chainfire.storage.backend import STATE_FAMILIES
from chainfire.storage.memory import MemoryBackend
from chainfire.types import (
    AckResult,
    ConfState,
    Entry,
    EntryType,
    Nobody,
    Pending,
    RenewResult,
)

T = TypeVar("T")
CLUSTER_ID = 0xCDF818194E3A8C32
MEMBER_ID = 0x8E9E05C52164694D
CLIENT_URL, PEER_URL = "http://127.0.0.1:2379", "http://127.0.0.1:2380"


class Work:
    """Sliced work that runs one slice per `turn`."""

    def __init__(
        self,
        steps: Generator[None, None, T],
        on_done: Callable[[T], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._steps = steps
        self._on_done = on_done
        self._on_error = on_error
        self.open = True

    def turn(self) -> None:
        try:
            next(self._steps)
        except StopIteration as end:
            self.open = False
            self._on_done(end.value)
        except Exception as exc:
            self.open = False
            self._on_error(exc)

    def cancel(self) -> None:
        self.open = False
        self._steps.close()


class FakeNode:
    cluster_id = CLUSTER_ID
    member_id = MEMBER_ID

    def __init__(self) -> None:
        self.backend = MemoryBackend(STATE_FAMILIES)
        member = Member(ID=MEMBER_ID, name="default", peerURLs=[PEER_URL], clientURLs=[CLIENT_URL])
        bootstrap(self.backend, [member], ConfState(voters=(MEMBER_ID,)), "3.7.0")
        self.machine = Machine(self.backend, cache_bytes=1 << 20)
        self.term = 2
        self.leader_id = MEMBER_ID
        self.is_learner = False
        self.held = False
        self.is_barred = False  # reads wait, as while the disk does not take the state
        self.refusal: RequestError | None = None  # every command and read gets it
        self.proposed: list[int] = []  # kinds
        self.levels: list[int] = []  # of reads
        self.nudges = 0
        self.changes: list[ConfChange] = []
        self.moved_to: int | None = None  # whom it was asked to let lead
        self.matches: dict[int, int] = {}  # as the leader sees them
        self.connected: dict[int, float] = {}  # seconds; who is not in it is not there
        self.heard: dict[int, Heard] = {}
        self.lease_clock_ms = 0  # stamped into commands
        self.halted: list[FatalError] = []
        self._commands: list[tuple[bytes, Pending]] = []
        self._reads: list[tuple[int, ReadPending]] = []
        self._compactions: list[tuple[int, ReadPending]] = []
        self.work: list[Work] = []
        self.follower: Follower | None = None
        self.overview = FakeOverview(self)

    @property
    def machine_as_applied(self) -> Machine:
        return self.machine

    @property
    def store(self) -> Mvcc:
        return self.machine.store

    def catch_up(self) -> None:
        pass

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
        self.proposed.append(kind)
        if self.refusal is not None:
            pending.refused(self.refusal)
            return
        envelope = Envelope(
            member_id=1, start_number=1, lowest_unsettled=1, leader_clock_ms=self.lease_clock_ms
        )
        self._commands.append((envelope.encode(len(self.proposed), kind, body), pending))
        if not self.held:
            self.release()

    def kept(self, ids: Sequence[int]) -> RenewResult:
        """None of them: all go through the log."""
        return RenewResult(self.machine.revision, [UNWRITTEN] * len(ids))

    def renew(self, ids: Sequence[int], pending: Pending) -> None:
        self.propose(CommandKind.LEASE_RENEW, LeaseRenew(ids=ids).SerializeToString(), pending)

    def expire(self, *ids: int) -> None:
        """As the leader does once their time is over."""
        body = LeaseExpire(ids=ids).SerializeToString()
        self.propose(CommandKind.LEASE_EXPIRE, body, Nobody())

    def propose_conf_change(
        self, change: ConfChange, members: Sequence[Member], pending: Pending
    ) -> None:
        """Applied at once, as a cluster would that agrees."""
        self.changes.append(change)
        if self.refusal is not None:
            pending.refused(self.refusal)
            return
        context = ConfChangeContext(
            members=members, member_id=1, start_number=1, sequence=10_000 + len(self.changes)
        )

        def enter() -> ConfState:
            check(change, context, self.machine.members, self.machine.removed_members)
            return after(change, self.machine.conf_state)

        entry = Entry(self.term, self.machine.applied_index + 1, EntryType.CONF_CHANGE)
        (applied,) = self.machine.apply_conf_change(entry, context, enter)
        if isinstance(applied.result, RequestError):
            pending.refused(applied.result)
        else:
            pending.done(applied.result)

    def move_leader(self, target: int, pending: Pending) -> None:
        self.moved_to = target
        if self.refusal is not None:
            pending.refused(self.refusal)
        else:
            self.leader_id = target
            pending.done(AckResult(self.machine.revision))

    def read(
        self, level: int, min_revision: int, deadline: float | None, pending: ReadPending
    ) -> None:
        self.levels.append(level)
        if self.refusal is not None:
            pending.refused(self.refusal)
        elif self.held or self.is_barred or min_revision > self.machine.revision:
            self._reads.append((min_revision, pending))
        else:
            pending.ready()

    def run_steps(
        self,
        work: Generator[None, None, T],
        on_done: Callable[[T], None],
        on_error: Callable[[Exception], None],
    ) -> Work:
        steps = Work(work, on_done, on_error)
        steps.turn()
        self.work.append(steps)
        if not self.held:
            self.release()
        return steps

    def follow(self, follower: Follower) -> None:
        self.follower = follower

    def answer_through(self, outlet: Outlet) -> None: ...

    def take_turn(self) -> None: ...

    def when_compacted(self, revision: int, pending: ReadPending) -> None:
        self._compactions.append((revision, pending))

    def compact_physically(self) -> None:
        compaction = Compaction(self.backend, self.store, 0)
        while not compaction.step(100):
            pass
        waiting, self._compactions = self._compactions, []
        for _, pending in waiting:
            pending.ready()

    def nudge_compaction(self) -> None:
        self.nudges += 1

    def archive(self) -> StateArchive:
        raise AssertionError("memory has no files to copy")

    def halt(self, error: FatalError) -> None:
        self.halted.append(error)

    def apply(self) -> None:
        """And tell who waits for it."""
        commands, self._commands = self._commands, []
        for data, pending in commands:
            entry = Entry(self.term, self.machine.applied_index + 1, data=data)
            (applied,) = self.machine.apply([entry])
            if self.follower is not None:
                self.follower.applied(self.machine.take_changes(), self.machine.revision)
            if isinstance(applied.result, RequestError):
                pending.refused(applied.result)
            else:
                pending.done(applied.result)

    def release(self) -> None:
        """Apply and answer all that waits."""
        self.apply()
        reads, self._reads = self._reads, []
        for min_revision, reader in reads:
            if min_revision > self.machine.revision:
                self._reads.append((min_revision, reader))
            else:
                reader.ready()
        for work in self.work:
            while work.open:
                work.turn()


class FakeOverview:
    """What the node's test has set."""

    def __init__(self, node: FakeNode) -> None:
        self._node = node

    def match_indexes(self) -> Mapping[int, int]:
        return self._node.matches

    def connected_seconds(self, peer: int) -> float | None:
        return self._node.connected.get(peer)

    def own_report(self) -> Report:
        index = self._node.machine.applied_index
        return Report(
            term=self._node.term,
            leader=self._node.leader_id,
            commit_index=index,
            applied_index=index,
            revision=self._node.machine.revision,
            in_use_bytes=self._node.machine.usage(0),
            version="3.7.1",
        )

    def reports(self) -> Mapping[int, Heard]:
        return self._node.heard

    def status(self) -> NodeStatus:
        index = self._node.machine.applied_index
        return NodeStatus(
            cluster_id=CLUSTER_ID,
            member_id=MEMBER_ID,
            leader_id=self._node.leader_id,
            term=self._node.term,
            commit_index=index,
            applied_index=index,
            is_learner=self._node.is_learner,
        )


def after(change: ConfChange, conf: ConfState) -> ConfState:
    """The configuration with one step taken."""
    (step,) = change.steps
    voters, learners = {*conf.voters} - {step.id}, {*conf.learners} - {step.id}
    match step.kind:
        case ChangeKind.ADD_VOTER:
            voters.add(step.id)
        case ChangeKind.ADD_LEARNER:
            learners.add(step.id)
        case ChangeKind.UPDATE:
            return conf
    return ConfState(voters=tuple(sorted(voters)), learners=tuple(sorted(learners)))


class Probe(Call):
    """A call that keeps its answer."""

    __slots__ = ("answers",)
    answers: list[Any]

    def send_reply(self, body: bytes) -> None:
        self.answers.append(body)

    def send_error(self, error: RequestError) -> None:
        self.answers.append(error)


class Api:
    """The method table over a fake node, message objects in and out."""

    def __init__(self, **limits: int) -> None:
        self.node = FakeNode()
        self.services = Services(self.node, Limits(**limits))

    def start(
        self, path: str, request: object, metadata: tuple[tuple[str, str | bytes], ...] = ()
    ) -> Probe:
        """Begin a call; `request` is a message or the bytes of one."""
        body = request if isinstance(request, bytes) else request.SerializeToString()  # type: ignore[attr-defined]
        call = Probe(self.services, path, body, metadata)
        call.answers = []
        handler = METHODS[path].unary
        assert handler is not None
        run(handler, call)
        return call

    def do(
        self, name: str, request: object, metadata: tuple[tuple[str, str | bytes], ...] = ()
    ) -> object:
        """The answer to "KV.Put" and the like: a message, or the error."""
        service, _, method = name.rpartition(".")
        path = f"/etcdserverpb.{service}/{method}"
        call = self.start(path, request, metadata)
        (answer,) = call.answers
        if isinstance(answer, RequestError):
            return answer
        return METHODS[path].reply_type.FromString(answer)
