"""A member in memory: the product's driver, raft, log and machine on memory backends, by hand.

`settle` is the shell in five lines: turn, sync, turn again, until nothing is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chainfire.command import CommandKind
from chainfire.errors import RequestError
from chainfire.machine import Machine, bootstrap
from chainfire.node.autocompact import AutoCompactor
from chainfire.node.driver import Driver, Limits
from chainfire.node.duties import Duties, DutySettings
from chainfire.node.effects import Answer, Effects
from chainfire.node.logstore import LogStore
from chainfire.node.standing import Stage
from chainfire.proto.cluster_pb2 import Member
from chainfire.proto.kv_pb2 import PutRequest
from chainfire.raft.changes import ChangeKind, ChangeStep, ConfChange
from chainfire.raft.config import Config
from chainfire.raft.rawnode import RawNode
from chainfire.storage.backend import LOG_FAMILIES, STATE_FAMILIES
from chainfire.storage.memory import MemoryBackend
from chainfire.types import ConfState, Result
from chainfire.version import CLUSTER_VERSION

ME = 1
PLENTY = 1 << 40


@dataclass
class FakeWitness:
    notes: list[tuple[int, int, int, int]] = field(default_factory=list)

    def note(self, last_index: int, last_term: int, term: int, vote: int) -> None:
        self.notes.append((last_index, last_term, term, vote))

    def lower(self, last_index: int, last_term: int) -> None:
        _, _, term, vote = self.notes[-1] if self.notes else (0, 0, 0, 0)
        self.notes.append((last_index, last_term, term, vote))


@dataclass
class MemoryPlace:
    """State directories that are checkpoints of memory backends."""

    live: MemoryBackend
    root: Path = Path()
    discarded: list[str] = field(default_factory=list)
    before_switch: Callable[[], None] = lambda: None

    def switch_state(self, staged: str) -> None:
        self.before_switch()
        self.live.reopen(self.root / staged)

    def discard_state(self, staged: str) -> None:
        self.discarded.append(staged)


@dataclass(eq=False)
class Caller:
    """Somebody who waits: for a command or for a read."""

    result: Result | None = None
    error: RequestError | None = None
    may_read: bool = False
    gone: bool = False  # as a call whose client has cancelled

    @property
    def finished(self) -> bool:
        return self.gone or self.answered

    def done(self, result: Result) -> None:
        assert not self.answered
        self.result = result

    def refused(self, error: RequestError) -> None:
        assert not self.answered
        self.error = error

    def ready(self) -> None:
        assert not self.answered
        self.may_read = True

    @property
    def answered(self) -> bool:
        return self.may_read or self.result is not None or self.error is not None


def deliver(answers: Sequence[Answer]) -> None:
    for answer in answers:
        if isinstance(answer.result, RequestError):
            answer.pending.refused(answer.result)
        else:
            answer.pending.done(answer.result)


class World:
    def __init__(
        self,
        log: MemoryBackend | None = None,
        state: MemoryBackend | None = None,
        *,
        me: int = ME,
        draw: Callable[[int], int] = lambda n: 0,
        voters: tuple[int, ...] = (ME,),
        limits: Limits | None = None,
        start_number: int = 0,
        stage: Stage = Stage.FULL,
        auto_compactor: AutoCompactor | None = None,
    ) -> None:
        if state is None:
            state = MemoryBackend(STATE_FAMILIES)
            members = [Member(ID=id, peerURLs=[f"http://127.0.0.1:{id}"]) for id in voters]
            bootstrap(state, members, ConfState(voters=voters), CLUSTER_VERSION)
        self.me = me
        self.place = MemoryPlace(state)
        self.state = state
        self.log = log or MemoryBackend(LOG_FAMILIES)
        self.machine = Machine(state, cache_bytes=1 << 20)
        self.log_store = LogStore(self.log, self.machine.conf_state)
        self.witness = FakeWitness()
        config = Config(
            id=me,
            draw=draw,
            applied_index=self.machine.applied_index,
            applying_bytes_max=64 << 10,
            async_storage_writes=True,
            commits_wait=True,
            first_append_waits=True,
            asking_confirms=True,
            rounds_ask_few=True,
            forward_proposals=False,
        )
        self.driver = Driver(
            raft=RawNode(config, self.log_store),
            log=self.log_store,
            machine=self.machine,
            witness=self.witness,
            state_place=self.place,
            duties=Duties(me, self.machine, self.duty_settings(auto_compactor)),
            member_id=me,
            start_number=start_number or self.machine.start_number(me) + 1,
            stage=stage,
            limits=limits or Limits(pending_max=100, request_timeout_ms=7000),
        )

    def duty_settings(self, auto_compactor: AutoCompactor | None = None) -> DutySettings:
        return DutySettings(
            name=f"m{self.me}",
            client_urls=("http://127.0.0.1:2379",),
            quota_bytes=1 << 30,
            auto_clear_space_alarm=True,
            disk_reserve_bytes=1000,
            auto_compactor=auto_compactor,
        )

    def lead(self) -> World:
        self.driver.raft.campaign()
        self.settle()
        return self

    def put(self, key: bytes, value: bytes = b"v") -> Caller:
        caller = Caller()
        body = PutRequest(key=key, value=value).SerializeToString()
        self.driver.propose(CommandKind.PUT, body, caller)
        return caller

    def change(self, kind: ChangeKind, id_: int, *members: Member) -> Caller:
        """A membership change that describes `members`."""
        caller = Caller()
        change = ConfChange((ChangeStep(kind, id_),))
        self.driver.propose_conf_change(change, list(members), caller)
        return caller

    def read(self, level: int, min_revision: int = 0, deadline_ms: int | None = None) -> Caller:
        caller = Caller()
        if self.driver.read(level, min_revision, deadline_ms, caller):
            caller.ready()
        return caller

    def turn(self, now_ms: int = 0) -> Effects:
        """One turn, its answers delivered, its sync left undone."""
        effects = self.driver.turn(now_ms)
        deliver(effects.answers)
        for reader in effects.reads:
            reader.ready()
        return effects

    def sync(self, effects: Effects) -> None:
        assert effects.sync is not None
        self.log.sync()
        deliver(self.driver.synced(effects.sync))

    def settle(self) -> None:
        for _ in range(200):
            effects = self.turn()
            if effects.sync is not None:
                self.sync(effects)
            elif self.driver.lags:
                self.driver.let_go()
            elif not effects.more:
                return
        raise AssertionError("the driver asks for syncs without end")

    def tick(self, now_ms: int, free_bytes: int = PLENTY) -> None:
        self.driver.tick(now_ms, free_bytes)
        self.settle()
