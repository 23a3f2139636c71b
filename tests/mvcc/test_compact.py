"""The rules of compaction: what stays, what goes, and what it frees (reference: Compaction)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainfire.errors import Compacted, FutureRevision, UnknownFormat
from chainfire.mvcc.compact import Compaction
from chainfire.mvcc.rows import DELETE
from chainfire.mvcc.verify import recount
from chainfire.proto.kv_pb2 import KeyValue
from chainfire.storage.memory import MemoryBackend
from tests.mvcc.world import World


def rows_of(world: World) -> dict[str, list[tuple[bytes, bytes]]]:
    families = ("key_value", "key_history", "revisions")
    return {family: list(world.backend.iterate(family)) for family in families}


def changes_left(world: World) -> list[int]:
    """Main revisions that `revisions` still holds."""
    return [int.from_bytes(key[4:12]) for key in world.backend.keys("revisions")]


def test_only_revisions_above_the_compacted_and_not_in_the_future_are_taken() -> None:
    world = World()
    world.put(b"a")
    with pytest.raises(FutureRevision):
        world.compact(3)
    with pytest.raises(Compacted):
        world.compact(-1)
    world.compact(0)
    world.compact(2)  # the newest
    for revision in (2, 1, 0):
        with pytest.raises(Compacted):
            world.compact(revision)


def test_a_compaction_consumes_no_revision() -> None:
    world = World()
    world.put(b"a")
    result = world.do(lambda w: w.writer().compact(2))
    assert result.revision == world.store.revision == 2


def test_reads_below_are_refused_at_once_and_reads_at_it_still_work() -> None:
    world = World()
    world.put(b"a", b"1")
    world.put(b"a", b"2")
    world.put(b"b", b"1")
    world.compact(3)
    for physical in (False, True):
        with pytest.raises(Compacted):
            world.range(b"a", revision=2)
        (row,) = world.range(b"a", revision=3).rows
        assert KeyValue.FromString(row).value == b"2"
        if not physical:
            world.remove_compacted()


def test_of_each_key_the_newest_version_stays() -> None:
    world = World()
    for _ in range(3):
        world.put(b"a")  # 2 3 4
    world.put(b"b")  # 5
    world.delete(b"a")  # 6
    world.put(b"b")  # 7
    world.compact(5)
    world.remove_compacted()
    assert changes_left(world) == [4, 5, 6, 7]
    world.compact(7)
    world.remove_compacted()
    assert changes_left(world) == [7]
    assert [len(rows) for rows in rows_of(world).values()] == [1, 0, 1]


def test_a_tombstone_exactly_at_it_stays_for_watchers_until_the_next_one() -> None:
    """etcd #18089, #19179."""
    world = World()
    world.put(b"a")
    world.delete(b"a")
    world.compact(3)
    world.remove_compacted()
    (event,) = world.history(3).changes
    assert (event.main, event.type, event.key, event.prev) == (3, DELETE, b"a", None)
    world.put(b"b")
    world.compact(4)
    world.remove_compacted()
    assert changes_left(world) == [4]
    assert list(world.backend.keys("key_history")) == []


def test_the_revision_does_not_go_back_when_the_newest_one_was_a_compacted_delete() -> None:
    """etcd #17780: delete, compact at that revision, crash, restart."""
    world = World()
    world.put(b"a")
    world.delete(b"a")
    world.compact(3)
    compaction = Compaction(world.backend, world.store, 0)
    while not compaction.step(1):
        world.restart()
        assert world.store.revision == 3
        compaction = Compaction(world.backend, world.store, 0)
    world.restart()
    assert world.put(b"b").revision == 4


def test_counters_shrink_when_the_end_is_booked_and_not_before() -> None:
    world = World()
    for value in (b"1", b"2", b"3"):
        world.put(b"a", value)
    before = world.store.keyspace(0).history_bytes
    world.compact(4)
    compaction = world.remove_compacted(book=False)
    assert world.store.keyspace(0).history_bytes == before
    world.do(lambda w: w.store.finish_compaction(0, 4, compaction.freed_bytes))
    state = world.store.keyspace(0)
    assert state.finished == 4
    assert state.history_bytes == before - compaction.freed_bytes
    left = rows_of(world)
    kept = left["key_history"] + left["revisions"]
    assert state.history_bytes == sum(len(key) + len(value) for key, value in kept)
    world.restart()
    assert world.store.keyspace(0) == state


def test_what_was_booked_or_never_compacted_is_not_booked_again() -> None:
    world = World()
    for _ in range(3):
        world.put(b"a")
    world.compact(3)
    compaction = world.remove_compacted()
    state = repr(world.store.keyspace(0))
    for revision in (3, 2, 4):
        world.do(lambda w, r=revision: w.store.finish_compaction(0, r, compaction.freed_bytes + 9))
        assert repr(world.store.keyspace(0)) == state


def test_a_compaction_that_is_overtaken_finishes_and_goes_on() -> None:
    world = World()
    for _ in range(6):
        world.put(b"a")
    world.compact(4)
    compaction = Compaction(world.backend, world.store, 0)
    assert not compaction.step(1)
    world.compact(6)
    steps = 0
    while not compaction.step(1):
        steps += 1
        assert steps < 20
    assert compaction.revision == 6
    assert changes_left(world) == [6, 7]


def test_an_unknown_cursor_is_refused() -> None:
    world = World()
    batch = world.backend.batch()
    batch.put("machine", b"compaction\0\0\0\0", b"\2" + bytes(28))
    world.backend.write(batch)
    with pytest.raises(UnknownFormat):
        Compaction(world.backend, world.store, 0)


OPS = st.lists(
    st.tuples(st.sampled_from((b"a", b"b", b"b\0", b"c")), st.sampled_from("ppppdD")),
    min_size=4,
    max_size=25,
)


def write(world: World, key: bytes, kind: str) -> None:
    if kind == "p":
        world.put(key)
    else:
        world.delete(key, b"\0" if kind == "D" else b"")


@given(ops=OPS, targets=st.lists(st.integers(1, 26), max_size=5), data=st.data())
@settings(max_examples=150)
def test_what_goes_and_what_it_frees_depends_on_the_last_target_alone(
    ops: list[tuple[bytes, str]], targets: list[int], data: st.DataObject
) -> None:
    """However rounds and slices were cut, and whatever crashes came in between."""
    direct, winding = World(), World()
    for key, kind in ops:
        write(direct, key, kind)
        write(winding, key, kind)
    last = direct.store.revision
    for target in sorted({target for target in targets if target < last} | {last}):
        winding.compact(target)
        for _ in range(data.draw(st.integers(0, 3))):
            Compaction(winding.backend, winding.store, 0).step(data.draw(st.integers(1, 5)))
        assert isinstance(winding.backend, MemoryBackend)
        winding.crash(data.draw(st.integers(0, winding.backend.unsynced_batches)))
    direct.compact(last)
    ours, theirs = (world.remove_compacted(book=False) for world in (direct, winding))
    assert rows_of(direct) == rows_of(winding)
    assert (ours.revision, ours.freed_bytes) == (theirs.revision, theirs.freed_bytes)
    for world in (direct, winding):
        assert recount(world.backend, world.store, 0) == world.store.keyspace(0)
