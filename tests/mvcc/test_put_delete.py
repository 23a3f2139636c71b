"""The rules of puts and deletes (reference: Store model, Put, DeleteRange)."""

from __future__ import annotations

import pytest

from chainfire.errors import KeyNotFound, LeaseNotFound
from chainfire.proto.kv_pb2 import KeyValue
from chainfire.types import DeleteResult, PutResult
from tests.mvcc.world import World


def kv(world: World, key: bytes) -> KeyValue | None:
    row = world.store.get_row(0, key)
    return None if row is None else KeyValue.FromString(row)


def test_a_fresh_store_is_at_revision_1_and_its_first_write_makes_2() -> None:
    world = World()
    assert world.store.revision == 1
    assert world.put(b"a") == PutResult(2)


def test_versions_count_from_creation_and_start_again_after_a_delete() -> None:
    world = World()
    world.put(b"a", b"1")
    world.put(b"a", b"2")
    assert kv(world, b"a") == KeyValue(
        key=b"a", create_revision=2, mod_revision=3, version=2, value=b"2"
    )
    world.delete(b"a")
    assert kv(world, b"a") is None
    world.put(b"a", b"3")
    assert kv(world, b"a") == KeyValue(
        key=b"a", create_revision=5, mod_revision=5, version=1, value=b"3"
    )


def test_an_identical_put_is_a_new_revision() -> None:
    world = World()
    assert [world.put(b"a", b"1").revision for _ in range(3)] == [2, 3, 4]


def test_prev_kv_is_the_pair_before() -> None:
    world = World()
    assert world.put(b"a", b"1", prev_kv=True).prev is None
    prev = world.put(b"a", b"2", prev_kv=True).prev
    assert prev is not None
    assert KeyValue.FromString(prev).value == b"1"
    assert world.put(b"a", b"3").prev is None


@pytest.mark.parametrize("field", ["ignore_value", "ignore_lease"])
def test_ignoring_something_needs_the_key(field: str) -> None:
    world = World()
    world.put(b"deleted")
    world.delete(b"deleted")
    for key in (b"never", b"deleted"):
        with pytest.raises(KeyNotFound):
            world.put(key, **{field: True})
    assert world.store.revision == 3


def test_ignore_value_and_ignore_lease_keep_what_is_there() -> None:
    world = World()
    world.put(b"a", b"1", lease=7)
    world.put(b"a", ignore_value=True)
    assert kv(world, b"a") == KeyValue(
        key=b"a", create_revision=2, mod_revision=3, version=2, value=b"1"
    )
    world.put(b"a", b"2", lease=-3)
    world.put(b"a", b"3", ignore_lease=True)
    stored = kv(world, b"a")
    assert stored is not None
    assert (stored.value, stored.lease) == (b"3", -3)
    world.put(b"a", ignore_value=True, ignore_lease=True)
    touched = kv(world, b"a")
    assert touched is not None
    assert (touched.value, touched.lease, touched.version) == (b"3", -3, 5)


def test_an_unknown_lease_is_refused_before_a_missing_key() -> None:
    world = World()
    with pytest.raises(LeaseNotFound):
        world.put(b"a", lease=99)
    with pytest.raises(LeaseNotFound):
        world.put(b"a", lease=99, ignore_value=True)


def test_without_leases_every_lease_is_unknown() -> None:
    world = World()
    with pytest.raises(LeaseNotFound):
        world.store.begin(world.staged, 0).put(b"a", b"", 7)


def test_deletes_make_one_revision_and_answer_in_key_order() -> None:
    world = World()
    for key in (b"b", b"a", b"c"):
        world.put(key, key)
    result = world.delete(b"a", b"c", prev_kv=True)
    assert (result.revision, result.deleted) == (5, 2)
    assert [KeyValue.FromString(prev).value for prev in result.prevs] == [b"a", b"b"]
    assert world.range(b"\0", b"\0").count == 1


@pytest.mark.parametrize(("key", "range_end"), [(b"x", b""), (b"x", b"z"), (b"z", b"b")])
def test_a_delete_that_matches_nothing_consumes_no_revision(key: bytes, range_end: bytes) -> None:
    world = World()
    world.put(b"b")
    assert world.delete(key, range_end) == DeleteResult(2, 0, [])
    assert world.store.revision == 2


def test_a_deleted_key_is_still_there_at_older_revisions() -> None:
    world = World()
    world.put(b"a", b"1")
    world.delete(b"a")
    world.put(b"a", b"2")
    counts = [world.range(b"a", revision=revision).count for revision in (1, 2, 3, 4)]
    assert counts == [0, 1, 0, 1]


@pytest.mark.parametrize("cache_bytes", [0, 500, 1 << 20])
def test_one_turn_sees_what_its_earlier_commands_staged(cache_bytes: int) -> None:
    world = World(cache_bytes=cache_bytes)
    world.do(lambda w: w.writer().put(b"a", b"1"), flush=False)
    world.do(lambda w: w.writer().put(b"a", b"2"), flush=False)
    deleted = world.do(lambda w: w.writer().delete_range(b"a", b"b", True), flush=False)
    assert [KeyValue.FromString(prev).version for prev in deleted.prevs] == [2]
    world.do(lambda w: w.writer().put(b"a", b"3"))
    stored = kv(world, b"a")
    assert stored is not None
    assert (stored.create_revision, stored.version) == (5, 1)


def test_a_write_that_has_to_be_tried_again_saves_the_counters_again() -> None:
    world = World()
    world.do(lambda w: w.writer().put(b"a", b"1"), flush=False)
    for _ in range(2):
        batch = world.backend.batch()
        world.store.save(batch)
        assert len(batch) == 1
    world.flush()
    batch = world.backend.batch()
    world.store.save(batch)
    assert len(batch) == 0
