"""One member: the product's driver, and around it what the shell is in production.

Work that the driver orders takes its time here: a sync ends later, a turn
comes a little after what causes it, messages go through the network. Between
any two of these the member may die. What the shell does besides is done as it
does it; its upkeep is in `member_upkeep`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

from chainfire.errors import DiskFull, FatalError, RequestError, Stalled, SyncFailed
from chainfire.node.admission import Admission
from chainfire.node.applying import HOLD_SECONDS
from chainfire.node.driver import Driver
from chainfire.node.effects import Effects
from chainfire.node.frames import Frame
from chainfire.raft.changes import LEAVE_JOINT
from chainfire.raft.messages import Message, ProposalDropped
from chainfire.raft.ready import Role
from chainfire.sim.disk import Disk, PowerCut, SimBackend
from chainfire.sim.durable import DurableLog
from chainfire.sim.history import Violation
from chainfire.sim.member_driver import make_driver
from chainfire.sim.member_shown import Shown
from chainfire.sim.member_upkeep import MemberUpkeep
from chainfire.sim.member_watches import MemberWatches
from chainfire.sim.opening import FOUNDED_AT, Opened, audit, begin_anew, open_member
from chainfire.sim.schedule import MS, SECOND, Clock, Schedule, dice
from chainfire.sim.shape import Shape
from chainfire.types import Pending, Result

PLENTY: Final = 1 << 40  # bytes of free disk
STALL_RETRY_US: Final = 10 * MS
REDIAL_US: Final = SECOND


class World(Protocol):
    """What a member needs of the world around it."""

    schedule: Schedule
    shape: Shape

    def send(self, sender: SimMember, to: int, frames: Sequence[Frame]) -> None: ...

    def send_snapshot(self, sender: SimMember, message: Message) -> None: ...

    def looked_at(self, member: SimMember) -> None:
        """After each turn, before anybody hears of it."""
        ...

    def started(self, member: SimMember) -> None: ...

    def died(self, member: SimMember, why: str) -> None: ...

    def in_reach(self, member: SimMember) -> Sequence[SimMember]:
        """Who would answer it now."""
        ...

    def turns_away(self, member: SimMember) -> bool:
        """Whether anybody would who hears a leader, as removed."""
        ...

    def is_unmet(self, member: SimMember, sender: int, life: int) -> bool:
        """Whether it does not hear what this life of the sender says: it has lost its disk, and
        there was no handshake yet; or it is an earlier one of such a member."""
        ...


class SimMember:
    def __init__(self, world: World, id: int, disk: Disk, clock: Clock) -> None:
        self.id = id
        self.disk = disk
        self.clock = clock
        self.life = 0  # counted at each start; what belongs to an earlier one is void
        self.driver: Driver | None = None
        self.opened: Opened | None = None
        self.watches: MemberWatches | None = None
        self.paused_until = 0
        self.stays_down = False
        self.power_losses = 0
        self.durable = DurableLog()
        self.forgotten: list[DurableLog] = []  # what it had on disks that are lost
        self.is_set_back = False  # it is being started on an older copy of its disk
        self.ticks = 0  # of this life
        self.heard_at: dict[int, int] = {}  # in which tick from whom last
        self.met: dict[int, int] = {}  # whose life, of those that have lost their disk
        self._admission: Admission | None = None
        self.branches: Counter[str] = Counter()
        self.options = world.shape.options  # from its next life on
        self.shown = Shown(id)
        self.opened_at = 0  # what was applied when this life began
        self._world = world
        self._schedule = world.schedule
        self._shape = world.shape
        self._dice = dice(world.shape.seed, f"member {id}")
        self._turn_due = self._hold_due = self._leaving = False
        self._sync_running = False
        self._upkeep: MemberUpkeep | None = None
        self._known_applied = -1  # after the last turn
        disk.power.audit = self._audit

    @property
    def up(self) -> bool:
        return self.driver is not None

    @property
    def applied(self) -> int:
        return self.driver.machine.applied_index if self.driver else 0

    @property
    def role(self) -> Role | None:
        return self.driver.raft.raft.role if self.driver else None

    # ── life ────────────────────────────────────────────────────────────────

    def start(self) -> None:
        if self.driver is not None or self.stays_down:
            return
        self.life += 1
        try:
            self.opened = open_member(self.disk)
        except (DiskFull, Stalled):
            self.branches["starts refused by the disk"] += 1
            self._restart_later()
            return
        except PowerCut:
            self.end("power cut while starting", power=True)
            return
        self.driver = make_driver(
            self.id, self.disk, self.opened, self._shape, self.options, self._dice
        )
        self.driver.send_through(self._send)
        self.met.clear()
        self.ticks = 0
        self.heard_at.clear()
        self._admission = None
        if self.disk.lost_data:
            conf = self.opened.machine.conf_state
            self._admission = Admission(self.id, conf, lost_data=True)
        self.opened_at = self.opened.machine.applied_index
        if self.opened_at < self.opened.log.hard_state.commit:
            self.branches["starts that replay"] += 1
        if self._shape.watchers:
            self.watches = MemberWatches(
                self.disk.state,
                self.opened.machine,
                self.driver.catch_up,
                lambda step: self.later(20, step),
            )
        self.driver.begin(self.clock.read_ms(self._schedule.now))
        self._leaving = False
        self._turn_due = self._hold_due = False
        self._sync_running = False
        self._known_applied = -1
        self.durable = DurableLog(self.opened.log)
        if self.driver.is_sole_voter:
            self.driver.raft.campaign()
        self.later(self._dice.randrange(self._tick_us()), self._tick)
        self._upkeep = MemberUpkeep(
            self.disk,
            self.driver,
            self.opened.witness,
            self.options,
            self._shape,
            self._dice,
            self.branches,
            self.later,
            self._sync_us,
        )
        self._upkeep.begin()
        if not self.is_set_back:  # it may well show less, until somebody tells it
            self.shown.begin(self.driver)
        self.wake()
        self._world.started(self)

    def must_have_applied(self, index: int, what: str) -> None:
        """Raises Violation: what was committed anywhere before a question is in its answer."""
        if self.applied < index:
            raise Violation(
                f"member {self.id} {what} at {self.applied}, {index} was committed before that"
            )

    def end(self, why: str, *, power: bool) -> None:
        """The process dies here and now; `power`: with its machine."""
        self.life += 1
        self.driver = self.opened = self.watches = None
        self.paused_until = 0
        self.power_losses += power
        if power:
            self.disk.lose_power()
        else:
            self.disk.kill()
        self._world.died(self, why)

    def _audit(self) -> None:
        audit(self.disk, ", killed in this turn")

    def lose_disk(self) -> None:
        """While it is down: an empty one takes its place."""
        assert self.driver is None
        begin_anew(self.disk)
        self.forgotten.append(self.durable)
        self.durable = DurableLog()

    def come_back_older(self, copy: Disk) -> None:
        """Killed, and started on a copy of its disk; somebody who is up knows it for an older one
        (`takes_for_older_copy`), so that it begins anew."""
        held, self.is_set_back = self.durable, True
        self.end("set back", power=False)
        self.disk.set_back(copy)
        self.start()
        self.is_set_back = False
        if self.driver is not None:
            raise Violation(f"member {self.id} runs on an older copy of its disk")
        self.forgotten.append(held)
        self.branches["older copies found"] += 1

    def takes_for_older_copy(self, other: SimMember) -> bool:
        """As the handshake does with a member that has been started."""
        if self.driver is None or other.opened is None or other.disk.lost_data:
            return False
        return other.opened.log.last_index() < self.driver.reports.applied(other.id)

    def _restart_later(self) -> None:
        self._schedule.after(SECOND, self.start)

    def _begin_to_leave(self) -> None:
        """Removed. As `node.leaving`: its callers hear of it, and it goes on dialling its peers."""
        if not self._leaving:
            self._leaving = True
            self._refuse_all()
            self.later(REDIAL_US, self._dial)

    def _dial(self) -> None:
        if self._world.turns_away(self):
            self.turned_away()
        if self.up:
            self.later(REDIAL_US, self._dial)

    def turned_away(self) -> None:
        """By somebody who hears a leader, as removed; see `node.removal`."""
        assert self.driver is not None
        if self.driver.removal.told(self._schedule.now // MS):
            self.stays_down = True
            self.end("removed", power=False)
        else:
            self._begin_to_leave()

    def has_removed(self, id: int) -> bool:
        """As far as it has applied the log."""
        return self.driver is not None and id in self.driver.machine.removed_members

    def leave_joint(self) -> None:
        """What ends a joint configuration that is not left by itself; only a leader can."""
        assert self.driver is not None
        with suppress(ProposalDropped):
            self.driver.raft.propose_conf_change(LEAVE_JOINT)
        self.wake()

    def unreachable(self, peer: int) -> None:
        """A message for this peer was lost, and the sender has noticed."""
        assert self.driver is not None
        self.driver.unreachable(peer)
        self.wake()

    # ── events ──────────────────────────────────────────────────────────────

    def later(self, delay: int, do: Callable[..., None], *args: Any) -> None:
        """A step of this life of the member after so many microseconds, unless it ends before."""
        self._schedule.after(delay, self._when_awake, self.life, do, args)

    def _when_awake(self, life: int, do: Callable[..., None], args: tuple[Any, ...]) -> None:
        """A step of this member; it may be its last one."""
        if life != self.life:
            return
        if self.paused_until > self._schedule.now:
            self._schedule.at(self.paused_until, self._when_awake, life, do, args)
            return
        try:
            do(*args)
        except PowerCut:
            self.end("power cut", power=True)
        except (SyncFailed, DiskFull) as error:
            self._halt(error)

    def _halt(self, error: FatalError) -> None:
        """What the shell does with a FatalError of the disk: the member stops."""
        self._refuse_all()
        self.end(type(error).__name__, power=False)

    def _refuse_all(self) -> None:
        assert self.driver is not None
        for answer in self.driver.stop().answers:
            _tell(answer.pending, answer.result)

    def receive(self, life: int, sender: int, frames: Sequence[Frame], sender_life: int) -> None:
        if life != self.life or self.driver is None:
            return
        if self._world.is_unmet(self, sender, sender_life):
            return
        if self.paused_until > self._schedule.now:
            self._schedule.at(self.paused_until, self.receive, life, sender, frames, sender_life)
            return
        self.heard_at[sender] = self.ticks
        if self.driver.received(sender, frames):
            self.wake()
        else:
            self._say()

    def receive_snapshot(self, life: int, message: Message, files: SimBackend) -> bool:
        """Whether it has arrived; what it is about comes with it."""
        if life != self.life or self.driver is None or self.disk.full or self.disk.stalled:
            return False
        self.driver.snapshot_received(message, self.disk.stage(files))
        self.wake()
        return True

    def snapshot_sent(self, peer: int, arrived: bool) -> None:
        """How a transfer of ours ended."""
        assert self.driver is not None
        self.driver.snapshot_sent(peer, arrived=arrived)
        self.wake()

    def begin_round(self) -> None:
        """A read waits for one."""
        assert self.driver is not None
        self.driver.begin_round()
        self._say()

    def _say(self) -> None:
        """What needs no turn."""
        assert self.driver is not None
        said = self.driver.say()
        self._carry_out(said)
        self._remind_in(said.remind_after)
        if said.more:
            self.wake()

    def wake(self) -> None:
        if not self._turn_due:
            self._turn_due = True
            self.later(int(self._shape.turn_us * self._dice.random()), self._turn)

    def _tick_us(self) -> int:
        return int(self._shape.heartbeat_ms * MS / self.clock.rate)

    def _tick(self) -> None:
        assert self.driver is not None
        self.later(self._tick_us(), self._tick)
        self.ticks += 1
        if self.disk.lost_data:
            self._catch_up(self.driver)
        free = 0 if self.disk.full else PLENTY
        self.driver.tick(self.clock.read_ms(self._schedule.now), free)
        self.wake()

    def _catch_up(self, driver: Driver) -> None:
        """What `node.peering` does with the handshakes and reports of others."""
        admission = self._admission
        for other in self._world.in_reach(self):
            assert other.driver is not None
            if other.met.get(self.id) != self.life:
                other.met[self.id] = self.life
                other.driver.lost_data(self.id)
                other.wake()
            if admission is not None:
                admission.met(other.id, lost_data=other.disk.lost_data)
                admission.welcomed(other.id)
                admission.reported(other.id, other.driver.raft.raft.term)
        if admission is not None and admission.is_granted:
            self._admission = None
            driver.standing.become_following(admission.term)
        if driver.soundness.has_caught_up:
            driver.standing.become_full()
            self.disk.lost_data = False
            self.forgotten.clear()
            self.branches["lost disks made good"] += 1

    # ── a turn ──────────────────────────────────────────────────────────────

    def _turn(self) -> None:
        """As in the shell: one after the other while all that the next one waits for is that
        answers leave, and syncs begin.
        """
        driver = self.driver
        assert driver is not None and self._upkeep is not None
        self._turn_due = False
        while (effects := self._take_turn(driver)).told:
            pass
        applied = driver.machine.applied_index
        if applied != self._known_applied:
            self._known_applied = applied
            if applied > FOUNDED_AT and self.id not in driver.machine.members:
                self._begin_to_leave()
            self._upkeep.remove_old_revisions()
        if effects.more:
            self.wake()
        if effects.stalled:
            self.branches["turns stalled"] += 1
            self.later(STALL_RETRY_US, self.wake)
        self._mind_held(driver)

    def _take_turn(self, driver: Driver) -> Effects:
        if self.watches is not None:
            self.watches.before_turn()
        power = self.disk.power
        power.in_turn = True
        effects = driver.turn(self.clock.read_ms(self._schedule.now))
        power.turn_ended()
        if effects.installed:
            self.branches["snapshots installed"] += 1
            assert self._upkeep is not None
            self._upkeep.installed()
            self.durable.installed(driver.log)
        self._world.looked_at(self)
        if self.watches is not None:
            self.watches.after_turn()
        self._carry_out(effects)
        self._remind_in(effects.remind_after)
        if effects.sync is not None and not self._sync_running:
            self._sync_running = True
            if self.durable.capture(driver.log):
                self.branches["durable entries replaced"] += 1
            written = self.disk.log.written
            self.later(self._sync_us(), self._synced, effects.sync, written)
        return effects

    def _mind_held(self, driver: Driver) -> None:
        if driver.lags and not self._hold_due:
            self.branches["applies put off"] += 1
            self._hold_due = True
            self.later(int(HOLD_SECONDS * SECOND), self._let_go)

    def _let_go(self) -> None:
        assert self.driver is not None
        self._hold_due = False
        self.driver.let_go()
        self.wake()

    def _remind_in(self, seconds: float) -> None:
        if seconds:
            self.later(int(seconds * SECOND), self._remind)

    def _remind(self) -> None:
        assert self.driver is not None
        self._remind_in(self.driver.remind())
        self._say()

    def _send(self, effects: Effects) -> None:
        for to, frames in effects.frames.items():
            self._world.send(self, to, frames)

    def _carry_out(self, effects: Effects) -> None:
        self._send(effects)
        for message in effects.snapshots:
            self._world.send_snapshot(self, message)
        for answer in effects.answers:
            _tell(answer.pending, answer.result)
        for reader in effects.reads:
            reader.ready()

    def _sync_us(self) -> int:
        return int(self._shape.sync_us * self.disk.slow * (0.2 + 1.6 * self._dice.random()))

    def _synced(self, number: int, written: int) -> None:
        assert self.driver is not None
        self._sync_running = False
        self.disk.log.sync_to(written)
        self.durable.advance()
        self.disk.power.step()
        answers = self.driver.synced(number)
        if self.driver.is_sole_voter:  # it has committed, and may go on without a turn
            self._world.looked_at(self)
        for answer in answers:
            _tell(answer.pending, answer.result)
        if self.driver.is_due:
            self.wake()
        else:
            self._say()
            self._mind_held(self.driver)


def _tell(pending: Pending, result: Result | RequestError) -> None:
    if isinstance(result, RequestError):
        pending.refused(result)
    else:
        pending.done(result)
