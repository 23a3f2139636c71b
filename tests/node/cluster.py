"""Several members in one process: Worlds joined by a network that a script or a seed may spoil.

One step of `run` is one tick of everybody, then turns until all is quiet.
Frames between two members arrive in order unless `network` says otherwise.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from chainfire.machine import Machine
from chainfire.node.admission import Admission
from chainfire.node.driver import Limits
from chainfire.node.effects import Effects
from chainfire.node.frames import Frame
from chainfire.node.standing import Stage
from chainfire.raft.messages import Message, MessageType, Snapshot
from chainfire.raft.ready import Role
from chainfire.storage.backend import STATE_FAMILIES
from chainfire.storage.memory import MemoryBackend
from tests.node.world import PLENTY, Caller, World

TICK_MS = 100


@dataclass(slots=True)
class Packet:
    """One frame on its way."""

    sender: int
    to: int
    frame: Frame


Network = Callable[[Packet], list[Packet]]  # what arrives instead, in order


def reliable(packet: Packet) -> list[Packet]:
    return [packet]


def is_a(packet: Packet, type_: MessageType) -> bool:
    return isinstance(packet.frame, Message) and packet.frame.type is type_


def losing(type_: MessageType) -> Network:
    return lambda packet: [] if is_a(packet, type_) else [packet]


class Cluster:
    """Members 1 … n. `cut` isolates members; a member that is None is down."""

    def __init__(self, size: int = 3, seed: int = 1, limits: Limits | None = None) -> None:
        self.random = random.Random(seed)
        self.ids = tuple(range(1, size + 1))
        self.limits = limits
        self.now_ms = 0
        self.cut: set[int] = set()
        self.network: Network = reliable
        self.held: list[Packet] = []  # taken out by a script, to be delivered later
        self.starts = dict.fromkeys(self.ids, 1)
        self.members: dict[int, World] = {}
        self.undelivered: list[Packet] = []
        self.stalled_disks: set[int] = set()  # members whose log syncs do not end
        self.snapshots: Path | None = None  # where checkpoints are made; None: sends fail
        self._checkpoints = 0
        for id_ in self.ids:
            self.members[id_] = self._make(id_)

    def _make(self, id_: int, before: World | None = None) -> World:
        world = World(
            before.log.crash(0) if before else None,
            before.state.crash(0) if before else None,
            me=id_,
            draw=self.random.randrange,
            voters=self.ids,
            limits=self.limits,
            start_number=self.starts[id_],
        )
        world.driver.begin(self.now_ms)
        return world

    # ── what happens to members ─────────────────────────────────────────────

    def crash(self, id_: int) -> World:
        """The process dies; nothing unsynced remains, nobody is answered."""
        world = self.members.pop(id_)
        self.undelivered = [p for p in self.undelivered if id_ not in (p.sender, p.to)]
        return world

    def restart(self, id_: int, before: World) -> World:
        self.starts[id_] += 1
        world = self.members[id_] = self._make(id_, before)
        return world

    def lose_disk(self, id_: int) -> World:
        """It comes back with an empty directory under its old identity, and asks the others."""
        self.starts[id_] += 1
        world = World(
            me=id_,
            draw=self.random.randrange,
            voters=self.ids,
            limits=self.limits,
            start_number=self.starts[id_],
            stage=Stage.LOST,
        )
        world.driver.begin(self.now_ms)
        self.members[id_] = world
        for other in self.members.values():
            if other is not world and not self.cut & {id_, other.me}:
                other.driver.lost_data(id_)
        self.ask_others(world)
        return world

    def ask_others(self, world: World) -> bool:
        """Whether so many answer that it may follow."""
        admission = Admission(world.me, world.machine.conf_state, lost_data=True)
        for id_, other in self.members.items():
            if other is not world and not self.cut & {id_, world.me}:
                stage = other.driver.standing.stage
                admission.met(id_, lost_data=stage is not Stage.FULL)
                admission.welcomed(id_)
                admission.reported(id_, other.driver.raft.raft.term)
        if admission.is_granted and world.driver.standing.stage is Stage.LOST:
            world.driver.standing.become_following(admission.term)
        return admission.is_granted

    # ── time ────────────────────────────────────────────────────────────────

    def settle(self) -> None:
        """Turns, syncs and deliveries until nothing moves."""
        for _ in range(2000):
            if not self.step():
                return
        raise AssertionError("the cluster talks without end")

    def step(self) -> bool:
        """One turn of every member, then one round of deliveries; False when all is quiet."""
        moved = False
        for id_, world in list(self.members.items()):
            effects = world.turn()
            moved |= bool(effects.answers or effects.reads or effects.remind_after)
            while effects.remind_after:
                effects.remind_after = world.driver.remind()
            self._carry_out(id_, effects)
            if effects.sync is not None and id_ not in self.stalled_disks:
                world.sync(effects)
                moved = True
            if world.driver.lags:
                world.driver.let_go()
                moved = True
        packets, self.undelivered = self.undelivered, []
        for packet in packets:
            moved = True
            for arriving in self.network(packet):
                self.deliver(arriving)
        return moved

    def deliver(self, packet: Packet) -> None:
        world = self.members.get(packet.to)
        if world is None or self.cut & {packet.sender, packet.to}:
            return
        if not world.driver.received(packet.sender, [packet.frame]):
            said = world.driver.say()
            self._carry_out(packet.to, said)
            for reader in said.reads:
                reader.ready()

    def _carry_out(self, id_: int, effects: Effects) -> None:
        self._post(id_, effects)
        for message in effects.snapshots:
            self._send_snapshot(id_, message)

    def _post(self, sender: int, effects: Effects) -> None:
        for to, frames in effects.frames.items():
            if to in self.members and not self.cut & {sender, to}:
                self.undelivered += [Packet(sender, to, frame) for frame in frames]
            else:
                self.members[sender].driver.unreachable(to)

    def _send_snapshot(self, sender: int, message: Message) -> None:
        """The transfer in one step: a checkpoint, staged at the receiver, where it stands."""
        receiver = self.members.get(message.to)
        arrives = not (receiver is None or self.cut & {sender, message.to})
        if self.snapshots is not None and arrives and receiver is not None:
            self._checkpoints += 1
            staged = self.snapshots / f"state-{self._checkpoints:06d}"
            self.members[sender].state.checkpoint(staged)
            machine = Machine(MemoryBackend.open(staged, STATE_FAMILIES), cache_bytes=1 << 20)
            snapshot = Snapshot(machine.applied_index, machine.applied_term, machine.conf_state)
            receiver.place.root = self.snapshots
            receiver.driver.snapshot_received(replace(message, snapshot=snapshot), staged.name)
        else:
            arrives = False
        self.members[sender].driver.snapshot_sent(message.to, arrived=arrives)

    def run(self, ticks: int) -> None:
        for _ in range(ticks):
            self.now_ms += TICK_MS
            for world in list(self.members.values()):
                world.driver.tick(self.now_ms, PLENTY)
            self.settle()
            for world in self.members.values():
                if world.driver.soundness.has_caught_up:
                    world.driver.standing.become_full()

    def run_until(self, condition: Callable[[], bool], ticks_max: int = 200) -> None:
        for _ in range(ticks_max):
            if condition():
                return
            self.run(1)
        raise AssertionError(f"not within {ticks_max} ticks")

    # ── questions ───────────────────────────────────────────────────────────

    @property
    def leader(self) -> World | None:
        """Who leads in the newest term, if anybody does."""
        leaders = [w for w in self.members.values() if w.driver.raft.raft.role is Role.LEADER]
        return max(leaders, key=lambda w: w.driver.raft.raft.term, default=None)

    @property
    def followers(self) -> list[World]:
        return [world for world in self.members.values() if world is not self.leader]

    def elect(self, id_: int = 1) -> World:
        """This member leads, and everybody has heard of it."""
        self.members[id_].driver.raft.campaign()
        self.settle()
        leader = self.leader
        assert leader is not None and leader.me == id_
        self.run(1)
        return leader

    def all_equal(self) -> bool:
        """Everybody has applied the same, to the same effect."""
        return len({(w.machine.applied_index, w.machine.hash) for w in self.members.values()}) == 1


def answered(*callers: Caller) -> bool:
    return all(caller.answered for caller in callers)
