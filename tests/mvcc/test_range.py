"""The rules of ranges, one by one (reference: Ranges, Range response)."""

from __future__ import annotations

from typing import Any

import pytest

from chainfire.errors import Compacted, FutureRevision
from chainfire.mvcc.read import range_steps, run
from chainfire.proto.kv_pb2 import KeyValue, RangeRequest
from chainfire.types import RangeResult
from tests.mvcc.world import World


def keys_of(result: RangeResult) -> list[bytes]:
    return [KeyValue.FromString(row).key for row in result.rows]


@pytest.fixture
def world() -> World:
    """a=3@2, b=1@3, b\\0=2@4, c: 1@5 then 0@6 with lease 7, \\xff=9@7."""
    world = World()
    world.put(b"a", b"3")
    world.put(b"b", b"1")
    world.put(b"b\0", b"2")
    world.put(b"c", b"1")
    world.put(b"c", b"0", lease=7)
    world.put(b"\xff", b"9")
    return world


@pytest.mark.parametrize(
    ("key", "range_end", "expected"),
    [
        (b"b", b"", [b"b"]),
        (b"x", b"", []),
        (b"b", b"\0", [b"b", b"b\0", b"c", b"\xff"]),
        (b"\0", b"\0", [b"a", b"b", b"b\0", b"c", b"\xff"]),
        (b"b", b"c", [b"b", b"b\0"]),
        (b"b", b"b\0", [b"b"]),
        (b"b\0", b"c", [b"b\0"]),
        (b"c", b"b", []),
        (b"c", b"c", []),
        (b"d", b"\xff", []),
        (b"\xff", b"\0", [b"\xff"]),
    ],
)
def test_what_a_range_means(
    world: World, key: bytes, range_end: bytes, expected: list[bytes]
) -> None:
    result = world.range(key, range_end)
    assert keys_of(result) == expected
    assert result.count == len(expected)
    assert keys_of(world.range(key, range_end, revision=7)) == expected
    world.put(b"zz")  # now 7 is an old revision
    assert keys_of(world.range(key, range_end, revision=7)) == expected


ALL = [b"a", b"b", b"b\0", b"c", b"\xff"]
DESCEND, ASCEND = RangeRequest.DESCEND, RangeRequest.ASCEND


@pytest.mark.parametrize(
    ("fields", "expected", "more", "count"),
    [
        ({}, ALL, False, 5),
        ({"limit": 2}, ALL[:2], True, 5),
        ({"limit": 5}, ALL, False, 5),
        ({"limit": 4}, ALL[:4], True, 5),
        ({"limit": -1}, ALL, False, 5),
        ({"limit": 2**63 - 1}, ALL, False, 5),
        ({"count_only": True}, [], False, 5),
        ({"count_only": True, "limit": 2}, [], False, 5),
        ({"sort_order": DESCEND}, ALL[::-1], False, 5),
        ({"sort_order": DESCEND, "limit": 2}, ALL[:2:-1], True, 5),
        ({"sort_order": ASCEND, "limit": 2}, ALL[:2], True, 5),
        # Filters: count ignores them, more does not.
        ({"min_mod_revision": 4}, [b"b\0", b"c", b"\xff"], False, 5),
        ({"min_mod_revision": 4, "limit": 2}, [b"b\0", b"c"], True, 5),
        ({"min_mod_revision": 4, "limit": 3}, [b"b\0", b"c", b"\xff"], False, 5),
        ({"max_mod_revision": 4}, [b"a", b"b", b"b\0"], False, 5),
        ({"max_mod_revision": 5}, [b"a", b"b", b"b\0"], False, 5),
        ({"min_create_revision": 5}, [b"c", b"\xff"], False, 5),
        ({"max_create_revision": 5}, [b"a", b"b", b"b\0", b"c"], False, 5),
        ({"min_mod_revision": 6, "max_mod_revision": 6}, [b"c"], False, 5),
        ({"min_mod_revision": 6, "count_only": True}, [], False, 5),
        # Sorts; equal ones stay in key order, both ways.
        (
            {"sort_target": RangeRequest.VALUE, "sort_order": ASCEND},
            [b"c", b"b", b"b\0", b"a", b"\xff"],
            False,
            5,
        ),
        (
            {"sort_target": RangeRequest.VERSION, "sort_order": DESCEND},
            [b"c", b"a", b"b", b"b\0", b"\xff"],
            False,
            5,
        ),
        (
            {"sort_target": RangeRequest.VERSION, "sort_order": ASCEND, "limit": 1},
            [b"a"],
            True,
            5,
        ),
        (
            {"sort_target": RangeRequest.MOD, "sort_order": DESCEND, "limit": 2},
            [b"\xff", b"c"],
            True,
            5,
        ),
        (
            {"sort_target": RangeRequest.CREATE, "sort_order": DESCEND, "limit": 2},
            [b"\xff", b"c"],
            True,
            5,
        ),
        # Order NONE sorts too, but only what the limit left: limit + 1 rows, then cut.
        (
            {"sort_target": RangeRequest.VALUE},
            [b"c", b"b", b"b\0", b"a", b"\xff"],
            False,
            5,
        ),
        ({"sort_target": RangeRequest.VALUE, "limit": 2}, [b"b", b"b\0"], True, 5),
        ({"sort_target": RangeRequest.VALUE, "limit": 1}, [b"b"], True, 5),
        # VALUE with keys_only sorts by the values that it does not show.
        (
            {"sort_target": RangeRequest.VALUE, "sort_order": ASCEND, "keys_only": True},
            [b"c", b"b", b"b\0", b"a", b"\xff"],
            False,
            5,
        ),
    ],
)
@pytest.mark.parametrize("old", [False, True])
def test_limit_filters_and_order(
    world: World, fields: dict[str, Any], expected: list[bytes], more: bool, count: int, old: bool
) -> None:
    if old:
        world.put(b"later")
        world.delete(b"b", b"c")
        fields = fields | {"revision": 7}
    result = world.range(b"\0", b"\0", **fields)
    assert (keys_of(result), result.more, result.count) == (expected, more, count)


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({}, True),
        ({"limit": 1}, True),
        ({"count_only": True}, False),
        ({"min_mod_revision": 7}, False),
        ({"max_mod_revision": 5}, False),
        ({"min_create_revision": 6}, False),
        ({"max_create_revision": 4}, False),
        ({"min_create_revision": 5, "max_mod_revision": 6}, True),
    ],
)
def test_one_key_is_a_range_of_one(world: World, fields: dict[str, Any], found: bool) -> None:
    result = world.range(b"c", **fields)
    assert (len(result.rows), result.more, result.count) == (int(found), False, 1)


def test_keys_only_has_neither_value_nor_lease(world: World) -> None:
    for range_end in (b"", b"d"):
        (row,) = world.range(b"c", range_end, keys_only=True).rows
        kv = KeyValue.FromString(row)
        assert kv == KeyValue(key=b"c", create_revision=5, mod_revision=6, version=2)


def test_the_header_s_revision_is_the_newest_whatever_was_read(world: World) -> None:
    assert world.range(b"a", revision=3).revision == 7
    assert world.range(b"a", b"\0", revision=3).revision == 7


@pytest.mark.parametrize(
    ("revision", "value"),
    [(-5, b"0"), (0, b"0"), (7, b"0"), (6, b"0"), (5, b"1"), (4, None), (1, None)],
)
def test_a_revision_shows_what_was_there_at_its_end(
    world: World, revision: int, value: bytes | None
) -> None:
    for range_end in (b"", b"d"):
        rows = world.range(b"c", range_end, revision=revision).rows
        assert [KeyValue.FromString(row).value for row in rows] == (
            [] if value is None else [value]
        )


def test_future_and_compacted_revisions_are_refused(world: World) -> None:
    world.compact(4)
    for range_end in (b"", b"\0"):
        with pytest.raises(FutureRevision):
            world.range(b"a", range_end, revision=8)
        with pytest.raises(Compacted):
            world.range(b"a", range_end, revision=3)
        assert world.range(b"a", range_end, revision=4).count > 0
        assert world.range(b"a", range_end, revision=-9).count > 0
    with pytest.raises(Compacted):
        world.range(b"c", b"b", revision=3)  # an empty range too


def test_keyspaces_do_not_see_each_other() -> None:
    world = World(keyspace=1)
    world.put(b"a")
    world.keyspace = 2
    world.put(b"b")
    world.put(b"b")
    for keyspace, expected in ((0, []), (1, [b"a"]), (2, [b"b"]), (3, [])):
        world.keyspace = keyspace
        for revision in (0, 3):
            assert keys_of(world.range(b"\0", b"\0", revision=revision)) == expected
    world.keyspace = 2
    world.compact(3)
    world.keyspace = 1
    assert world.range(b"a", revision=2).count == 1


def test_a_walk_in_slices_at_an_old_revision_ends_when_a_compaction_overtakes_it(
    world: World,
) -> None:
    request = RangeRequest(key=b"\0", range_end=b"\0", revision=6)
    walk = range_steps(world.backend, world.store, 0, request, rows_per_slice=1)
    next(walk)
    world.compact(7)
    with pytest.raises(Compacted):
        run(walk)


def test_a_walk_in_slices_at_the_newest_revision_is_not_disturbed(world: World) -> None:
    request = RangeRequest(key=b"\0", range_end=b"\0", limit=4)
    walk = range_steps(world.backend, world.store, 0, request, rows_per_slice=1)
    next(walk)
    world.delete(b"b", b"\0")
    world.put(b"d")
    world.compact(world.store.revision)
    world.remove_compacted()
    result = run(walk)
    assert (keys_of(result), result.more, result.count) == (ALL[:4], True, 5)


def test_a_key_with_many_versions_costs_a_seek_not_a_walk() -> None:
    world = World()
    world.put(b"a")
    for _ in range(500):
        world.put(b"b")
    world.put(b"c")
    assert keys_of(world.range(b"\0", b"\0", revision=3)) == [b"a", b"b"]
    for revision, mod in ((2, 2), (4, 4), (300, 300), (502, 502)):
        rows = world.range(b"b", b"c", revision=revision).rows
        assert [KeyValue.FromString(row).mod_revision for row in rows] == [mod] * (revision > 2)
