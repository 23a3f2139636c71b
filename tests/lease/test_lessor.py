"""The lessor against a slow, obvious twin; then what the twin does not say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainfire.errors import Corrupt, Damaged, InvalidArgument, LeaseExists, UnknownFormat
from chainfire.lease import TTL_MS_MAX, UNWRITTEN, Lease, Lessor, lessor, renewed, rows
from chainfire.lease.deadlines import LOOK_AHEAD_MS, SLOT_MS, Deadlines
from chainfire.lease.spare import ANSWER_MS, spare_ms
from chainfire.storage.memory import MemoryBackend
from chainfire.storage.staged import Staged

IDS = (1, 2, -1, 2**63 - 1, -(2**63))
KEYSPACES = (0, 7)


OVER = 1500  # a TTL of a second that began at 0, its spare, and a slot


class World:
    """A lessor over the memory backend, with a clock to move."""

    def __init__(self) -> None:
        self.backend = MemoryBackend(("leases",))
        self.staged = Staged(self.backend)
        self.lessor = Lessor(self.backend, (), 0)

    def grant(self, lease: int, ttl_ms: int, keyspace: int = 0) -> None:
        self.lessor.grant(self.staged, keyspace, lease, ttl_ms)

    def attach(self, lease: int, *keys: bytes) -> None:
        self.lessor.move(self.staged, 0, [(key, 0, lease) for key in keys])

    def keys(self, lease: int) -> list[bytes]:
        return list(self.lessor.iterate_keys(self.staged, 0, lease))

    def reopened(self) -> Lessor:
        batch = self.backend.batch()
        self.staged.drain_into(batch)
        self.backend.write(batch)
        self.staged.clear()
        counts = [(space, len(self.ids(space))) for space in KEYSPACES]
        return Lessor(self.backend, counts, self.lessor.clock_ms)

    def ids(self, keyspace: int = 0) -> list[int]:
        steps = self.lessor.ids_steps(keyspace)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                found: list[int] = end.value
                return found


class Twin:
    """Leases in a dict, every question answered by looking at all of them."""

    def __init__(self) -> None:
        self.clock_ms = 0
        self.leases: dict[tuple[int, int], Lease] = {}

    def grant(self, keyspace: int, lease: int, ttl_ms: int) -> None:
        deadline_ms = self.clock_ms + ttl_ms + spare_ms(ttl_ms)
        self.leases[keyspace, lease] = Lease(ttl_ms, deadline_ms)

    def renew(self, keyspace: int, lease: int) -> int:
        known = self.leases.get((keyspace, lease))
        if known is None:
            return 0
        self.grant(keyspace, lease, known.ttl_ms)
        return known.ttl_ms

    def overdue(self, now_ms: int) -> set[tuple[int, int]]:
        return {name for name, lease in self.leases.items() if lease.deadline_ms <= now_ms}


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["grant", "renew", "renew all", "remove", "pass", "look", "reopen"]),
        st.sampled_from(KEYSPACES),
        st.sampled_from(IDS),
        st.sampled_from([1, SLOT_MS, 999, 5000, LOOK_AHEAD_MS, 3 * LOOK_AHEAD_MS, TTL_MS_MAX]),
    ),
    max_size=60,
)


@contextmanager
def with_value(module: ModuleType, name: str, value: int) -> Iterator[None]:
    usual = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, usual)


@settings(max_examples=300)
@given(STEPS, st.integers(1, 6), st.sampled_from([SLOT_MS, LOOK_AHEAD_MS]))
def test_does_what_a_dict_of_leases_would_do(
    steps: list[tuple[str, int, int, int]], together_min: int, kept_ms: int
) -> None:
    with (
        with_value(renewed, "TOGETHER_MIN", together_min),
        with_value(renewed, "IDS_PER_ROW_MAX", 2),
        with_value(renewed, "_KEPT_MS", kept_ms),
    ):
        _compare_with_twin(steps)


def _compare_with_twin(steps: list[tuple[str, int, int, int]]) -> None:
    world, twin = World(), Twin()
    for what, keyspace, lease, ms in steps:
        tested = world.lessor
        exists = (keyspace, lease) in twin.leases
        assert tested.exists(keyspace, lease) is exists
        if what == "grant" and exists:
            with pytest.raises(LeaseExists):
                world.grant(lease, ms, keyspace)
        elif what == "grant":
            world.grant(lease, ms, keyspace)
            twin.grant(keyspace, lease, ms)
        elif what == "renew":
            assert tested.renew(world.staged, keyspace, [lease]) == [twin.renew(keyspace, lease)]
        elif what == "renew all":
            told = [twin.renew(keyspace, id_) for id_ in IDS]
            assert tested.renew(world.staged, keyspace, IDS) == told
        elif what == "reopen":
            world.lessor = world.reopened()
        elif what == "remove" and exists:
            tested.remove(world.staged, keyspace, lease)
            del twin.leases[keyspace, lease]
        elif what == "pass":
            twin.clock_ms = tested.clock_ms = twin.clock_ms + ms % (10 * LOOK_AHEAD_MS)
        elif what == "look":
            tested.look(twin.clock_ms)
            found = {
                (space, id_)
                for space, id_ in map(lessor._keyspace_and_id, tested._overdue)
                if twin.leases[space, id_].deadline_ms <= twin.clock_ms
            }
            # Within one slot of the deadline; exactly, when one has passed since.
            assert found <= twin.overdue(twin.clock_ms)
            assert found >= twin.overdue(twin.clock_ms - SLOT_MS)
    for space in KEYSPACES:
        in_order = sorted(
            (lease.deadline_ms, id_ % 2**64, id_)
            for (owner, id_), lease in twin.leases.items()
            if owner == space
        )
        assert world.ids(space) == [id_ for _, _, id_ in in_order]
    again = world.reopened()
    for (space, id_), expected in twin.leases.items():
        assert again.get(space, id_) == world.lessor.get(space, id_) == expected
        overdue = expected.deadline_ms <= twin.clock_ms
        assert again.is_overdue(space, id_) is overdue
    assert len(again) == len(twin.leases)


@pytest.mark.interpreted
def test_a_crowd_that_ends_together_is_looked_at_a_part_at_a_time() -> None:
    world = World()
    for lease in range(1, 11):
        world.grant(lease, 1000)
    with with_value(lessor, "LOOKED_AT_MAX", 4):
        world.lessor.look(OVER)
        assert world.lessor.overdue_count == 4
        world.lessor.look(OVER)
        world.lessor.look(OVER)
    assert world.lessor.overdue_count == 10
    keyspace, first = world.lessor.overdue(OVER, 3)
    assert (keyspace, len(first)) == (0, 3)


def test_overdue_names_leases_of_one_keyspace() -> None:
    world = World()
    world.grant(1, 10)
    world.grant(2, 10, keyspace=7)
    world.grant(3, 10)
    world.lessor.look(OVER)
    assert world.lessor.overdue(OVER, 10) == (0, [1, 3])


def test_a_renewed_lease_is_not_overdue_any_more() -> None:
    world = World()
    world.grant(1, 1000)
    world.lessor.look(2000)
    assert world.lessor.overdue(2000, 10) == (0, [1])
    world.lessor.clock_ms = 2000
    assert world.lessor.renew(world.staged, 0, [1]) == [1000]
    assert world.lessor.overdue(2000, 10) == (0, [])
    world.lessor.look(2000 + OVER)
    assert world.lessor.overdue(2000 + OVER, 10) == (0, [1])


def test_a_clock_that_went_back_makes_nothing_overdue() -> None:
    """Another member leads now, and its reading is behind what ours was."""
    world = World()
    world.grant(1, 1000)
    deadline_ms = 1000 + spare_ms(1000)
    world.lessor.look(OVER)
    assert world.lessor.overdue(deadline_ms - 1, 10) == (0, [])
    assert world.lessor.overdue(deadline_ms, 10) == (0, [1])


def test_renewals_at_one_reading_of_the_clock_are_written_once() -> None:
    world = World()
    world.grant(1, 1000)
    world.lessor.clock_ms = 1
    world.staged.take_rows()
    world.lessor.renew(world.staged, 0, [1, 1])
    assert len(world.staged.take_rows()) == 1


def rows_by_kind(world: World) -> tuple[list[bytes], list[bytes]]:
    """What is staged: rows of leases, and of renewals."""
    kinds: tuple[list[bytes], list[bytes]] = [], []
    for key, value in world.staged.iterate(rows.FAMILY):
        kinds[key[4] // 2].append(value)
    return kinds


def test_leases_that_are_renewed_together_share_rows_and_count_as_if_they_did_not() -> None:
    world, count = World(), 3 * renewed.IDS_PER_ROW_MAX
    ids = range(1, count + 1)
    for lease in ids:
        world.grant(lease, 8000)
    granted = rows.encode_lease(8000, 8000 + spare_ms(8000))
    for clock_ms in range(1000, 20_000, 1000):
        world.lessor.clock_ms = clock_ms
        world.staged.take_rows()
        world.lessor.renew(world.staged, 0, ids)
        row = rows.encode_lease(8000, clock_ms + 8000 + spare_ms(8000))
        told = [(rows.FAMILY, rows.lease_key(0, lease), row) for lease in ids]
        assert world.staged.take_rows() == told
    own, shared = rows_by_kind(world)
    assert (set(own), len(shared)) == ({granted}, 19 * 3)


def test_leases_that_are_not_renewed_for_long_get_rows_of_their_own() -> None:
    world = World()
    for lease in range(1, 11):
        world.grant(lease, 600_000)
    world.lessor.clock_ms = 1000
    world.lessor.renew(world.staged, 0, range(1, 11))
    world.lessor.clock_ms = 40_000
    world.lessor.renew(world.staged, 0, range(1, 6))
    own, shared = rows_by_kind(world)
    begun = [rows.lease_times(row)[1] - 600_000 - spare_ms(600_000) for row in own]
    assert (begun, len(shared)) == ([0] * 5 + [1000] * 5, 1)


@pytest.mark.interpreted
def test_rows_of_renewals_do_not_grow_without_bound_however_fast_they_come() -> None:
    with with_value(renewed, "_IDS_KEPT_MAX", 100):
        world = World()
        for lease in range(1, 41):
            world.grant(lease, 1000 * (1 + lease % 5))
        for clock_ms in range(1, 100):
            world.lessor.clock_ms = clock_ms
            world.lessor.renew(world.staged, 0, range(1, 41))
        assert len(rows_by_kind(world)[1]) <= 100 // 8 + 2


@given(st.integers(1, 100_000), st.integers(0, 1000))
def test_a_renewal_is_kept_while_its_deadline_holds_for_all_of_the_ttl(
    ttl_ms: int, after_ms: int
) -> None:
    world, ahead = World(), dict[int, None]()
    world.grant(1, ttl_ms)
    found = world.lessor.kept(0, [1, 2], after_ms, ahead)
    lease = world.lessor.get(0, 1)
    assert lease is not None
    left_ms = lease.deadline_ms - after_ms
    assert found == [ttl_ms if left_ms >= ttl_ms + ANSWER_MS else UNWRITTEN, 0]
    assert bool(ahead) == (found[0] > 0 and left_ms - ttl_ms < spare_ms(ttl_ms) * 2 / 3)


@given(st.integers(1, TTL_MS_MAX))
def test_the_spare_is_short_of_a_second_with_all_else_that_makes_an_end_late(ttl_ms: int) -> None:
    slot_and_tick_ms = SLOT_MS + 100
    assert ANSWER_MS < spare_ms(ttl_ms) <= 750 - slot_and_tick_ms


def test_what_is_left_is_what_the_holder_counts() -> None:
    world = World()
    world.grant(1, 8000)
    lease = world.lessor.get(0, 1)
    assert lease is not None
    assert [lease.left_ms(at) for at in (0, 7999, 8000, 9000)] == [8000, 1, 0, 0]


def test_keys_are_those_attached_and_not_moved_away_in_order() -> None:
    world = World()
    world.attach(1, b"c", b"a", b"b", b"\x00", b"\xff\xff")
    world.attach(2, b"z")
    world.attach(-1, b"y")
    world.lessor.move(world.staged, 0, [(b"b", 1, 2), (b"c", 1, 0), (b"c", 0, 1)])
    assert world.keys(1) == [b"\x00", b"a", b"c", b"\xff\xff"]
    assert world.keys(2) == [b"b", b"z"]
    assert world.keys(-1) == [b"y"]
    assert world.keys(3) == []


@pytest.mark.parametrize(("lease", "ttl_ms"), [(0, 1), (1, 0), (1, -1), (1, TTL_MS_MAX + 1)])
def test_grants_that_no_door_lets_through_are_refused(lease: int, ttl_ms: int) -> None:
    world = World()
    with pytest.raises(InvalidArgument):
        world.grant(lease, ttl_ms)
    assert world.staged.take_rows() == []


def test_leases_that_are_missing_at_open_are_damage() -> None:
    world = World()
    world.grant(1, 1000)
    world.reopened()
    with pytest.raises(Damaged):
        Lessor(world.backend, [(0, 2)], 0)


def test_rows_of_another_version_or_of_none_are_refused() -> None:
    good = rows.lease_key(0, 1), rows.encode_lease(1, 2)
    with pytest.raises(UnknownFormat):
        rows.ids_and_deadlines([good[0], rows.lease_key(0, 2)], [good[1], b"\x02" + bytes(16)])
    for key, row in (
        (b"", b""),
        (good[0], b"\x01"),
        (good[0], 2 * good[1]),
        (good[0] * 2, good[1]),
    ):
        with pytest.raises(Corrupt):
            rows.ids_and_deadlines([good[0], key], [good[1], row])


def test_torn_rows_of_renewals_and_those_of_another_version_are_refused() -> None:
    row = rows.encode_lease(1, 2)
    for value in (b"", row[:-1], row + bytes(7)):
        with pytest.raises(Corrupt):
            rows.decode_renewals(value)
    with pytest.raises(UnknownFormat):
        rows.decode_renewals(b"\x02" + row[1:] + bytes(8))


def test_a_slot_is_never_further_ahead_than_its_bound() -> None:
    """Or names of revoked leases with a long TTL would stay in memory for years."""
    deadlines = Deadlines()
    names = range(LOOK_AHEAD_MS // SLOT_MS)
    for name in names:
        deadlines.add(name, TTL_MS_MAX, 1000)
    assert deadlines.take(1000, len(names)) == []
    assert sorted(deadlines.take(1000 + LOOK_AHEAD_MS, len(names))) == list(names)


def test_who_revokes_and_grants_an_id_again_and_again_is_looked_at_no_oftener() -> None:
    """Or each time would leave a name in memory, to be looked at for as long as the lease lives."""
    deadlines = Deadlines()
    granted_ms = range(0, 100 * SLOT_MS, SLOT_MS // 2)
    for now_ms in granted_ms:
        deadlines.add(5, TTL_MS_MAX, now_ms)
    looks = []
    for now_ms in range(granted_ms.stop, granted_ms.stop + 3 * LOOK_AHEAD_MS, SLOT_MS):
        for name in deadlines.take(now_ms, 1000):
            looks.append(now_ms)
            deadlines.add(name, TTL_MS_MAX, now_ms)
    assert len([at for at in looks if at >= granted_ms.stop + LOOK_AHEAD_MS]) == 2


def test_leases_with_much_time_at_a_start_are_not_all_looked_at_together() -> None:
    """Or what ends at that moment would wait behind a million of them."""
    deadlines = Deadlines()
    count = 100 * LOOK_AHEAD_MS // SLOT_MS
    deadlines.add_all(range(count), [TTL_MS_MAX] * count, 1000)
    taken = [
        len(deadlines.take(at, count))
        for at in range(1000, 1000 + LOOK_AHEAD_MS + SLOT_MS, SLOT_MS)
    ]
    assert sum(taken) == count
    assert max(taken) <= 2 * 100
