"""A small cluster under a random schedule: one seed, one history.

Anything may happen between any two steps: messages are lost, doubled and
overtaken, disks and appliers lag, members die and come back with what was
durable, their state machine maybe older than their log. Members run as the
product runs them: asynchronous storage, pre-vote, CheckQuorum.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from chainfire.raft.changes import ChangeKind, ChangeStep, ConfChange, Transition
from chainfire.raft.confchange import InvalidConfChange
from chainfire.raft.config import Config
from chainfire.raft.messages import (
    AFTER_SYNC,
    LOCAL_APPLY_THREAD,
    Message,
    MessageType,
    ProposalDropped,
    Snapshot,
)
from chainfire.raft.rawnode import RawNode
from chainfire.raft.ready import ReadState, Role
from chainfire.types import ConfState, EntryType, HardState
from tests.raft.invariants import Oracle
from tests.raft.memory_log import MemoryLog

START = 10  # index of the snapshot that everybody begins with
_LOCAL = frozenset(
    {
        MessageType.STORAGE_APPEND,
        MessageType.STORAGE_APPLY,
        MessageType.STORAGE_APPEND_REPLY,
        MessageType.STORAGE_APPLY_REPLY,
    }
)


@dataclass(frozen=True)
class Chaos:
    """Weights of what happens, per 1000 steps or so; the rest is ordinary progress."""

    drop: int = 60
    duplicate: int = 30
    crash: int = 2
    partition: int = 4
    compact: int = 6
    conf_change: int = 8
    transfer: int = 3
    forget: int = 3
    campaign: int = 0
    size: int = 3
    voters: int = 3
    pre_vote: bool = True
    check_quorum: bool = True
    commits_wait: bool = False
    asking_confirms: bool = False
    short_way: bool = False  # `RawNode.work` where it has something, else `ready`
    hold_votes: bool = True  # the rule of AFTER_SYNC; a cluster without it is unsafe


@dataclass
class Member:
    id: int
    storage: MemoryLog
    node: RawNode
    start: int = 0  # counted at every start
    appends: list[Message] = field(default_factory=list)
    applies: list[Message] = field(default_factory=list)
    held: dict[int, list[Message]] = field(default_factory=dict)  # by id() of the append
    states: dict[int, ConfState] = field(default_factory=dict)  # applied index: configuration
    applied: int = START


class Cluster:
    def __init__(self, seed: int, chaos: Chaos) -> None:
        self.random = random.Random(seed)
        self.chaos = chaos
        self.oracle = Oracle()
        self.oracle.start(START, 1)
        self.network: list[Message] = []
        self.cut: set[int] = set()  # members that hear nobody and are not heard
        self.members: dict[int, Member] = {}
        self.reads: dict[bytes, int] = {}  # context: what the answer must not be below
        self.answered_reads = 0
        self.short_turns = 0
        self.proposed = 0
        voters = tuple(range(1, chaos.voters + 1))
        for id in range(1, chaos.size + 1):
            storage = MemoryLog(ConfState(voters if id in voters else ()))
            storage.member = id
            if id in voters:
                storage.install(Snapshot(START, 1, storage.conf_state))
            else:
                storage.hard_state = HardState()
            applied = START if id in voters else 0
            node = RawNode(self._config(id, applied), storage)
            states = {applied: storage.conf_state}
            self.members[id] = Member(id, storage, node, states=states, applied=applied)

    def _config(self, id: int, applied: int) -> Config:
        return Config(
            id=id,
            draw=self.random.randrange,
            election_ticks=5,
            applied_index=applied,
            async_storage_writes=True,
            append_bytes_max=100,
            inflight_messages_max=4,
            inflight_bytes_max=200,
            applying_bytes_max=100,
            uncommitted_bytes_max=400,
            pre_vote=self.chaos.pre_vote,
            check_quorum=self.chaos.check_quorum,
            commits_wait=self.chaos.commits_wait,
            first_append_waits=self.chaos.commits_wait,
            asking_confirms=self.chaos.asking_confirms,
            rounds_ask_few=self.chaos.asking_confirms,
        )

    # ── the schedule ────────────────────────────────────────────────────────

    def run(self, steps: int) -> None:
        """Chaos. Raises AssertionError at the first moment that something does not hold."""
        chaos = self.chaos
        rare = [
            (self.crash, chaos.crash),
            (self.partition, chaos.partition),
            (self.compact, chaos.compact),
            (self.conf_change, chaos.conf_change),
            (self.transfer, chaos.transfer),
            (self.forget, chaos.forget),
            (self.campaign, chaos.campaign),
        ]
        usual = [
            (self.deliver, 400),
            (self.turn, 250),
            (self.append, 150),
            (self.apply, 80),
            (self.tick, 60),
            (self.propose, 40),
            *([(self.tell_commit, 20)] if chaos.commits_wait else []),
            (self.read, 10),
        ]
        actions, weights = zip(*rare, *usual, strict=True)
        for action in self.random.choices(actions, weights, k=steps):
            member = self.random.choice(list(self.members.values()))
            action(member)
            self.look(member)

    def settle(self, rounds: int = 400) -> None:
        """Everything heals; a leader must emerge and all its members must converge on it."""
        self.cut.clear()
        for _ in range(rounds):
            for member in self.members.values():
                self.tick(member)
            for _ in range(40):
                if not self._drain():
                    break
            if self._converged():
                return
        raise AssertionError(
            "not converged: " + str([m.node.status() for m in self.members.values()])
        )

    def _drain(self) -> bool:
        busy = False
        for member in self.members.values():
            busy |= member.node.has_ready() or bool(member.appends or member.applies)
            self.turn(member)
            while member.applies:
                self.apply(member)
            while member.appends:
                self.append(member)
            self.look(member)
        messages, self.network = self.network, []
        for message in messages:
            self._step(message)
        return busy or bool(messages)

    def _converged(self) -> bool:
        leaders = [m.node.raft for m in self.members.values() if m.node.raft.role is Role.LEADER]
        if not leaders:
            return False
        leader = max(leaders, key=lambda raft: raft.term)
        if not leader.committed_in_term or leader.tracker.is_joint:
            return False
        return all(
            self.members[id].applied == leader.log.last_index
            and self.members[id].node.raft.tracker.conf == leader.tracker.conf
            for id in leader.tracker.progress
        )

    def look(self, member: Member) -> None:
        logs = [other.storage for other in self.members.values()]
        self.oracle.look(member.node, member.start, logs)

    # ── what happens ────────────────────────────────────────────────────────

    def tick(self, member: Member) -> None:
        member.node.tick()

    def propose(self, member: Member) -> None:
        self.proposed += 1
        datas = [b"%d.%d" % (self.proposed, i) for i in range(self.random.randint(1, 4))]
        with contextlib.suppress(ProposalDropped):
            member.node.propose(datas)

    def tell_commit(self, member: Member) -> None:
        member.node.tell_commit(self.random.choice(list(self.members)))

    def read(self, member: Member) -> None:
        """Its answer must not miss what anybody knew to be committed when it was asked."""
        context = b"%d" % len(self.reads)
        self.reads[context] = self.oracle.last_committed
        member.node.read_index(context)

    def turn(self, member: Member) -> None:
        node = member.node
        if not node.has_ready():
            return
        work = node.work() if self.chaos.short_way else None
        if work is not None:
            self.short_turns += 1
            self._read(member, work.read_states)
            self.network += work.messages
            if work.append is not None:
                member.appends.append(work.append)
                member.held[id(work.append)] = []
            if work.committed:
                member.applies.append(
                    Message(MessageType.STORAGE_APPLY, LOCAL_APPLY_THREAD, node.raft.id)
                )
                member.applies[-1].entries = work.committed
            return
        ready = node.ready()
        self._read(member, ready.read_states)
        held: list[Message] = []
        for message in ready.messages:
            if message.type is MessageType.STORAGE_APPEND:
                member.appends.append(message)
                member.held[id(message)] = held
            elif message.type is MessageType.STORAGE_APPLY:
                member.applies.append(message)
            elif message.type in AFTER_SYNC and self.chaos.hold_votes:
                held.append(message)
            else:
                self.network.append(message)
        assert not held or member.held, "a vote is asked for without a term to store"

    def _read(self, member: Member, states: Sequence[ReadState]) -> None:
        for state in states:
            assert state.index >= self.reads[state.context], (member.id, state)
            self.answered_reads += 1

    def append(self, member: Member) -> None:
        """The disk finishes its oldest write."""
        if not member.appends:
            return
        work = member.appends[0]
        if work.snapshot is not None and member.applies:
            return  # the state is not replaced under an apply
        member.appends.pop(0)
        storage = member.storage
        if work.term:
            storage.hard_state = HardState(work.term, work.vote, work.commit)
            self.oracle.persist(member.id, work.term, work.vote)
        if work.snapshot is not None:
            storage.install(work.snapshot)
            member.applied = work.snapshot.index
            member.states = {member.applied: work.snapshot.conf_state}
        storage.append(work.entries)
        self.network += member.held.pop(id(work))
        for response in work.responses:
            if response.to == member.id:
                member.node.step(response)
            else:
                self.network.append(response)

    def apply(self, member: Member) -> None:
        if not member.applies:
            return
        work = member.applies.pop(0)
        entries = [entry for entry in work.entries if entry.index > member.applied]
        self.oracle.apply(member.id, member.applied + 1, entries)
        for entry in entries:
            conf = member.states[member.applied]
            if entry.type is not EntryType.NORMAL:
                with contextlib.suppress(InvalidConfChange):
                    conf = member.node.apply_conf_change(ConfChange.decode(entry.data))
            member.applied = entry.index
            member.states[entry.index] = conf
        member.storage.latest = self._snapshot(member)
        for response in work.responses:
            member.node.step(response)
        if not work.responses:  # it came by the short way
            member.node.applied_to(work.entries[-1].index)

    def _snapshot(self, member: Member) -> Snapshot:
        term = member.storage.term(member.applied)
        return Snapshot(member.applied, term, member.states[member.applied])

    def deliver(self, _: Member) -> None:
        if not self.network:
            return
        at = self.random.randrange(min(len(self.network), 20))
        fate = self.random.randrange(1000)
        if fate < self.chaos.duplicate:
            self._step(self.network[at])
            return
        message = self.network.pop(at)
        if fate >= self.chaos.duplicate + self.chaos.drop:
            self._step(message)
        else:
            self._lose(message)
        while len(self.network) > 300:
            self._lose(self.network.pop(0))

    def _lose(self, message: Message) -> None:
        """A transport may notice, and of snapshots it always does, sooner or later."""
        sender = self.members[message.sender].node
        if message.type is MessageType.SNAPSHOT:
            sender.report_snapshot(message.to, False)
        elif self.random.random() < 0.3:
            sender.report_unreachable(message.to)

    def _step(self, message: Message) -> None:
        assert message.type not in _LOCAL
        if {message.sender, message.to} & self.cut:
            self._lose(message)
            return
        member = self.members[message.to]
        if message.type is MessageType.SNAPSHOT and member.applies:
            self._lose(message)  # its rule: not while entries are handed out (rawnode.py)
            return
        member.node.step(message)
        self.look(member)
        if message.type is MessageType.SNAPSHOT:
            arrived = self.random.random() < 0.8  # the report may be wrong
            self.members[message.sender].node.report_snapshot(message.to, arrived)

    def crash(self, member: Member) -> None:
        """What was not written is gone; the state machine may fall back behind the log."""
        member.start += 1
        member.appends, member.applies, member.held = [], [], {}
        floor = member.storage.base[0]
        choices = [index for index in member.states if floor <= index <= member.applied]
        member.applied = self.random.choice(choices[-5:])
        member.states = {i: conf for i, conf in member.states.items() if i <= member.applied}
        member.storage.conf_state = member.states[member.applied]
        if member.applied:
            member.storage.latest = self._snapshot(member)
        member.node = RawNode(self._config(member.id, member.applied), member.storage)

    def partition(self, _: Member) -> None:
        count = self.random.choice((0, 0, 1, 1, 2))
        self.cut = set(self.random.sample(sorted(self.members), min(count, len(self.members))))

    def compact(self, member: Member) -> None:
        if member.applied > member.storage.base[0] and not member.appends:
            member.storage.compact(self.random.randint(member.storage.base[0] + 1, member.applied))

    def conf_change(self, member: Member) -> None:
        if member.node.raft.role is not Role.LEADER:
            return
        kinds = (ChangeKind.ADD_VOTER, ChangeKind.ADD_LEARNER, ChangeKind.REMOVE)
        steps = tuple(
            ChangeStep(self.random.choice(kinds), self.random.choice(list(self.members)))
            for _ in range(self.random.choice((0, 1, 1, 1, 2, 3)))
        )
        transition = self.random.choice((Transition.AUTO, Transition.JOINT_IMPLICIT))
        with contextlib.suppress(ProposalDropped):
            member.node.propose_conf_change(
                ConfChange(steps, transition if steps else Transition.AUTO)
            )

    def transfer(self, member: Member) -> None:
        member.node.transfer_leader(self.random.choice(list(self.members)))

    def campaign(self, member: Member) -> None:
        member.node.campaign()

    def forget(self, member: Member) -> None:
        member.node.forget_leader()
