"""The course of a run: chaos, then peace, in which all must be one cluster again, and a verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from chainfire.command import CommandKind
from chainfire.mvcc.hash import hash_kv
from chainfire.mvcc.read import run
from chainfire.node.admission import is_quorum_without
from chainfire.node.driver import Driver
from chainfire.proto.maintenance_pb2 import NOSPACE, AlarmRequest
from chainfire.sim.check_end import MemberEnd, check_end
from chainfire.sim.check_kv import check_kv
from chainfire.sim.check_lease import check_leases
from chainfire.sim.check_watch import Compactions, check_watches
from chainfire.sim.clients import Call, Client
from chainfire.sim.history import Compact, Put, PutDone, Range, RangeDone, Request, Violation
from chainfire.sim.member import SimMember
from chainfire.sim.pace import Lag, entries_at_best, needed_us
from chainfire.sim.schedule import MS, SECOND
from chainfire.sim.watching import hear_out
from chainfire.sim.wire import current
from chainfire.sim.world import World
from chainfire.types import Nobody

PEACE_US = 30 * SECOND  # in peace a cluster must be one again within this time, or is only slow
LAG_ENTRIES_MAX = 100  # under load
LEASE_GRACE_US = 5 * SECOND  # in which the leader ends those whose time is over


class _QuorumLost(Exception):
    """The membership was changed so that it cannot do without who has lost its disk."""


class Course:
    """Of one world; `run` it once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._settled_at = 0  # when it was one cluster again

    def run(self) -> None:
        """Raises Violation, or whatever a member raised that no fault explains."""
        world = self._world
        for member in world.members.values():
            world.schedule.after(world.chance.randrange(100 * MS), member.start)
        for party in world.parties:
            party.start()
        world.faults.start()
        world.schedule.run_until(world.shape.chaos_us)
        world.entries, world.events = world.oracle.committed, world.schedule.events
        self._heal()
        try:
            self._await_one_cluster()
        except _QuorumLost:
            world.branches["quorums lost"] += 1
            check_kv(world.history.operations, world.oracle.feed)
            return
        self._ask_everybody()
        self._judge()

    def _heal(self) -> None:
        """First a majority alone, so that nobody is saved by who should not be needed."""
        world = self._world
        world.note("peace")
        world.faults.stop()
        world.network.heal()
        if world.cables is not None:
            world.cables.heal()
        members = list(world.members.values())
        for member in members:
            member.disk.heal()
            member.paused_until = 0
        # Where the membership changes, who is needed is known only to the log.
        is_rolled_out = "reconfigure" in world.shape.faults and world.chance.random() < 0.5
        is_rolled_out = is_rolled_out or "exile" in world.shape.faults
        if is_rolled_out:
            self._complete_rollout()
        whose = {"membership", "join", "remove", "lose_disk", "set_back"}
        alone = world.chance.random() < 0.6 or is_rolled_out
        if alone and not whose & {*world.shape.faults}:
            self._heal_a_majority(they_differ=is_rolled_out or world.chance.random() < 0.7)
        for member in members:
            member.stays_down = False
            member.start()

    def _complete_rollout(self) -> None:
        """All have the same options again, and what is the default. Nobody is saved by who has
        others."""
        world = self._world
        world.note("same options")
        options = replace(world.shape.options, pre_vote=True)
        for member in world.members.values():
            member.options = options
            if member.up:
                member.end("restarted", power=False)

    def _heal_a_majority(self, *, they_differ: bool) -> None:
        """`they_differ`: those who differ most, by newest term and longest log, must agree."""
        world = self._world
        voters = [world.members[id] for id in world.founded.voters]
        needed: set[int] = set()
        if they_differ:
            needed.add(max(voters, key=lambda member: member.durable.hard_state.term).id)
            needed.add(max(voters, key=lambda member: member.durable.last).id)
        others = [member.id for member in voters if member.id not in needed]
        spared = world.chance.sample(others, min(len(others), (len(voters) - 1) // 2))
        world.note("spared", 0, str(spared))
        for id in spared:
            member = world.members[id]
            member.stays_down = True
            if member.up:
                member.end("spared", power=False)
        for member in world.members.values():
            if member.id not in spared:
                member.start()
        self._await(
            lambda: self._is_one_without(spared), f"a majority does not do without {spared}"
        )

    def _is_one_without(self, spared: Sequence[int]) -> bool:
        leader = self._world.leader()
        return (
            leader is not None
            and leader.id not in spared
            and leader.driver is not None
            and leader.driver.raft.raft.committed_in_term
        )

    def _await_one_cluster(self) -> None:
        self._await(self._is_one, "no convergence")
        self._settled_at = self._world.schedule.now
        for party in self._world.parties:
            party.stop()

    def _ask_everybody(self) -> None:
        """Progress: a write, and then a linearizable read at every member, succeed."""
        world = self._world
        self._await(self._is_without_alarms, "alarms stay")
        asker = Client(world, len(world.clients) + 2)
        asker.stop()
        world.parties.append(asker)  # a fault of before may still end whom it asks
        self._succeed(asker, Put(b"last", asker.value()), None)
        for member in self._present():
            self._succeed(asker, Range(b"last"), member)
        self._await(lambda: not world.lease_ends.alive, "leases stay")
        self._await(self._is_level, "members lag behind")
        if world.watchers:
            hear_out(world.schedule, world.watchers, PEACE_US)
            self._await(self._is_level, "members lag behind")

    def _await(self, condition: Callable[[], bool], otherwise: str) -> None:
        """Once, and without load, for as much longer as those need who are only slow."""
        world = self._world
        begun, taken = world.schedule.now, self._taken()
        deadline, is_prolonged = begun + PEACE_US, False
        while not condition():
            if world.schedule.now >= deadline:
                if self._is_quorum_lost():
                    raise _QuorumLost
                longer = 0 if is_prolonged else self._needed_us(taken)
                if not longer:
                    states = [m.driver and m.driver.raft.status() for m in world.members.values()]
                    seconds = (world.schedule.now - begun) // SECOND
                    raise Violation(f"{otherwise} after {seconds} s of peace: {states}")
                world.branches["peace prolonged for who is slow"] += 1
                for party in world.parties:
                    party.stop()
                deadline, is_prolonged = world.schedule.now + longer, True
            self._leave_joint()
            world.schedule.run_until(world.schedule.now + 50 * MS)

    def _taken(self) -> dict[int, tuple[int, int]]:
        """By member: how many entries it has acknowledged in all, and how far it has applied."""
        world = self._world
        return {
            id: (world.oracle.acknowledged[id], member.applied)
            for id, member in world.members.items()
        }

    def _needed_us(self, before: dict[int, tuple[int, int]]) -> int:
        """For how much longer some may lag behind, by what they took since `before`, PEACE_US ago.

        Where the leader's own first entry lies far behind what it has inherited, nobody can apply
        anything before most have all of that: so what counts for a log is what came into it.
        """
        world = self._world
        leader = world.leader()
        if leader is None or leader.driver is None:
            return 0
        raft, lags = leader.driver.raft.raft, list[Lag]()
        for member in self._belonging(leader.driver):
            peer = raft.tracker.progress.get(member.id)
            acknowledged, applied = before[member.id]
            lacking = raft.log.last_index - (peer.match if peer is not None else 0)
            if lacking > LAG_ENTRIES_MAX:
                lags.append(Lag(lacking, world.oracle.acknowledged[member.id] - acknowledged))
            elif self._lags(member):
                lacking = world.oracle.committed - member.applied
                lags.append(Lag(lacking, member.applied - applied))
        return needed_us(lags, entries_at_best(raft.config, world.shape, PEACE_US), PEACE_US)

    def _lags(self, member: SimMember) -> bool:
        return member.applied < self._world.oracle.committed - LAG_ENTRIES_MAX

    def _is_quorum_lost(self) -> bool:
        """As those know it who have lost nothing."""
        world = self._world
        lost = {id for id, member in world.members.items() if member.disk.lost_data}
        others = [m for m in world.members.values() if m.driver is not None and m.id not in lost]
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
            to = member or self._world.leader()
            if (not calls or calls[-1].finished) and to is not None and to.up:
                again = (
                    request._replace(value=asker.value()) if isinstance(request, Put) else request
                )
                calls.append(asker.single(to, again))
            return False

        self._await(done, f"nobody carries out {request}")

    def _is_one(self) -> bool:
        leader = self._world.leader()
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
        leader = self._world.leader()
        if leader is not None and leader.driver is not None:
            conf = leader.driver.machine.conf_state
            if conf.voters_outgoing and not conf.auto_leave:
                leader.leave_joint()

    def _is_without_alarms(self) -> bool:
        """An operator clears those that a member has raised in an earlier life."""
        leader = self._world.leader()
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
        world = self._world
        return [world.members[id] for id in sorted(leader.machine.members) if id in world.members]

    def _is_removed(self, member: SimMember) -> bool:
        leader = self._world.leader()
        return (
            leader is not None
            and leader.driver is not None
            and member.id not in leader.driver.machine.members
        )

    def _present(self) -> list[SimMember]:
        self._await(self._is_one, "no convergence")
        leader = self._world.leader()
        assert leader is not None and leader.driver is not None
        return self._belonging(leader.driver)

    def _is_level(self) -> bool:
        leader = self._world.leader()
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
        world = self._world
        self._model = check_kv(world.history.operations, world.oracle.feed)
        check_end([self._end_of(member) for member in self._present()], self._model)
        self._judge_watches()
        check_leases(
            world.history.leases,
            world.lease_ends.ends,
            now=world.schedule.now,
            grace=LEASE_GRACE_US,
            rate_max=1.0 + world.shape.clock_skew,
            rate_min=1.0 - world.shape.clock_skew,
            jumps=world.clock_jumps,
            settled_at=self._settled_at,
        )

    def _judge_watches(self) -> None:
        """Who is still connected to a member has had the time to hear of everything."""
        world = self._world
        streams, present = [client.stream for client in world.watchers], self._present()
        connected = [s.watch for s in streams if s and s.is_open and s.member in present]
        ended = [watch for watch in world.history.watches if watch not in connected]
        compactions = Compactions(
            [
                (operation.call, operation.request.revision)
                for operation in world.history.operations
                if isinstance(operation.request, Compact)
            ]
        )
        world.branches["watch events checked"] += check_watches(
            connected,
            world.oracle.feed,
            complete_to=self._model.revision,
            compactions=compactions,
        ) + check_watches(ended, world.oracle.feed, compactions=compactions)

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
