"""What goes wrong, when, and for how long: one function for each kind in `shape.EVERY_FAULT`.

Whoever is taken down comes back; whoever is cut off is let in again. How many
suffer at once is not limited: safety must hold all the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

from chainfire.node.logstore import LogMeta, last_position
from chainfire.raft.changes import ChangeKind, ChangeStep, ConfChange, Transition
from chainfire.raft.ready import Role
from chainfire.sim.cables import Cables
from chainfire.sim.disk import Disk
from chainfire.sim.member import SimMember
from chainfire.sim.network import Network
from chainfire.sim.opening import described, may_begin_anew, stored_conf
from chainfire.sim.schedule import MS, SECOND, Schedule, dice
from chainfire.sim.shape import EVERY_FAULT, Shape
from chainfire.types import ConfState, Nobody

QUESTIONS_US: Final = 15 * MS  # between two that somebody is asked while things are bad for it


class World(Protocol):
    schedule: Schedule
    shape: Shape
    network: Network
    members: dict[int, SimMember]
    cables: Cables | None
    clock_jumps: list[tuple[int, int]]

    @property
    def newest_conf(self) -> ConfState:
        """That anybody has applied."""
        ...

    def add_member(self) -> SimMember | None: ...

    def flood(self, member: SimMember) -> None:
        """Call it more often than it can answer."""
        ...

    def question(self, member: SimMember) -> None:
        """Ask it what only who leads can know."""
        ...

    def crowd(self, member: SimMember) -> None:
        """Ask it for many leases of the same length."""
        ...

    def note(self, what: str, member: int = 0, detail: str = "") -> None: ...


class Faults:
    def __init__(self, world: World) -> None:
        self._world = world
        self._dice = dice(world.shape.seed, "faults")
        self._active = True
        self.counts: Counter[str] = Counter()

    def start(self) -> None:
        for kind in self._world.shape.faults:
            self._next(kind)

    def stop(self) -> None:
        self._active = False

    def _next(self, kind: str) -> None:
        per_minute = EVERY_FAULT[kind] * self._world.shape.faults_per_minute
        mean = 60 * SECOND / per_minute
        self._world.schedule.after(int(self._dice.expovariate(1 / mean)), self._strike, kind)

    def _strike(self, kind: str) -> None:
        if not self._active:
            return
        self._next(kind)
        do: Callable[[SimMember], bool] = getattr(self, f"_{kind}")
        if do(self._somebody()):
            self.counts[kind] += 1

    # ── helpers ─────────────────────────────────────────────────────────────

    def _somebody(self) -> SimMember:
        """Often the leader: that is where it hurts."""
        members = self._world.members
        if self._dice.random() < 0.6:
            for member in members.values():
                if member.role is Role.LEADER:
                    return member
        return self._dice.choice(list(members.values()))

    def _ms(self, least: int, most: int) -> int:
        return int(MS * least * (most / least) ** self._dice.random())

    @property
    def _election_us(self) -> int:
        """Until silence is noticed, at the earliest."""
        shape = self._world.shape
        return shape.heartbeat_ms * shape.election_ticks * MS

    def _later(self, delay: int, do: Callable[..., object], *args: object) -> None:
        self._world.schedule.after(delay, do, *args)

    # ── processes ───────────────────────────────────────────────────────────

    def _kill(self, member: SimMember) -> bool:
        return self._end(member, power=False)

    def _power_loss(self, member: SimMember) -> bool:
        return self._end(member, power=True)

    def _end(self, member: SimMember, *, power: bool) -> bool:
        if not member.up:
            return False
        member.end("power loss" if power else "killed", power=power)
        return True

    def _power_cut(self, member: SimMember) -> bool:
        if not member.up or member.disk.power.cut_after >= 0:
            return False
        member.disk.power.cut_after = self._dice.randrange(12)
        return True

    def _ambush(self, _: SimMember) -> bool:
        """Wherever it happens next."""
        for member in self._world.members.values():
            member.disk.power.ambush_after = self._dice.choice((1, 1, 2, 2, 3, 5))
        return True

    def _reconfigure(self, member: SimMember) -> bool:
        """As in a cluster whose members are given another configuration one by one."""
        member.options = member.options.changed(self._dice)
        return self._end(member, power=False)

    def _kill_all(self, _: SimMember) -> bool:
        power = self._dice.random() < 0.5
        struck = [self._end(member, power=power) for member in self._world.members.values()]
        return any(struck)

    def _pause(self, member: SimMember) -> bool:
        if not member.up:
            return False
        until = self._world.schedule.now + self._ms(50, 5000)
        self._world.note("pause", member.id, f"until {until}")
        member.paused_until = until
        return True

    def _clock_jump(self, member: SimMember) -> bool:
        """Forward, as a monotonic clock can: its machine was asleep."""
        jump = self._ms(50, 10_000)
        self._world.note("clock jump", member.id, str(jump))
        self._world.clock_jumps.append((self._world.schedule.now, jump))
        member.clock.offset_us += jump
        return True

    def _crowd(self, member: SimMember) -> bool:
        """More leases end at once than one command names."""
        if member.role is not Role.LEADER:
            return False
        self._world.crowd(member)
        return True

    def _transfer(self, member: SimMember) -> bool:
        if member.driver is None:
            return False
        self._hand_over(member, self._dice.choice(list(self._world.members)))
        return True

    def _campaign(self, member: SimMember) -> bool:
        if member.driver is None:
            return False
        self._world.note("campaign", member.id)
        member.driver.raft.campaign()
        member.wake()
        return True

    def _rivals(self, _: SimMember) -> bool:
        """Leaders die, and when that is noticed everybody else stands at the same moment."""
        leaders = [m for m in self._world.members.values() if m.role is Role.LEADER]
        struck = [self._end(member, power=False) for member in leaders]
        for member in self._world.members.values():
            self._later(self._election_us + self._dice.randrange(3 * MS), self._campaign, member)
        return any(struck)

    def _membership(self, member: SimMember) -> bool:
        """One or several at once turn their coats; whoever applies it checks it again.

        Who has to leave a joint configuration by hand does so at one of the next strikes.
        """
        if member.driver is None:
            return False
        conf = member.driver.machine.conf_state
        if conf.voters_outgoing and not conf.auto_leave and self._dice.random() < 0.6:
            self._world.note("leave joint", member.id)
            member.leave_joint()
            return True
        ids = list(self._world.members)
        steps = tuple(
            ChangeStep(ChangeKind.ADD_VOTER if id in conf.learners else ChangeKind.ADD_LEARNER, id)
            for id in self._dice.sample(ids, min(len(ids), self._dice.choice((1, 1, 1, 2, 3))))
        )
        steps = tuple(step for step in steps if self._may_change(step, conf))
        if not steps:
            return False
        transition = self._dice.choice(tuple(Transition))
        self._world.note("membership", member.id, str(steps))
        member.driver.propose_conf_change(ConfChange(steps, transition), (), Nobody())
        member.wake()
        return True

    def _join(self, member: SimMember) -> bool:
        new = self._world.add_member() if member.up else None
        if new is None or member.driver is None:
            return False
        self._world.note("join", new.id)
        change = ConfChange((ChangeStep(ChangeKind.ADD_LEARNER, new.id),))
        member.driver.propose_conf_change(change, (described(new.id),), Nobody())
        member.wake()
        return True

    def _remove(self, member: SimMember) -> bool:
        if member.driver is None:
            return False
        id = self._dice.choice(list(self._world.members))
        step = ChangeStep(ChangeKind.REMOVE, id)
        if not self._may_change(step, member.driver.machine.conf_state):
            return False
        self._world.note("remove", id)
        change = ConfChange((step,))
        member.driver.propose_conf_change(change, (), Nobody())
        member.wake()
        return True

    def _may_change(self, step: ChangeStep, conf: ConfState) -> bool:
        """While somebody has no vote because it lost its disk, every other one is needed."""
        lost = [id for id, member in self._world.members.items() if member.disk.lost_data]
        adds = step.kind is ChangeKind.ADD_VOTER
        return not lost or adds or step.id in lost or step.id not in conf.voters

    def _lose_disk(self, member: SimMember) -> bool:
        """One at a time, and only where the others are a quorum, as it knows them: whom it knew
        tells it how new its promises can be. The membership may change afterwards."""
        if not self._may_lose(member, member.disk):
            return False
        self._world.note("loses its disk", member.id)
        if member.up:
            member.end("lost its disk", power=self._dice.random() < 0.5)
        member.lose_disk()
        return True

    def _set_back(self, member: SimMember) -> bool:
        """A copy of its disk is made, and takes its place a while later, in the same life."""
        if not member.up or member.disk.lost_data:
            return False
        self._world.note("is copied", member.id)
        copy, delay = member.disk.image(), self._ms(20, 5000)
        self._later(delay, self._come_back_older, member, member.life, copy)
        return True

    def _come_back_older(self, member: SimMember, life: int, copy: Disk) -> None:
        """If somebody who is up knows that it has applied more since: nobody else can tell."""
        last_index, _ = last_position(copy.log, LogMeta.read(copy.log))
        if (
            member.life == life
            and self._may_lose(member, copy)
            and any(
                other.driver is not None and other.driver.reports.applied(member.id) > last_index
                for other in self._world.members.values()
            )
        ):
            self._world.note("comes back older", member.id)
            member.come_back_older(copy)

    def _may_lose(self, member: SimMember, disk: Disk) -> bool:
        """Whether it may begin anew, as a member that knows of the others what this disk holds."""
        others = [other for other in self._world.members.values() if other is not member]
        if any(other.disk.lost_data for other in others) or not may_begin_anew(disk):
            return False
        if stored_conf(disk) != self._world.newest_conf:
            return False
        return not (member.disk.full or member.disk.stalled)

    # ── the network ─────────────────────────────────────────────────────────

    def _block(self, pairs: list[tuple[int, int]], duration: int) -> bool:
        if not pairs:
            return False
        self._world.note("block", 0, f"{pairs} for {duration}")
        self._world.network.block(pairs, self._world.schedule.now + duration)
        return True

    def _between(self, some: set[int]) -> list[tuple[int, int]]:
        others = [id for id in self._world.members if id not in some]
        pairs = [(a, b) for a in sorted(some) for b in others]
        return pairs + [(b, a) for a, b in pairs]

    def _partition(self, _: SimMember) -> bool:
        ids = list(self._world.members)
        some = set(self._dice.sample(ids, self._dice.randint(0, len(ids) // 2)))
        return self._block(self._between(some), self._ms(200, 8000))

    def _isolate_leader(self, _: SimMember) -> bool:
        leaders = {m.id for m in self._world.members.values() if m.role is Role.LEADER}
        return self._block(self._between(leaders), self._ms(200, 8000))

    def _flood(self, member: SimMember) -> bool:
        """Its log grows a tail, longer than what the others may commit meanwhile, and it is asked
        what only a leader can know. Some may be cut off with it, who follow and do not make a
        majority."""
        if member.role is not Role.LEADER:
            return False
        others = [id for id in self._world.members if id != member.id]
        with_it = self._dice.randint(0, max(0, len(others) // 2 - 1))
        cut_off = {member.id, *self._dice.sample(others, with_it)}
        duration = self._ms(200, 4000)
        self._block(self._between(cut_off), duration)
        for _ in range(4):
            self._later(self._dice.randrange(200 * MS), self._world.flood, member)
        self._question(sorted(cut_off), duration)
        return True

    def _question(self, ids: list[int], duration: int) -> None:
        """What only a leader can know, again and again."""
        for at in range(0, duration, QUESTIONS_US):
            member = self._world.members[self._dice.choice(ids)]
            self._later(at, self._world.question, member)

    def _deaf(self, member: SimMember) -> bool:
        """A leader hears all others late, and hands over: it is the last to know that it does not
        lead any more, and still hears what was said while it did."""
        others = [id for id in self._world.members if id != member.id]
        if member.role is not Role.LEADER or not others:
            return False
        late = int(self._election_us * (0.1 + 0.5 * self._dice.random()))
        until = self._world.schedule.now + 4 * late
        for other in others:
            self._world.network.slow_down((other, member.id), until, late)
        self._later(late, self._hand_over, member, self._dice.choice(others))
        self._question([member.id], 4 * late)
        return True

    def _hand_over(self, member: SimMember, to: int) -> None:
        if member.driver is not None:
            self._world.note("transfer", member.id, f"to {to}")
            member.driver.raft.transfer_leader(to)
            member.wake()

    def _echo(self, member: SimMember) -> bool:
        """A leader and one who follows it are cut off; what that one acknowledges is under way for
        so long that another has led, and replaced it, and handed back, when it arrives."""
        others = [id for id in self._world.members if id != member.id]
        if member.role is not Role.LEADER or len(others) < 2:
            return False
        follower, election = self._dice.choice(others), self._election_us
        alone = int(election * (1.1 + 0.5 * self._dice.random()))
        back = int(election * (0.2 + 0.8 * self._dice.random()))  # from then on
        late = alone + back
        network, now = self._world.network, self._world.schedule.now
        network.slow_down((follower, member.id), now + late, late)
        self._block(self._between({member.id, follower}), alone)
        around = [pair for pair in self._between({follower}) if member.id not in pair]
        self._block(around, 2 * late)
        for _ in range(2):
            self._later(self._dice.randrange(20 * MS), self._world.flood, member)
        self._later(100 * MS, self._block, self._between({follower}), 2 * late)
        for other in others:
            if other != follower:
                rival = self._world.members[other]
                self._later(election + self._dice.randrange(50 * MS), self._campaign, rival)
        for again in range(1, 10):
            self._later(alone + again * back // 10, self._call_back, member)
        return True

    def _call_back(self, member: SimMember) -> None:
        """Whoever leads now is to hand over to it."""
        for other in self._world.members.values():
            if other.role is Role.LEADER and other is not member:
                self._hand_over(other, member.id)

    def _stutter(self, member: SimMember) -> bool:
        """What it asked in one life is answered in the next."""
        if not member.up or member.role is Role.LEADER:
            return False
        until = self._world.schedule.now + 3 * SECOND
        late = self._ms(20, 300)
        for pair in self._between({member.id}):
            self._world.network.slow_down(pair, until, late)
        self._later(QUESTIONS_US, self._stammer, member, 4, late, until)
        return True

    def _stammer(self, member: SimMember, lives: int, late: int, until: int) -> None:
        """`lives` are left."""
        now = self._world.schedule.now
        if not self._active or now >= until:
            return
        if member.driver is not None:
            self._world.question(member)
            if member.driver.raft.raft.leader and lives:
                lives -= 1
                self._later(self._dice.randrange(late), self._die_shortly, member)
        self._later(QUESTIONS_US, self._stammer, member, lives, late, until)

    def _die_shortly(self, member: SimMember) -> None:
        if self._end(member, power=False):
            self._later(self._ms(1, 20), member.start)

    def _exile(self, member: SimMember) -> bool:
        """One that asks nobody before it stands is cut off: its term grows, its log does not."""
        if member.role is Role.LEADER:
            member = self._dice.choice(list(self._world.members.values()))
        if not member.up or member.role is Role.LEADER:
            return False
        member.options = replace(member.options, pre_vote=False)
        duration = int(self._election_us * (3 + 5 * self._dice.random()))
        self._block(self._between({member.id}), duration)
        self._die_shortly(member)
        return True

    def _one_way(self, member: SimMember) -> bool:
        others = [id for id in self._world.members if id != member.id]
        some = self._dice.sample(others, self._dice.randint(0, len(others)))
        pairs = [(member.id, id) for id in some]
        if self._dice.random() < 0.5:
            pairs = [(b, a) for a, b in pairs]
        return self._block(pairs, self._ms(200, 8000))

    def _swizzle(self, _: SimMember) -> bool:
        """Cut off one by one, back in another order: as FoundationDB's simulator found most."""
        ids = list(self._world.members)
        some = self._dice.sample(ids, self._dice.randint(0, len(ids)))
        at = 0
        for id in some:
            at += self._ms(50, 1000)
            self._later(at, self._block, self._between({id}), 60 * SECOND)
        self._dice.shuffle(some)
        for id in some:
            at += self._ms(50, 1000)
            self._later(at, self._world.network.unblock, self._between({id}))
        return bool(some)

    def _slow_link(self, member: SimMember) -> bool:
        others = [id for id in self._world.members if id != member.id]
        if not others:
            return False
        pair = (member.id, self._dice.choice(others))
        until = self._world.schedule.now + self._ms(500, 8000)
        self._world.network.slow_down(pair, until, self._ms(20, 1500))
        return True

    def _garble(self, member: SimMember) -> bool:
        cables, others = self._world.cables, [id for id in self._world.members if id != member.id]
        if cables is None or not others:
            return False
        pair = (member.id, self._dice.choice(others))
        if self._dice.random() < 0.5:
            pair = pair[::-1]
        cables.garble(pair, self._dice.choice((1, 1, 3, 20)))
        return True

    def _storm(self, _: SimMember) -> bool:
        self._world.network.storm(self._world.schedule.now + self._ms(200, 4000))
        return True

    # ── disks ───────────────────────────────────────────────────────────────

    def _sync_failure(self, member: SimMember) -> bool:
        if not member.up:
            return False
        member.disk.fail_next_sync()
        return True

    def _slow_disk(self, member: SimMember) -> bool:
        disk = member.disk
        disk.slow = self._ms(10, 1000) / MS
        self._later(self._ms(500, 5000), setattr, disk, "slow", 1.0)
        return True

    def _stall(self, member: SimMember) -> bool:
        member.disk.set_stalled(True)
        self._later(self._ms(20, 1500), member.disk.set_stalled, False)
        return True

    def _mire(self, member: SimMember) -> bool:
        """A leader is cut off with a slow disk: another one leads, and replaces what it writes,
        before the sync of that has ended."""
        if member.role is not Role.LEADER or len(self._world.members) < 3:
            return False
        election, disk = self._election_us, member.disk
        alone = int(election * (1.5 + self._dice.random()))
        disk.slow = (alone + election) / self._world.shape.sync_us
        self._world.flood(member)
        self._block(self._between({member.id}), alone)
        self._later(alone + 2 * election, setattr, disk, "slow", 1.0)
        return True

    def _disk_full(self, member: SimMember) -> bool:
        member.disk.set_full(True)
        self._later(self._ms(200, 3000), member.disk.set_full, False)
        return True
