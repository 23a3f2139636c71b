"""Changes in order, for watchers that catch up."""

from __future__ import annotations

import pytest

from chainfire.errors import Compacted
from chainfire.mvcc.history import Change
from chainfire.mvcc.rows import DELETE, PUT
from chainfire.proto.kv_pb2 import DeleteRangeRequest, KeyValue, PutRequest, RequestOp, TxnRequest
from tests.mvcc.world import World


def events(world: World, start: int) -> list[Change]:
    return world.history(start).changes


def value(row: bytes | None) -> bytes | None:
    return None if row is None else KeyValue.FromString(row).value


def told(world: World, start: int) -> list[tuple[int, int, int, bytes, bytes | None, bytes | None]]:
    return [
        (event.main, event.sub, event.type, event.key, value(event.row), value(event.prev))
        for event in events(world, start)
    ]


def test_puts_and_deletes_come_with_what_was_there_before() -> None:
    world = World(keyspace=2)
    world.put(b"a", b"1")
    world.put(b"a", b"2")
    world.put(b"b", b"1")
    world.delete(b"a", b"c")
    world.put(b"a", b"3")
    assert told(world, 0) == [
        (2, 0, PUT, b"a", b"1", None),
        (3, 0, PUT, b"a", b"2", b"1"),
        (4, 0, PUT, b"b", b"1", None),
        (5, 0, DELETE, b"a", None, b"2"),
        (5, 1, DELETE, b"b", None, b"1"),
        (6, 0, PUT, b"a", b"3", None),
    ]
    assert told(world, 5) == told(world, 0)[3:]
    assert told(world, 7) == []
    world.keyspace = 3
    assert told(world, 0) == []


def test_a_main_revision_is_never_split() -> None:
    world = World()
    for key in (b"a", b"b", b"c"):
        world.put(key)
    world.delete(b"a", b"\0")
    world.put(b"d")
    found = world.history(4, rows_max=2)
    assert [event.main for event in found.changes] == [4, 5, 5, 5]
    assert found.next_revision == 6
    found = world.history(6, rows_max=2)
    assert [event.main for event in found.changes] == [6]
    assert found.next_revision == 7


def test_of_a_key_that_changes_twice_in_one_revision_the_pair_before_both_is_told() -> None:
    world = World()
    world.put(b"a", b"old")
    from_a = DeleteRangeRequest(key=b"a", range_end=b"\0")
    world.txn(
        TxnRequest(
            success=[
                RequestOp(request_delete_range=from_a),
                RequestOp(request_put=PutRequest(key=b"a", value=b"new")),
                RequestOp(request_delete_range=from_a),
            ]
        )
    )
    assert told(world, 3) == [
        (3, 0, DELETE, b"a", None, b"old"),
        (3, 1, PUT, b"a", b"new", None),
        (3, 2, DELETE, b"a", None, b"old"),
    ]
    world.compact(3)
    last_only = [(3, 2, DELETE, b"a", None, None)]
    assert told(world, 3) == last_only
    world.remove_compacted()
    assert told(world, 3) == last_only


@pytest.mark.parametrize("physical", [False, True])
def test_what_was_there_before_is_told_from_the_revision_after_the_compacted_one(
    physical: bool,
) -> None:
    world = World()
    for number in (b"1", b"2", b"3", b"4"):
        world.put(b"a", number)
    world.compact(3)
    if physical:
        world.remove_compacted()
    with pytest.raises(Compacted):
        events(world, 2)
    assert told(world, 3) == [
        (3, 0, PUT, b"a", b"2", None),
        (4, 0, PUT, b"a", b"3", b"2"),
        (5, 0, PUT, b"a", b"4", b"3"),
    ]
