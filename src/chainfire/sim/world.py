"""A cluster, its clients and its faults on one schedule: chaos first, then peace and a verdict.

One seed is one run, in every process. `digest` is the trace as a number;
with `lines` the trace is kept as text, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Protocol
from zlib import crc32

from chainfire.command import CommandKind
from chainfire.mvcc.hash import hash_kv
from chainfire.mvcc.read import run
from chainfire.node.admission import is_quorum_without
from chainfire.node.driver import Driver
from chainfire.node.frames import Frame
from chainfire.proto.maintenance_pb2 import NOSPACE, AlarmRequest
from chainfire.raft.messages import Message, Snapshot
from chainfire.raft.ready import Role
from chainfire.sim.cables import Cables, Packet
from chainfire.sim.check_end import MemberEnd, check_end
from chainfire.sim.check_kv import check_kv
from chainfire.sim.check_lease import check_leases
from chainfire.sim.check_watch import check_watches
from chainfire.sim.clients import Call, Client, Compactor, Feeder
from chainfire.sim.disk import Disk, SimBackend
from chainfire.sim.faults import Faults
from chainfire.sim.history import History, Put, PutDone, Range, RangeDone, Request, Violation
from chainfire.sim.lease_ends import LeaseEnds
from chainfire.sim.leasing import LeaseHolder
from chainfire.sim.member import Clock, SimMember
from chainfire.sim.network import Network
from chainfire.sim.opening import found_member
from chainfire.sim.oracle import Oracle
from chainfire.sim.pace import entries_at_best
from chainfire.sim.schedule import MS, SECOND, Schedule, dice
from chainfire.sim.shape import Shape
from chainfire.sim.watching import WatchClient, hear_out
from chainfire.sim.wire import current
from chainfire.types import ConfState, Nobody

CROWD = 70  # leases that end together: more than `node.leases` names in one command
MEMBERS_MAX = 8  # that ever were
RESTART_MS_MAX = 6000  # until who died is up again
PEACE_US = 30 * SECOND  # in peace a cluster must be one again within this time, or is only slow
LAG_ENTRIES_MAX = 100  # under load


class _QuorumLost(Exception):
    """The membership was changed so that it cannot do without who has lost its disk."""


class Party(Protocol):
    """Somebody who calls members."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def died(self, member: SimMember) -> None: ...


class World:
    def __init__(self, shape: Shape, *, traced: bool = False) -> None:
        self.shape = shape
        self.schedule = Schedule()
        self.network = Network(self.schedule, shape.seed, shape.network)
        self.cables: Cables | None = None
        if shape.carries_bytes or "garble" in shape.faults:
            self.cables = Cables(dice(shape.seed, "cables"))
        self.clock_jumps: list[tuple[int, int]] = []  # when, by how much
        self.history = History()
        self.lines: list[str] | None = [] if traced else None
        self.digest = 0
        self.entries = self.events = 0  # in chaos: committed, and carried out
        self.branches: Counter[str] = Counter()  # rare things that happened
        self._dice = dice(shape.seed, "world")
        founders = tuple(range(1, shape.members + 1))
        voters = founders[: shape.members - shape.learners]
        self._founded = ConfState(voters=voters, learners=founders[len(voters) :])
        self.members = {id: self._make_member(id, self._founded) for id in founders}
        self.oracle = Oracle(self.members)
        self.faults = Faults(self)
        self.lease_ends = LeaseEnds(self.history.leases)
        self.clients = [Client(self, id) for id in range(shape.clients)]
        if shape.compaction_ms:
            self.clients.append(Compactor(self, len(self.clients)))
        if shape.feed_per_second:
            self.clients.append(Feeder(self, len(self.clients)))
        for _ in range(shape.lease_holders):
            self.clients.append(LeaseHolder(self, len(self.clients)))
        self._flooder = Client(self, len(self.clients))
        self._flooder.stop()  # of itself it does nothing
        self._crowder = LeaseHolder(self, len(self.clients) + 1)
        self._crowder.stop()
        self.watchers = [WatchClient(self, id) for id in range(shape.watchers)]
        self._parties: list[Party] = [*self.clients, self._flooder, *self.watchers]

    def _make_member(self, id: int, conf: ConfState) -> SimMember:
        roll, skew = self._dice, self.shape.clock_skew
        disk = Disk(dice(self.shape.seed, f"disk {id}"))
        found_member(disk, id, conf, roll.getrandbits(64))
        rate = 1.0 + skew * (2 * roll.random() - 1)
        return SimMember(self, id, disk, Clock(roll.randrange(1 << 40), rate))

    def flood(self, member: SimMember) -> None:
        for _ in range(20):
            if member.up:
                key, value = self._flooder.key(), self._flooder.value()
                self._flooder.single(member, Put(key, value))

    def question(self, member: SimMember) -> None:
        """A linearizable read, and renewals of whatever leases there are."""
        if member.up:
            self._flooder.single(member, Range(self._flooder.key()))
            for client in self.clients:
                if isinstance(client, LeaseHolder):
                    client.renew_at(member)

    def crowd(self, member: SimMember) -> None:
        if member.up:
            self._crowder.crowd(member, CROWD)

    def add_member(self) -> SimMember | None:
        """A process with an empty directory, for somebody to take it into the cluster."""
        id = max(self.members) + 1
        if len(self.members) >= MEMBERS_MAX:
            return None
        member = self.members[id] = self._make_member(id, ConfState())
        member.start()
        return member

    # ── the run ─────────────────────────────────────────────────────────────

    def run(self) -> None:
        """Raises Violation, or whatever a member raised that no fault explains."""
        for member in self.members.values():
            self.schedule.after(self._dice.randrange(100 * MS), member.start)
        for party in self._parties:
            party.start()
        self.faults.start()
        self.schedule.run_until(self.shape.chaos_us)
        self.entries, self.events = self.oracle.committed, self.schedule.events
        self._heal()
        try:
            self._await_one_cluster()
        except _QuorumLost:
            self.branches["quorums lost"] += 1
            check_kv(self.history.operations, self.oracle.feed)
            return
        self._ask_everybody()
        self._judge()

    def _heal(self) -> None:
        """First a majority alone, so that nobody is saved by who should not be needed."""
        self.note("peace")
        self.faults.stop()
        self.network.heal()
        if self.cables is not None:
            self.cables.heal()
        members = list(self.members.values())
        for member in members:
            member.disk.heal()
            member.paused_until = 0
        # Where the membership changes, who is needed is known only to the log.
        is_rolled_out = "reconfigure" in self.shape.faults and self._dice.random() < 0.5
        is_rolled_out = is_rolled_out or "exile" in self.shape.faults
        if is_rolled_out:
            self._complete_rollout()
        whose = {"membership", "join", "remove", "lose_disk"}
        alone = self._dice.random() < 0.6 or is_rolled_out
        if alone and not whose & {*self.shape.faults}:
            self._heal_a_majority(they_differ=is_rolled_out or self._dice.random() < 0.7)
        for member in members:
            member.stays_down = False
            member.start()

    def _complete_rollout(self) -> None:
        """All have the same options again, and what is the default. Nobody is saved by who has
        others."""
        self.note("same options")
        options = replace(self.shape.options, pre_vote=True)
        for member in self.members.values():
            member.options = options
            if member.up:
                member.end("restarted", power=False)

    def _heal_a_majority(self, *, they_differ: bool) -> None:
        """`they_differ`: those who differ most, by newest term and longest log, must agree."""
        voters = [self.members[id] for id in self._founded.voters]
        needed: set[int] = set()
        if they_differ:
            needed.add(max(voters, key=lambda member: member.durable.hard_state.term).id)
            needed.add(max(voters, key=lambda member: member.durable.last).id)
        others = [member.id for member in voters if member.id not in needed]
        spared = self._dice.sample(others, min(len(others), (len(voters) - 1) // 2))
        self.note("spared", 0, str(spared))
        for id in spared:
            member = self.members[id]
            member.stays_down = True
            if member.up:
                member.end("spared", power=False)
        for member in self.members.values():
            if member.id not in spared:
                member.start()
        self._await(
            lambda: self._is_one_without(spared), f"a majority does not do without {spared}"
        )

    def _is_one_without(self, spared: Sequence[int]) -> bool:
        leader = self.leader()
        return (
            leader is not None
            and leader.id not in spared
            and leader.driver is not None
            and leader.driver.raft.raft.committed_in_term
        )

    def _await_one_cluster(self) -> None:
        self._await(self._is_one, "no convergence")
        for party in self._parties:
            party.stop()

    def _ask_everybody(self) -> None:
        """Progress: a write, and then a linearizable read at every member, succeed."""
        self._await(self._is_without_alarms, "alarms stay")
        asker = Client(self, len(self.clients) + 2)
        asker.stop()
        self._succeed(asker, Put(b"last", asker.value()), None)
        for member in self._present():
            self._succeed(asker, Range(b"last"), member)
        self._await(lambda: not self.lease_ends.alive, "leases stay")
        self._await(self._is_level, "members lag behind")
        if self.watchers:
            hear_out(self.schedule, self.watchers, PEACE_US)
            self._await(self._is_level, "members lag behind")

    def _await(self, condition: Callable[[], bool], otherwise: str) -> None:
        """Without load for as much longer as those who lag behind are only slow."""
        applied, deadline = self._applied(), self.schedule.now + PEACE_US
        while not condition():
            if self.schedule.now >= deadline:
                if self._is_quorum_lost():
                    raise _QuorumLost
                if not self._is_only_slow(applied):
                    states = [m.driver and m.driver.raft.status() for m in self.members.values()]
                    raise Violation(f"{otherwise} after {PEACE_US // SECOND} s of peace: {states}")
                self.branches["peace prolonged for who is slow"] += 1
                for party in self._parties:
                    party.stop()
                applied, deadline = self._applied(), self.schedule.now + PEACE_US
            self._leave_joint()
            self.schedule.run_until(self.schedule.now + 50 * MS)

    def _applied(self) -> dict[int, int]:
        return {id: member.applied for id, member in self.members.items()}

    def _is_only_slow(self, before: dict[int, int]) -> bool:
        """Whether some lag behind, and each of them has taken at least half of what it could since
        `before`, PEACE_US ago."""
        leader = self.leader()
        if leader is None or leader.driver is None:
            return False
        config = leader.driver.raft.raft.config
        least = entries_at_best(config, self.shape, PEACE_US) // 2
        lagging = [m for m in self._belonging(leader.driver) if self._lags(m)]
        return bool(lagging) and all(m.applied - before[m.id] >= least for m in lagging)

    def _lags(self, member: SimMember) -> bool:
        return member.applied < self.oracle.committed - LAG_ENTRIES_MAX

    def _is_quorum_lost(self) -> bool:
        """As those know it who have lost nothing."""
        lost = {id for id, member in self.members.items() if member.disk.lost_data}
        others = [m for m in self.members.values() if m.driver is not None and m.id not in lost]
        newest = max(others, key=lambda member: member.applied, default=None)
        if newest is None or newest.driver is None:
            return bool(lost)
        return not is_quorum_without(lost, newest.driver.machine.conf_state)

    def _succeed(self, asker: Client, request: Request, member: SimMember | None) -> None:
        """Ask until it is done; whoever asks again writes another value."""
        calls: list[Call] = []

        def done() -> bool:
            if calls and isinstance(calls[-1].operation.response, PutDone | RangeDone):
                return True
            if member is not None and self._is_removed(member):
                return True  # meanwhile: a change of the time of faults was late
            to = member or self.leader()
            if (not calls or calls[-1].finished) and to is not None and to.up:
                again = (
                    request._replace(value=asker.value()) if isinstance(request, Put) else request
                )
                calls.append(asker.single(to, again))
            return False

        self._await(done, f"nobody carries out {request}")

    def _is_one(self) -> bool:
        leader = self.leader()
        return (
            leader is not None
            and leader.driver is not None
            and leader.driver.raft.raft.committed_in_term
            and not leader.driver.machine.conf_state.voters_outgoing
            and all(
                member.driver is not None
                and member.driver.raft.raft.leader == leader.id
                and not self._lags(member)
                for member in self._belonging(leader.driver)
            )
        )

    def _leave_joint(self) -> None:
        """An operator does, where it does not end by itself."""
        leader = self.leader()
        if leader is not None and leader.driver is not None:
            conf = leader.driver.machine.conf_state
            if conf.voters_outgoing and not conf.auto_leave:
                leader.leave_joint()

    def _is_without_alarms(self) -> bool:
        """An operator clears those that a member has raised in an earlier life."""
        leader = self.leader()
        if leader is None or leader.driver is None or leader.driver.machine.alarms:
            if leader is not None and leader.driver is not None:
                clear = AlarmRequest(action=AlarmRequest.DEACTIVATE, alarm=NOSPACE)
                body = clear.SerializeToString()
                leader.driver.propose(CommandKind.ALARM, body, Nobody())
                leader.wake()
            return False
        return True

    def _belonging(self, leader: Driver) -> list[SimMember]:
        """The members of its configuration."""
        return [self.members[id] for id in sorted(leader.machine.members) if id in self.members]

    def _is_removed(self, member: SimMember) -> bool:
        leader = self.leader()
        return (
            leader is not None
            and leader.driver is not None
            and member.id not in leader.driver.machine.members
        )

    def _present(self) -> list[SimMember]:
        self._await(self._is_one, "no convergence")
        leader = self.leader()
        assert leader is not None and leader.driver is not None
        return self._belonging(leader.driver)

    def _is_level(self) -> bool:
        leader = self.leader()
        return (
            leader is not None
            and leader.driver is not None
            and self._is_one()
            and all(
                member.applied == leader.driver.raft.raft.log.last_index
                for member in self._belonging(leader.driver)
            )
        )

    def _judge(self) -> None:
        self.model = check_kv(self.history.operations, self.oracle.feed)
        check_end([self._end_of(member) for member in self._present()], self.model)
        self._judge_watches()
        check_leases(
            self.history.leases,
            self.lease_ends.ends,
            now=self.schedule.now,
            grace=PEACE_US,
            rate_max=1.0 + self.shape.clock_skew,
            jumps=self.clock_jumps,
        )

    def _judge_watches(self) -> None:
        """Who is still connected to a member has had the time to hear of everything."""
        streams, present = [client.stream for client in self.watchers], self._present()
        connected = [s.watch for s in streams if s and s.is_open and s.member in present]
        ended = [watch for watch in self.history.watches if watch not in connected]
        self.branches["watch events checked"] += check_watches(
            connected, self.oracle.feed, complete_to=self.model.revision
        ) + check_watches(ended, self.oracle.feed)

    @staticmethod
    def _end_of(member: SimMember) -> MemberEnd:
        assert member.driver is not None
        machine, state = member.driver.machine, member.disk.state
        # The hash covers what a reader could ask for since the last compaction.
        content = run(hash_kv(state, machine.store, 0, 0))
        return MemberEnd(
            member.id,
            machine.applied_index,
            machine.revision,
            machine.hash,
            content.hash,
            current(state),
        )

    # ── what its parts ask ──────────────────────────────────────────────────

    @property
    def committed(self) -> int:
        return self.oracle.committed

    @property
    def newest_conf(self) -> ConfState:
        return self.oracle.newest_conf[1]

    def leader(self) -> SimMember | None:
        """The one with the highest term."""
        found: SimMember | None = None
        highest = -1
        for member in self.members.values():
            if member.driver is not None and member.role is Role.LEADER:
                term = member.driver.raft.raft.term
                if term > highest:
                    found, highest = member, term
        return found

    def member_for(self, client: int, dice: Random) -> SimMember | None:
        """Whom a client calls: anybody, more often one that takes itself for the leader."""
        home = self.members[1 + client % self.shape.members]
        if self.shape.faithful and home.up:
            return home
        up = [member for member in self.members.values() if member.up]
        if dice.random() < 0.4:
            up = [member for member in up if member.role is Role.LEADER] or up
        return dice.choice(up) if up else None

    def send(self, sender: SimMember, to: int, frames: Sequence[Frame]) -> None:
        """In good weather together, as one write to a connection; else each on its own."""
        peer = self.members.get(to)
        if peer is None:
            return
        if peer.disk.lost_data and sender.met.get(to) != peer.life:  # no connection yet
            sender.soon(1 * MS, sender.unreachable, to)
            return
        now, me = self.schedule.now, sender.id
        for frame in frames:
            if isinstance(frame, Message):
                self.oracle.sent(sender, frame)
                self.digest = hash((self.digest, now, frame.type, me, to, frame.term, frame.index))
            if self.lines is not None:
                self.lines.append(f"{now:>10}  {me} → {to}  {short(frame)}")
        network, life, cables = self.network, peer.life, self.cables
        for part in [frames] if network.is_calm else [[frame] for frame in frames]:
            what: Packet | Sequence[Frame] = part
            if cables is not None and sender.driver is not None:
                what = cables.pack((me, to), part, sender.driver.log.record_cache)
            if not network.send(me, to, life, (sender.life, what), self._deliver):
                sender.soon(1 * MS, sender.unreachable, to)

    def _deliver(
        self, sender: int, to: int, life: int, sent: tuple[int, Packet | Sequence[Frame]]
    ) -> None:
        sender_life, what = sent
        peer = self.members[to]
        if peer.has_removed(sender):
            self._refuse(sender, sender_life, to)
            return
        if isinstance(what, Packet):
            if life != peer.life or peer.driver is None or self.cables is None:
                return
            frames = self.cables.unpack((sender, to), what, peer.driver.log.record_cache)
            if what.is_garbled and self.members[sender].life == sender_life:
                self.members[sender].soon(1 * MS, self.members[sender].unreachable, to)
        else:
            frames = what
        if frames:
            peer.receive(life, sender, frames, sender_life)

    def _refuse(self, sender: int, life: int, to: int) -> None:
        """As the handshake: who was removed is told so, and goes."""
        member = self.members[sender]
        if member.life == life and member.up and not self.network.is_blocked(to, sender):
            member.soon(1 * MS, member.leave)

    def in_reach(self, member: SimMember) -> list[SimMember]:
        """Handshakes take both directions; where messages get lost, some fail."""
        blocked, now = self.network.is_blocked, self.schedule.now
        return [
            other
            for other in self.members.values()
            if other is not member
            and other.up
            and not other.has_removed(member.id)
            and other.paused_until <= now
            and not blocked(member.id, other.id)
            and not blocked(other.id, member.id)
            and self._dice.random() >= self.network.weather.loss
        ]

    def is_unmet(self, member: SimMember, sender: int, life: int) -> bool:
        met = member.met.get(sender)
        if met is not None:
            return life < met
        return self.members[sender].disk.lost_data

    def send_snapshot(self, sender: SimMember, message: Message) -> None:
        """A checkpoint of now, with its own position; it takes a while, and may be lost."""
        assert sender.driver is not None
        machine, to = sender.driver.machine, message.to
        position = Snapshot(machine.applied_index, machine.applied_term, machine.conf_state)
        message = replace(message, snapshot=position)
        if self.cables is not None:
            message = self.cables.carry(message, sender.driver.log.record_cache)
        self.note("sends a snapshot", sender.id, f"to {to} at {position.index}")
        self.branches["snapshots sent"] += 1
        peer, roll = self.members.get(to), self._dice.random()
        delay = int(20 * MS * 50**roll)
        if (
            peer is None
            or self.network.is_blocked(sender.id, to)
            or roll < self.network.weather.loss
        ):
            sender.soon(delay, sender.snapshot_sent, to, False)
            return
        files = sender.disk.state.copy()
        self.schedule.after(
            delay, self._deliver_snapshot, sender, sender.life, peer, peer.life, message, files
        )

    def _deliver_snapshot(
        self,
        sender: SimMember,
        life: int,
        peer: SimMember,
        peer_life: int,
        message: Message,
        files: SimBackend,
    ) -> None:
        arrived = peer.receive_snapshot(peer_life, message, files)
        if sender.life == life:
            sender.soon(MS, sender.snapshot_sent, peer.id, arrived)

    def looked_at(self, member: SimMember) -> None:
        self.oracle.look(member)
        assert member.driver is not None
        machine = member.driver.machine
        if self.history.leases:
            self.lease_ends.look(machine, self.schedule.now)
        self.digest = hash((self.digest, self.schedule.now, machine.applied_index, machine.hash))

    def started(self, member: SimMember) -> None:
        for client in self.clients[: self.shape.clients]:
            client.started(member)

    def died(self, member: SimMember, why: str) -> None:
        self.note("dies", member.id, why)
        self.branches[f"died: {why}"] += 1
        for party in self._parties:
            party.died(member)
        least = self.shape.restart_ms
        delay_ms = least * (RESTART_MS_MAX / least) ** self._dice.random()
        self.schedule.after(int(delay_ms * MS), member.start)

    def seen_branches(self) -> Counter[str]:
        """Rare things that happened in this run, each with how often."""
        seen = self.branches + self.oracle.branches
        if self.cables is not None:
            seen += self.cables.counts
        counts = self.network.counts
        for name in ("lost", "doubled", "late", "cut"):
            seen[f"messages {name}"] += getattr(counts, name)
        for member in self.members.values():
            if member.driver is not None:
                statistics = member.driver.machine.statistics()
                seen["commands void"] += statistics.void_commands
                seen["commands refused"] += statistics.refused_commands
                seen["compactions"] += statistics.compactions
            seen += member.branches
        if self.lease_ends.ends:
            revoked = sum(end.revoked for end in self.lease_ends.ends)
            seen["leases revoked"] = revoked
            seen["leases expired"] = len(self.lease_ends.ends) - revoked
        for operation in self.history.operations:
            if operation.response is None:
                seen["outcomes unknown"] += 1
        for client in self.clients:
            for why, times in client.errors.items():
                seen[f"answered {why}"] += times
        return +seen

    def note(self, what: str, member: int = 0, detail: str = "") -> None:
        now = self.schedule.now
        self.digest = hash((self.digest, now, member, crc32(f"{what} {detail}".encode())))
        if self.lines is not None:
            self.lines.append(f"{now:>10}  {member or '*'} {what} {detail}")


def short(frame: Frame) -> str:
    """One frame on one line."""
    if not isinstance(frame, Message):
        return repr(frame)
    m = frame
    parts = [m.type.name, f"term {m.term}", f"{m.log_term}/{m.index}"]
    if m.entries:
        parts.append(f"entries {m.entries[0].index}–{m.entries[-1].index}")
    if m.commit:
        parts.append(f"commit {m.commit}")
    if m.reject:
        parts.append(f"rejected, hint {m.reject_hint}")
    if m.context:
        parts.append(f"context {m.context.hex()}")
    return ", ".join(parts)
