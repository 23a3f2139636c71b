"""What the driver does about leases: stamps, renewals, expiry. The clock is ours to move."""

from __future__ import annotations

import pytest

from chainfire.command import CommandKind, decode
from chainfire.errors import Stopped, Timeout
from chainfire.lease import UNWRITTEN
from chainfire.lease.spare import spare_ms
from chainfire.node.leases import (
    CLOCK_STAMP_MS,
    EXPIRED_PER_COMMAND_MAX,
    EXPIRED_PER_TICK_MAX,
    LATE_TICK_MS,
    REFUSED_PAUSE_MS,
)
from chainfire.node.reads import ReadPending
from chainfire.node.renewals import RENEWED_PER_COMMAND_MAX, Renewals
from chainfire.proto.command_pb2 import Command, LeaseGrant
from chainfire.proto.kv_pb2 import PutRequest
from chainfire.proto.maintenance_pb2 import AlarmRequest, AlarmType
from chainfire.types import Pending, RenewResult
from tests.node.world import Caller, World

TICK_MS = 100


class LeaseWorld(World):
    """A leader whose time passes tick by tick."""

    now_ms = 10_000

    def begun(self) -> LeaseWorld:
        self.driver.begin(self.now_ms)
        self.lead()
        self.tick(self.now_ms)
        return self

    def grant(self, lease: int = 5, ttl_ms: int = 1000) -> None:
        body = LeaseGrant(id=lease, ttl_ms=ttl_ms).SerializeToString()
        self.driver.propose(CommandKind.LEASE_GRANT, body, Caller())

    def granted(self, lease: int = 5, ttl_ms: int = 1000) -> None:
        self.grant(lease, ttl_ms)
        self.settle()

    def renew(self, *leases: int) -> Caller:
        caller = Caller()
        self.driver.renew(leases, caller, self.now_ms)
        return caller

    def pass_ms(self, ms: int) -> None:
        for _ in range(ms // TICK_MS):
            self.now_ms += TICK_MS
            self.tick(self.now_ms)

    def stall_ms(self, ms: int) -> None:
        """Time passes, and this member does nothing."""
        self.now_ms += ms

    @property
    def leases(self) -> int:
        return len(self.machine.leases)

    def commands(self, after: int) -> list[Command]:
        last = self.log_store.last_index()
        entries = self.log_store.entries(after + 1, last + 1, 1 << 30)
        return [decode(entry.data) for entry in entries if entry.data]


@pytest.fixture
def world() -> LeaseWorld:
    return LeaseWorld().begun()


# ── the clock ───────────────────────────────────────────────────────────────


def test_every_command_carries_the_leaders_reading(world: LeaseWorld) -> None:
    world.put(b"a")
    world.settle()
    first = world.machine.leader_clock_ms
    world.pass_ms(3000)
    world.put(b"b")
    world.settle()
    assert world.machine.leader_clock_ms == first + 3000


def test_a_stamp_is_of_the_turn_not_of_the_tick_before(world: LeaseWorld) -> None:
    world.put(b"a")
    world.settle()
    first = world.machine.leader_clock_ms
    world.put(b"b")
    world.sync(world.driver.turn(world.now_ms + 70))
    world.settle()
    assert world.machine.leader_clock_ms == first + 70


def test_without_leases_an_idle_leader_writes_nothing(world: LeaseWorld) -> None:
    before = world.log_store.last_index()
    world.pass_ms(20_000)
    world.granted()
    world.pass_ms(3000)
    assert world.leases == 0
    after = world.log_store.last_index()
    world.pass_ms(20_000)
    assert world.log_store.last_index() == after > before


def test_while_there_are_leases_the_clock_is_stamped_every_second(world: LeaseWorld) -> None:
    world.granted(ttl_ms=60_000)
    for _ in range(5):
        before = world.machine.leader_clock_ms
        world.pass_ms(1000)
        assert world.machine.leader_clock_ms >= before + CLOCK_STAMP_MS
    before_index = world.log_store.last_index()
    world.pass_ms(10_000)
    assert world.log_store.last_index() - before_index <= 11


def test_a_put_that_is_answered_and_not_applied_yet_holds_no_renewal_up(world: LeaseWorld) -> None:
    world.granted()
    put = world.put(b"k")
    world.sync(world.turn())
    assert put.result is not None and world.machine.revision == 1
    renewal = world.renew(5)
    world.settle()
    assert renewal.error is None and isinstance(renewal.result, RenewResult)


# ── expiry ──────────────────────────────────────────────────────────────────


def test_a_lease_ends_after_its_ttl_and_within_a_second(world: LeaseWorld) -> None:
    world.granted(ttl_ms=5000)
    world.pass_ms(5000)
    assert world.leases == 1
    world.pass_ms(1000)
    assert world.leases == 0


def test_a_renewed_lease_lives_on(world: LeaseWorld) -> None:
    world.granted(ttl_ms=2000)
    for _ in range(10):
        world.pass_ms(1500)
        world.renew(5)
        world.settle()
    assert world.leases == 1
    world.pass_ms(3000)
    assert world.leases == 0


def test_a_crowd_ends_in_batches_with_other_commands_in_between(world: LeaseWorld) -> None:
    count = 2 * EXPIRED_PER_TICK_MAX + 150
    for first in range(0, count, 50):
        for lease in range(first, min(first + 50, count)):
            world.grant(lease + 1, 3000)
        world.settle()
    world.pass_ms((3000 + spare_ms(3000) - 1) // TICK_MS * TICK_MS)
    assert world.leases == count
    before = world.log_store.last_index()
    world.now_ms += TICK_MS
    world.driver.tick(world.now_ms, 1 << 40)
    put = None
    while (effects := world.turn()).sync is not None or effects.more:
        if effects.sync is not None:
            world.sync(effects)
        if put is None:
            put = world.put(b"k")
    assert put is not None and put.result is not None
    assert world.leases == count - EXPIRED_PER_TICK_MAX
    sizes = [len(c.lease_expire.ids) for c in world.commands(before) if c.HasField("lease_expire")]
    assert sizes == [EXPIRED_PER_COMMAND_MAX] * (EXPIRED_PER_TICK_MAX // EXPIRED_PER_COMMAND_MAX)
    kinds = [command.WhichOneof("body") for command in world.commands(before)]
    assert 0 < kinds.index("put") < len(kinds) - 1
    world.pass_ms(200)
    assert world.leases == 0


def test_a_crowd_takes_half_of_the_time_at_most(world: LeaseWorld) -> None:
    for first in range(0, 1000, 50):
        for lease in range(first, first + 50):
            world.grant(lease + 1, 1000)
        world.settle()
    world.pass_ms((1000 + spare_ms(1000) - 1) // TICK_MS * TICK_MS)
    world.now_ms += TICK_MS
    started_ms = world.now_ms
    world.driver.tick(world.now_ms, 1 << 40)
    while (effects := world.turn(world.now_ms)).sync is not None or effects.more:
        if effects.sync is not None:
            world.now_ms += 7  # so long a batch takes on this machine
            world.sync(effects)
    assert TICK_MS // 2 <= world.now_ms - started_ms < TICK_MS // 2 + 7
    assert world.leases == 1000 - EXPIRED_PER_COMMAND_MAX * -(-TICK_MS // 2 // 7)
    world.now_ms = started_ms
    world.pass_ms(500)
    assert world.leases == 0


def test_a_refused_expiry_is_tried_again_a_second_later(world: LeaseWorld) -> None:
    world.granted()
    raise_ = AlarmRequest(action=AlarmRequest.ACTIVATE, alarm=AlarmType.CORRUPT, memberID=1)
    world.driver.propose(CommandKind.ALARM, raise_.SerializeToString(), Caller())
    world.settle()
    world.pass_ms(1500)
    before = world.log_store.last_index()
    world.pass_ms(5 * REFUSED_PAUSE_MS)
    assert world.log_store.last_index() - before <= 6
    clear = AlarmRequest(action=AlarmRequest.DEACTIVATE, alarm=AlarmType.CORRUPT)
    world.driver.propose(CommandKind.ALARM, clear.SerializeToString(), Caller())
    world.pass_ms(2 * REFUSED_PAUSE_MS)
    assert world.leases == 0


def test_after_a_stall_renewals_that_lay_unread_come_first(world: LeaseWorld) -> None:
    world.granted(ttl_ms=2000)
    world.stall_ms(5000)
    world.tick(world.now_ms)  # the first thing that this member does again
    assert world.leases == 1
    renewal = world.renew(5)
    world.pass_ms(TICK_MS)
    assert renewal.result == RenewResult(world.machine.revision, [2000])
    world.pass_ms(1900)
    assert world.leases == 1


def test_leases_end_where_every_tick_is_late(world: LeaseWorld) -> None:
    world.granted(5, 2000)
    world.granted(6, 2000)
    before, granted_ms = world.machine.leader_clock_ms, world.now_ms
    while world.now_ms < granted_ms + 4000:
        world.stall_ms(LATE_TICK_MS + 100)
        world.tick(world.now_ms)
        world.renew(6)
        world.settle()
        assert world.leases == 2 or world.now_ms >= granted_ms + 2000
    assert world.driver.kept([5, 6], world.now_ms).ttls_ms[0] == 0
    assert world.leases == 1
    assert world.machine.leader_clock_ms > before + 3000


def test_what_is_left_survives_a_restart_and_the_time_down_does_not_count() -> None:
    world = LeaseWorld().begun()
    world.granted(ttl_ms=10_000)
    world.pass_ms(7000)
    state = world.state.crash(world.state.unsynced_batches)
    again = LeaseWorld(world.log.crash(0), state)
    again.now_ms = 5  # another boot's monotonic clock
    again.begun()
    again.pass_ms(2900)
    assert again.leases == 1
    again.pass_ms(1200)  # up to a second of stamps was lost
    again.pass_ms(1000)
    assert again.leases == 0


# ── renewals ────────────────────────────────────────────────────────────────


def test_the_renewals_of_a_turn_are_one_entry(world: LeaseWorld) -> None:
    world.granted(5)
    world.granted(6, 2000)
    world.pass_ms(700)
    before = world.log_store.last_index()
    first, second = world.renew(5, 9), world.renew(6)
    world.settle()
    assert world.log_store.last_index() == before + 1
    revision = world.machine.revision
    assert first.result == RenewResult(revision, [1000, 0])
    assert second.result == RenewResult(revision, [2000])


def test_very_many_renewals_are_several_entries(world: LeaseWorld) -> None:
    for lease in range(1, 1001):
        world.grant(lease, 60_000)
        if lease % 50 == 0:
            world.settle()
    world.pass_ms(700)
    before = world.log_store.last_index()
    callers = [world.renew(*range(1, 1001)) for _ in range(RENEWED_PER_COMMAND_MAX // 1000 + 1)]
    world.settle()
    assert world.log_store.last_index() == before + 2
    assert all(caller.result is not None for caller in callers)


def test_a_renewal_soon_after_another_needs_no_entry(world: LeaseWorld) -> None:
    world.granted(ttl_ms=8000)
    before = world.log_store.last_index()
    world.now_ms += 200
    first = world.renew(5, 9)
    world.settle()
    world.now_ms += 200
    assert world.driver.kept([5, 9], world.now_ms).ttls_ms == [8000, 0]
    assert first.result == RenewResult(world.machine.revision, [8000, 0])
    assert world.log_store.last_index() == before
    assert world.driver.renewals_kept == 3  # the last one of 5 is written ahead
    world.now_ms += 101
    assert world.driver.kept([5], world.now_ms).ttls_ms == [UNWRITTEN]


def test_a_renewal_without_an_entry_is_good_for_all_of_its_ttl(world: LeaseWorld) -> None:
    world.granted(ttl_ms=2000)
    world.pass_ms(200)
    assert world.driver.kept([5], world.now_ms).ttls_ms == [2000]
    world.pass_ms(2000)
    assert world.leases == 1
    world.pass_ms(1000)
    assert world.leases == 0


def test_a_lease_that_is_renewed_often_is_written_ahead_with_nobody_waiting(
    world: LeaseWorld,
) -> None:
    world.granted(ttl_ms=2000)
    before = world.log_store.last_index()
    for _ in range(100):
        world.pass_ms(TICK_MS)
        assert world.driver.kept([5], world.now_ms).ttls_ms == [2000]
    renewals = [c for c in world.commands(before) if c.HasField("lease_renew")]
    assert 100 * TICK_MS // spare_ms(2000) <= len(renewals) <= 100 // 3


def test_nothing_is_kept_while_what_is_committed_is_not_applied(world: LeaseWorld) -> None:
    world.granted()
    world.put(b"k")
    world.sync(world.turn())
    assert world.driver.kept([5], world.now_ms).ttls_ms == [UNWRITTEN]
    world.settle()
    assert world.driver.kept([5], world.now_ms).ttls_ms == [1000]


class Unproved:
    """Renewals of a leader that must ask others whether it leads still."""

    def __init__(self, world: LeaseWorld) -> None:
        self.waiting: list[ReadPending] = []
        self.proposed: list[Pending] = []
        self._world = world
        self.renewals = Renewals(
            world.machine,
            world.driver.lease_clock,
            lambda kind, body, pending, keyspace: self.proposed.append(pending),
            self._may_read,
        )

    def _may_read(self, reader: ReadPending) -> bool:
        self.waiting.append(reader)
        return False

    def renew(self, *ids: int) -> Caller:
        caller = Caller()
        self.renewals.renew(0, ids, caller, self._world.now_ms, leading=True)
        return caller


def test_a_leader_of_others_answers_once_it_is_proved_to_lead(world: LeaseWorld) -> None:
    world.granted(5, 8000)
    world.pass_ms(700)
    world.granted(6, 8000)
    unproved = Unproved(world)
    kept, both = unproved.renew(6), unproved.renew(5, 6)
    unproved.renewals.turn()
    [proof], [written] = unproved.waiting, unproved.proposed
    assert kept.result is both.result is None
    proof.ready()
    assert kept.result == RenewResult(world.machine.revision, [8000])
    assert both.result is None
    written.done(RenewResult(9, [8000]))
    assert both.result == RenewResult(9, [8000, 8000])


def test_a_leader_that_is_not_proved_to_lead_answers_nothing(world: LeaseWorld) -> None:
    world.granted(5, 8000)
    unproved = Unproved(world)
    caller = unproved.renew(5)
    unproved.renewals.turn()
    [proof] = unproved.waiting
    proof.refused(Timeout())
    assert caller.result is None and isinstance(caller.error, Timeout)


def test_what_has_become_too_old_meanwhile_goes_into_the_log(world: LeaseWorld) -> None:
    world.granted(5, 8000)
    unproved = Unproved(world)
    caller = unproved.renew(5)
    unproved.renewals.turn()
    world.pass_ms(700)
    world.driver.lease_clock_ms(world.now_ms)
    unproved.waiting[0].ready()
    unproved.renewals.turn()
    assert caller.result is None
    unproved.proposed[0].done(RenewResult(9, [8000]))
    assert caller.result == RenewResult(9, [8000])


def test_renewals_that_wait_at_a_stop_hear_of_it(world: LeaseWorld) -> None:
    caller = world.renew(5)
    world.driver.stop()
    assert isinstance(caller.error, Stopped)
    assert isinstance(world.renew(5).error, Stopped)


def test_keys_of_an_expired_lease_are_gone(world: LeaseWorld) -> None:
    world.granted()
    put = PutRequest(key=b"k", lease=5).SerializeToString()
    world.driver.propose(CommandKind.PUT, put, Caller())
    world.settle()
    assert world.machine.store.get_row(0, b"k") is not None
    world.pass_ms(2000)
    assert world.machine.store.get_row(0, b"k") is None


def test_expiries_between_ticks_do_not_push_the_clock() -> None:
    world = LeaseWorld().begun()
    world.granted()
    started_ms, clock_ms = world.now_ms, world.driver.lease_clock_ms(world.now_ms)
    for step in range(1, 300):
        world.now_ms += 10
        if step % 10 == 0:
            world.driver.tick(world.now_ms, 1 << 40)
            world.now_ms += 20  # so late comes its turn
        for lease in range(25):  # more than one command of them expires in each tick
            world.grant(100 * step + lease, ttl_ms=1000)
        while (effects := world.turn(world.now_ms)).sync is not None:
            world.now_ms += 1
            world.sync(effects)
    passed_ms = world.driver.lease_clock_ms(world.now_ms) - clock_ms
    assert passed_ms <= world.now_ms - started_ms
