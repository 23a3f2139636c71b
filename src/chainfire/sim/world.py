"""A cluster, its clients and its faults on one schedule; `course` lets it run.

One seed is one run, in every process. `digest` is the trace as a number;
with `lines` the trace is kept as text, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Protocol
from zlib import crc32

from chainfire.machine import rows
from chainfire.node.frames import Clock as ClockFrame
from chainfire.node.frames import Frame
from chainfire.raft.messages import Message, Snapshot
from chainfire.raft.ready import Role
from chainfire.sim.cables import Cables, Packet
from chainfire.sim.clients import Client, Compactor, Feeder
from chainfire.sim.disk import Disk, SimBackend
from chainfire.sim.faults import Faults
from chainfire.sim.history import History, Put, Range, Violation
from chainfire.sim.lease_ends import LeaseEnds
from chainfire.sim.leasing import LeaseHolder
from chainfire.sim.member import SimMember
from chainfire.sim.network import Network
from chainfire.sim.opening import found_member
from chainfire.sim.oracle import Oracle
from chainfire.sim.schedule import MS, Clock, Schedule, dice, pick
from chainfire.sim.shape import Shape
from chainfire.sim.watching import WatchClient
from chainfire.types import ConfState

CROWD = 70  # leases that end together: more than `node.leases` names in one command
MEMBERS_MAX = 8  # that ever were
RESTART_MS_MAX = 6000  # until who died is up again


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
            self.cables = Cables(dice(shape.seed, "cables"), carries_bytes=shape.carries_bytes)
        self.clock_jumps: list[tuple[int, int]] = []  # when, by how much
        self.history = History()
        self.lines: list[str] | None = [] if traced else None
        self.digest = 0
        self.entries = self.events = 0  # in chaos: committed, and carried out
        self.branches: Counter[str] = Counter()  # rare things that happened
        self.chance = dice(shape.seed, "world")
        founders = tuple(range(1, shape.members + 1))
        voters = founders[: shape.members - shape.learners]
        self.founded = ConfState(voters=voters, learners=founders[len(voters) :])
        self.members = {id: self._make_member(id, self.founded) for id in founders}
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
        self.parties: list[Party] = [*self.clients, self._flooder, *self.watchers]

    def _make_member(self, id: int, conf: ConfState) -> SimMember:
        roll, skew = self.chance, self.shape.clock_skew
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
        return pick(dice, up) if up else None

    def send(self, sender: SimMember, to: int, frames: Sequence[Frame]) -> None:
        """In good weather together, as one write to a connection; else each on its own."""
        peer = self.members.get(to)
        if peer is None:
            return
        if peer.disk.lost_data and sender.met.get(to) != peer.life:  # no connection yet
            sender.later(1 * MS, sender.unreachable, to)
            return
        now, me = self.schedule.now, sender.id
        for frame in frames:
            if isinstance(frame, Message):
                self.oracle.sent(sender, frame)
                self.digest = hash((self.digest, now, frame.type, me, to, frame.term, frame.index))
            elif isinstance(frame, ClockFrame):
                self.oracle.told(sender, frame, now)
            if self.lines is not None:
                self.lines.append(f"{now:>10}  {me} → {to}  {short(frame)}")
        network, life, cables = self.network, peer.life, self.cables
        for part in [frames] if network.is_calm else [[frame] for frame in frames]:
            what: Packet | Sequence[Frame] = part
            if cables is not None and sender.driver is not None:
                what = cables.pack((me, to), part, sender.driver.log.record_cache)
            if not network.send(me, to, life, (sender.life, what), self._deliver):
                sender.later(1 * MS, sender.unreachable, to)

    def _deliver(
        self, sender: int, to: int, life: int, sent: tuple[int, Packet | Sequence[Frame]]
    ) -> None:
        sender_life, what = sent
        peer = self.members[to]
        if peer.has_removed(sender):
            self._turn_away(peer, self.members[sender], sender_life)
            return
        if isinstance(what, Packet):
            if life != peer.life or peer.driver is None or self.cables is None:
                return
            frames = self.cables.unpack((sender, to), what, peer.driver.log.record_cache)
            if what.is_garbled and self.members[sender].life == sender_life:
                self.members[sender].later(1 * MS, self.members[sender].unreachable, to)
        else:
            frames = what
        if frames:
            peer.receive(life, sender, frames, sender_life)

    def _turn_away(self, peer: SimMember, member: SimMember, life: int) -> None:
        """As the handshake: who was removed is told so by whoever hears a leader."""
        assert peer.driver is not None
        if (
            peer.driver.hears_leader
            and member.life == life
            and member.up
            and not self.network.is_blocked(peer.id, member.id)
        ):
            member.later(1 * MS, member.turned_away)

    def turns_away(self, member: SimMember) -> bool:
        return any(
            peer.driver is not None and peer.driver.hears_leader and peer.has_removed(member.id)
            for peer in self._heard_by(member)
        )

    def in_reach(self, member: SimMember) -> list[SimMember]:
        return [other for other in self._heard_by(member) if not other.has_removed(member.id)]

    def _heard_by(self, member: SimMember) -> list[SimMember]:
        """Handshakes take both directions; where messages get lost, some fail."""
        blocked, now = self.network.is_blocked, self.schedule.now
        return [
            other
            for other in self.members.values()
            if other is not member
            and other.up
            and other.paused_until <= now
            and not blocked(member.id, other.id)
            and not blocked(other.id, member.id)
            and self.chance.random() >= self.network.weather.loss
        ]

    def is_unmet(self, member: SimMember, sender: int, life: int) -> bool:
        met = member.met.get(sender)
        if met is not None:
            return life < met
        return self.members[sender].disk.lost_data

    def send_snapshot(self, sender: SimMember, message: Message) -> None:
        """A checkpoint of now; it takes a while, and may be lost.

        What it is about is read from itself, as at a receiver (`server/states.py`): the machine
        may stand still in an entry, with its effect in memory and not yet among the rows.
        """
        assert sender.driver is not None
        files, to = sender.disk.state.copy(), message.to
        position = rows.read_position(files)
        conf = rows.decode_conf_state(rows.required(files, rows.CONF_STATE))
        message = replace(message, snapshot=Snapshot(position.index, position.term, conf))
        if self.cables is not None:
            message = self.cables.carry(message, sender.driver.log.record_cache)
        self.note("sends a snapshot", sender.id, f"to {to} at {position.index}")
        self.branches["snapshots sent"] += 1
        peer, roll = self.members.get(to), self.chance.random()
        delay = int(20 * MS * 50**roll)
        if (
            peer is None
            or self.network.is_blocked(sender.id, to)
            or roll < self.network.weather.loss
        ):
            sender.later(delay, sender.snapshot_sent, to, False)
            return
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
            sender.later(MS, sender.snapshot_sent, peer.id, arrived)

    def looked_at(self, member: SimMember) -> None:
        self.oracle.look(member, self.schedule.now)
        assert member.driver is not None
        machine = member.driver.machine
        if self.history.leases:
            self.lease_ends.look(machine, self.schedule.now)
        self.digest = hash((self.digest, self.schedule.now, machine.applied_index, machine.hash))

    def started(self, member: SimMember) -> None:
        """Raises Violation when it is taken for an older copy of itself, and is none."""
        if any(other.takes_for_older_copy(member) for other in self.members.values()):
            if not member.is_set_back:
                raise Violation(f"member {member.id} was restarted, and taken for an older copy")
            member.end("is an older copy", power=False)
            member.lose_disk()
            return
        for client in self.clients[: self.shape.clients]:
            client.started(member)

    def died(self, member: SimMember, why: str) -> None:
        self.note("dies", member.id, why)
        self.branches[f"died: {why}"] += 1
        for party in self.parties:
            party.died(member)
        least = self.shape.restart_ms
        delay_ms = least * (RESTART_MS_MAX / least) ** self.chance.random()
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
        operations = self.history.operations
        seen["outcomes unknown"] = len([1 for each in operations if each.response is None])
        for client in self.clients:
            for why, times in client.errors.items():
                seen[f"answered {why}"] += times
        return +seen

    def forget(self) -> None:
        """At the end: most of what was made goes at once, and is not left to the collector."""
        self.history.operations.clear()
        self.history.watches.clear()
        self.oracle.feed.clear()
        for member in self.members.values():
            member.driver = member.opened = member.watches = None
            member.disk.replace()

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
