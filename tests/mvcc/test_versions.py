"""Changes of a few keys found by their versions, against the walk over everybody's changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainfire.errors import Compacted
from chainfire.mvcc.history import Change, Limits
from chainfire.mvcc.rows import keyspace_prefix
from chainfire.mvcc.versions import key_change_steps
from chainfire.proto.kv_pb2 import DeleteRangeRequest, PutRequest, RequestOp, TxnRequest
from tests.mvcc.world import World

STEPS = ("put", "delete", "twice", "compact")
KEYS = (b"", b"a", b"a\0", b"b")


def replaced_twice(key: bytes) -> TxnRequest:
    """Deletes and puts it, twice over, in one revision."""
    delete = RequestOp(request_delete_range=DeleteRangeRequest(key=key, range_end=key + b"\0"))
    put = RequestOp(request_put=PutRequest(key=key, value=b"new"))
    return TxnRequest(success=[delete, put, delete])


def walked(world: World, start: int, keys: tuple[bytes, ...]) -> list[Change]:
    return [change for change in world.history(start).changes if change.key in keys]


def followed(world: World, start: int, keys: tuple[bytes, ...], rows_max: int) -> list[Change]:
    found: list[Change] = []
    while start <= world.store.revision:
        part = world.history_of(start, *keys, rows_max=rows_max)
        assert part.next_revision > start
        found += part.changes
        start = part.next_revision
    return found


@given(
    st.lists(
        st.tuples(st.sampled_from(["put", "delete", "twice", "compact"]), st.sampled_from(KEYS))
    ),
    st.sets(st.sampled_from(KEYS), min_size=1),
    st.sampled_from([1, 2, 1000]),
    st.booleans(),
)
def test_finds_what_the_walk_finds(
    steps: list[tuple[str, bytes]], watched: set[bytes], rows_max: int, physical: bool
) -> None:
    world, keys = World(keyspace=2), tuple(watched)
    for number, (what, key) in enumerate(steps):
        if what == "put":
            world.put(key, b"%d" % number)
        elif what == "delete":
            world.delete(key)
        elif what == "twice":
            world.txn(replaced_twice(key))
        elif world.store.revision > world.store.keyspace(2).compacted:
            world.compact(world.store.revision)
    if physical:
        world.remove_compacted()
    first = world.store.keyspace(2).compacted + 1
    for start in range(max(first, 1), world.store.revision + 1):
        assert followed(world, start, keys, rows_max) == walked(world, start, keys)


@pytest.mark.parametrize("overtaken", [False, True])
def test_a_compaction_that_comes_up_or_overtakes_is_noticed(overtaken: bool) -> None:
    world = World()
    for number in range(10):
        world.put(b"a", b"%d" % number)
    limits = Limits(want_prev=True, rows_max=1000, bytes_max=1 << 20, rows_per_slice=2)
    rows = [keyspace_prefix(0) + b"a"]
    steps = key_change_steps(world.backend, world.store, 0, 4, 12, rows, limits)
    next(steps)
    world.compact(5 if overtaken else 4)
    if overtaken:
        with pytest.raises(Compacted):
            next(steps)
    else:
        with pytest.raises(StopIteration) as end:
            next(steps)
        assert (end.value.value.changes, end.value.value.next_revision) == ([], 4)
