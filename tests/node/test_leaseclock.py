"""The replicated lease clock: whose readings count for whom. What is told travels in a cluster of
three at the end, with a leader that dies while nobody writes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from chainfire.command import CommandKind
from chainfire.lease.deadlines import SLOT_MS
from chainfire.lease.spare import spare_ms
from chainfire.node.effects import Effects
from chainfire.node.frames import Clock
from chainfire.node.leaseclock import ESTIMATE_MS_MAX, LeaseClock
from chainfire.node.leases import CLOCK_STAMP_MS
from chainfire.proto.command_pb2 import LeaseGrant
from chainfire.raft.ready import Role, StepDown
from tests.node.cluster import TICK_MS, Cluster, Packet
from tests.node.world import Caller, World


@dataclass
class FakeTracker:
    progress: dict[int, None] = field(default_factory=lambda: dict.fromkeys((1, 2, 3)))


@dataclass
class FakeCore:
    term: int = 1
    role: Role = Role.FOLLOWER
    inherited_term: int = 0
    id: int = 1
    tracker: FakeTracker = field(default_factory=FakeTracker)


@dataclass
class FakeRaft:
    raft: FakeCore = field(default_factory=FakeCore)


@dataclass
class FakeMachine:
    leader_clock_ms: int = 0
    leases: tuple[int, ...] = (7,)


class Member:
    """A lease clock, and what it looks at."""

    def __init__(self, applied_ms: int = 0) -> None:
        self.effects = Effects()
        self.machine = FakeMachine(applied_ms)
        raft = FakeRaft()
        self.core = raft.raft
        self.clock = LeaseClock(raft, self.machine, self.effects)  # type: ignore[arg-type]
        self.heard, self.reading = self.clock.heard, self.clock.reading

    def leads(self, term: int, inherited_term: int = 0) -> None:
        self.core.role = Role.LEADER
        self.core.term, self.core.inherited_term = term, inherited_term

    def follows(self, term: int) -> None:
        self.core.role, self.core.term = Role.FOLLOWER, term


# ── a leader ────────────────────────────────────────────────────────────────


def test_a_leader_reads_what_was_applied_when_it_came_to_lead_and_its_time_since() -> None:
    member = Member(applied_ms=500)
    assert member.reading(7_000_000) == 500
    member.leads(2)
    assert member.reading(7_010_000) == 500
    assert member.reading(7_010_250) == 750


def test_what_older_leaders_stamped_lifts_the_reading() -> None:
    member = Member(applied_ms=500)
    member.leads(1)
    member.reading(0)
    member.machine.leader_clock_ms = 2500
    assert member.reading(100) == 2500
    assert member.reading(300) == 2700
    member.machine.leader_clock_ms = 2600  # our own stamp comes back
    assert member.reading(400) == 2800


@pytest.mark.parametrize(
    ("told", "inherited_term", "begins_ms"),
    [
        ([], 4, 500),
        ([(4, 1300)], 4, 1300),
        ([(4, 400)], 4, 500),  # what is applied is more
        ([(4, 1300), (4, 1200), (4, 1300)], 4, 1300),  # late, and twice
        ([(4, 1300)], 5, 500),  # the leader of term 5 may have granted leases on a clock behind
        ([(4, 1300), (5, 900)], 5, 900),
        ([(5, 900), (4, 1300)], 5, 900),  # word of a leader that was replaced comes late
        ([(4, 1300), (5, 900)], 4, 500),  # that of term 5 has left nothing here
        ([(4, 1300)], 3, 500),
    ],
)
def test_a_leader_begins_with_what_the_one_has_told_whose_entry_is_its_last(
    told: list[tuple[int, int]], inherited_term: int, begins_ms: int
) -> None:
    member = Member(applied_ms=500)
    member.reading(1000)
    for term, reading_ms in told:
        member.heard(term, reading_ms)
    member.leads(6, inherited_term)
    assert member.reading(9000) == begins_ms  # however long nobody led
    assert member.reading(9001) == begins_ms + 1


def test_what_is_told_to_a_leader_moves_nothing() -> None:
    member = Member(applied_ms=500)
    member.leads(3)
    assert member.reading(1000) == 500
    member.heard(2, 90_000)
    assert member.reading(1001) == 501


@pytest.mark.parametrize(
    ("led_between", "inherited_term", "reading_ms"),
    [(False, 2, 1500), (True, 2, 900), (False, 3, 500), (True, 3, 500)],
)
def test_who_leads_again_goes_on_with_its_own_clock_unless_another_one_has_written(
    *, led_between: bool, inherited_term: int, reading_ms: int
) -> None:
    member = Member(applied_ms=500)
    member.leads(2)
    member.reading(1000)
    if led_between:
        member.follows(3)
        member.reading(1400)
    member.leads(4, inherited_term)
    assert member.reading(2000) == reading_ms


# ── a follower ──────────────────────────────────────────────────────────────


def test_a_follower_estimates_as_far_as_stamps_may_be_apart() -> None:
    member = Member(applied_ms=500)
    member.reading(0)
    assert member.reading(300) == 800
    assert member.reading(90_000) == 500 + ESTIMATE_MS_MAX
    member.machine.leader_clock_ms = 1200
    assert member.reading(90_010) == 1200


def test_a_follower_estimates_from_what_it_was_told() -> None:
    member = Member(applied_ms=500)
    member.reading(0)
    member.heard(1, 900)
    assert member.reading(100) == 900
    assert member.reading(130) == 930
    member.machine.leader_clock_ms = 800  # a stamp from before
    assert member.reading(150) == 950
    member.heard(2, 850)  # a new leader, which knows no more
    assert member.reading(160) == 850


def test_a_leader_that_was_replaced_estimates_as_others_do() -> None:
    member = Member(applied_ms=500)
    member.leads(2)
    member.reading(0)
    member.follows(3)
    assert member.reading(700) == 1200
    assert member.reading(9000) == 1200 + ESTIMATE_MS_MAX
    member.heard(3, 600)
    assert member.reading(9001) == 600


# ── what is told ────────────────────────────────────────────────────────────


def test_a_leader_tells_all_others_with_each_heartbeat() -> None:
    member = Member(applied_ms=500)
    member.leads(2)
    member.reading(1000)
    member.clock.tick(1100)
    assert member.effects.frames == {2: [Clock(2, 600)], 3: [Clock(2, 600)]}


def test_nothing_is_told_by_others_nor_without_leases() -> None:
    member = Member(applied_ms=500)
    member.clock.tick(1000)
    member.clock.tell(2, 1000)
    member.leads(2)
    member.machine.leases = ()
    member.clock.tick(1100)
    assert member.effects.frames == {}


# ── of three ────────────────────────────────────────────────────────────────

TTL_MS = 5000


class LeaseCluster(Cluster):
    """Member 1 leads and has granted a lease; nobody writes."""

    granted_at_ms = 0

    def begun(self) -> LeaseCluster:
        self.elect(1)
        self.grant(7, TTL_MS)
        return self

    def grant(self, lease: int, ttl_ms: int) -> None:
        body = LeaseGrant(id=lease, ttl_ms=ttl_ms).SerializeToString()
        self.leading.driver.propose(CommandKind.LEASE_GRANT, body, Caller())
        self.granted_at_ms = self.now_ms
        self.settle()

    @property
    def leading(self) -> World:
        leader = self.leader
        assert leader is not None
        return leader

    def reading_ms(self, world: World) -> int:
        return world.driver.lease_clock_ms(self.now_ms)

    @property
    def begun_ms(self) -> int:
        """What the lease clock read when the present leader began."""
        self.reading_ms(self.leading)
        return self.leading.driver.lease_clock.base_ms

    def kill_leader(self) -> World:
        """All hear of it at once, and another one leads."""
        old = self.crash(self.leading.me)
        for world in self.members.values():
            world.driver.gone(old.me)
        next(iter(self.members.values())).driver.raft.campaign()
        self.settle()
        assert self.leading is not old
        return old

    def turn(self, world: World) -> None:
        self._carry_out(world.me, world.turn(self.now_ms))

    def lived_ms(self, lease: int) -> int:
        """From the last grant until this lease has ended everywhere."""
        members = self.members.values()
        self.run_until(lambda: not any(w.machine.leases.exists(0, lease) for w in members))
        return self.now_ms - self.granted_at_ms


def without_clock(packet: Packet) -> list[Packet]:
    return [] if isinstance(packet.frame, Clock) else [packet]


def test_members_that_are_told_read_what_their_leader_reads() -> None:
    cluster = LeaseCluster().begun()
    cluster.run(7)  # less than until the next stamp
    assert len({cluster.reading_ms(world) for world in cluster.members.values()}) == 1


def test_an_idle_leader_that_dies_takes_no_more_than_a_heartbeat_of_the_clock_along() -> None:
    cluster = LeaseCluster().begun()
    cluster.run(8)
    before_ms = cluster.reading_ms(cluster.leading)
    assert before_ms >= cluster.leading.machine.leader_clock_ms + CLOCK_STAMP_MS - 2 * TICK_MS
    cluster.kill_leader()
    assert before_ms - TICK_MS <= cluster.begun_ms <= before_ms


def test_a_lease_ends_when_it_should_after_many_idle_leaders_have_died() -> None:
    cluster = LeaseCluster(5).begun()
    deaths = 4
    for _ in range(deaths):
        cluster.run(8)
        old = cluster.kill_leader()
        cluster.restart(old.me, old)
    looked_at_ms = SLOT_MS + TICK_MS
    late_ms = cluster.lived_ms(7) - TTL_MS
    assert 0 <= late_ms <= spare_ms(TTL_MS) + looked_at_ms + deaths * TICK_MS


def test_a_planned_move_takes_all_of_the_clock_along() -> None:
    cluster = LeaseCluster().begun()
    cluster.run(8)
    old = cluster.leading
    cluster.now_ms += TICK_MS - 1  # no heartbeat tells of these
    old.driver.move_leader(2, Caller())
    cluster.turn(old)
    reading_ms = cluster.reading_ms(old)
    cluster.settle()
    assert cluster.leading is cluster.members[2]
    assert cluster.begun_ms == reading_ms


def test_a_reading_that_the_next_leader_has_not_heard_ends_no_lease_early() -> None:
    """The example of `node/leaseclock.py`: members 1, 2 and 3 are A, B and C."""
    cluster = LeaseCluster().begun()
    cluster.network = lambda packet: without_clock(packet) if packet.to == 2 else [packet]
    cluster.run(8)
    told_ms = cluster.reading_ms(cluster.members[3])
    first = cluster.kill_leader()
    assert cluster.leading is cluster.members[2]
    cluster.network = without_clock
    cluster.restart(1, first)
    cluster.grant(8, 1000)
    assert cluster.reading_ms(cluster.leading) < told_ms - 6 * TICK_MS
    cluster.kill_leader()
    assert cluster.leading is cluster.members[3]
    assert cluster.lived_ms(8) >= 1000


def test_a_leader_that_steps_down_and_leads_again_goes_on_with_its_clock() -> None:
    cluster = LeaseCluster().begun()
    cluster.run(8)
    old = cluster.leading
    before_ms = cluster.reading_ms(old)
    old.driver.raft.step_down(StepDown.DISK_STALLS)
    for world in cluster.members.values():
        world.driver.gone(old.me)
    old.driver.raft.campaign()
    cluster.settle()
    assert cluster.leading is old
    assert cluster.begun_ms == before_ms
