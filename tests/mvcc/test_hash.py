"""The content hash tells members apart by content, and by nothing else."""

from __future__ import annotations

import pytest

from chainfire.errors import Compacted, FutureRevision
from chainfire.mvcc.hash import HashResult, hash_kv
from chainfire.mvcc.read import run
from tests.mvcc.world import World


def hash_of(world: World, revision: int = 0, keyspace: int = 0) -> HashResult:
    return run(hash_kv(world.backend, world.store, keyspace, revision))


def history(*, last: bytes = b"z") -> World:
    world = World()
    world.put(b"a", b"1")
    world.put(b"a", b"2")
    world.put(b"b", b"1")
    world.delete(b"b")
    world.put(b"c", last)
    return world


def test_equal_histories_hash_alike_and_others_do_not() -> None:
    assert hash_of(history()) == hash_of(history())
    assert hash_of(history()).hash != hash_of(history(last=b"y")).hash
    assert hash_of(history(), 5) == hash_of(history(last=b"y"), 5)


def test_an_old_revision_hashes_as_it_did_when_it_was_the_newest() -> None:
    world = World()
    hashes = {}
    for number in range(12):
        world.put(b"k%d" % (number % 3), b"%d" % number)
        if number % 4 == 3:
            world.delete(b"k1")
        hashes[world.store.revision] = hash_of(world).hash
    assert {revision: hash_of(world, revision).hash for revision in hashes} == hashes


@pytest.mark.parametrize("revision", [2, 3, 4, 5, 6])
def test_the_pace_of_physical_compaction_does_not_show(revision: int) -> None:
    world = history()
    world.compact(revision)
    before = [hash_of(world, at) for at in range(revision, 7)]
    world.remove_compacted()
    assert [hash_of(world, at) for at in range(revision, 7)] == before
    assert before[0].compact_revision == revision
    assert [found.hash_revision for found in before] == list(range(revision, 7))


def test_revisions_out_of_reach_are_refused() -> None:
    world = history()
    world.compact(3)
    with pytest.raises(Compacted):
        hash_of(world, 2)
    with pytest.raises(FutureRevision):
        hash_of(world, 7)


def test_keyspaces_hash_by_themselves() -> None:
    world = history()
    before = hash_of(world, 6)
    world.keyspace = 1
    world.put(b"a")
    assert hash_of(world, 6) == before
    assert hash_of(world, 0, 2) == HashResult(0, -1, 7)


def test_a_hash_in_slices_is_of_the_moment_of_its_first_step() -> None:
    world = history()
    expected = hash_of(world)
    steps = hash_kv(world.backend, world.store, 0, 0, rows_per_slice=1)
    next(steps)
    world.delete(b"\0", b"\0")
    world.compact(world.store.revision)
    world.remove_compacted()
    assert run(steps) == expected
