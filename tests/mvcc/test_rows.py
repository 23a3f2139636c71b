"""Every byte of mvcc's rows, as docs/formats.md draws them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainfire.errors import Corrupt, UnknownFormat
from chainfire.mvcc import rows
from chainfire.mvcc.state import KeyspaceState, keyspace_key
from chainfire.proto.kv_pb2 import KeyValue
from tests.mvcc.world import World

INT64 = st.integers(-(2**63), 2**63 - 1)
POSITIVE = st.integers(1, 2**63 - 1)


@given(
    key=st.binary(min_size=1, max_size=3000),
    create=POSITIVE,
    mod=POSITIVE,
    version=POSITIVE,
    value=st.binary(max_size=200),
    lease=INT64,
)
def test_key_value_is_encoded_as_the_message_class_would(
    key: bytes, create: int, mod: int, version: int, value: bytes, lease: int
) -> None:
    row = rows.key_value_row(0, key, create, rows.mod_field(mod), version, value, lease)
    ours = row[rows.ROW_HEAD_BYTES :]
    kv = KeyValue(
        key=key,
        create_revision=create,
        mod_revision=mod,
        version=version,
        value=value,
        lease=lease,
    )
    assert ours == kv.SerializeToString(deterministic=True)
    kv.value, kv.lease = b"", 0
    assert rows.without_value(ours) == kv.SerializeToString(deterministic=True)


@given(number=st.one_of(INT64, st.sampled_from([2**n + d for n in range(62) for d in (-1, 0, 1)])))
def test_varints_are_protobuf_s(number: int) -> None:
    field = KeyValue(create_revision=number).SerializeToString()[1:]
    assert rows.varint(number) == (field or b"\0")


def hexes(world: World) -> list[tuple[str, str, str | None]]:
    return [
        (family, key.hex(" "), None if value is None else value.hex(" "))
        for family, key, value in world.changes
    ]


def test_golden_rows_of_a_put_over_a_put_and_of_a_delete() -> None:
    world = World(keyspace=3)
    world.put(b"k\0", b"v")
    assert hexes(world) == [
        (
            "key_value",
            "00 00 00 03 6b 00",
            # format, sub ‖ key, create 2, mod 2, version 1, value
            "01 00 00 00 00 0a 02 6b 00 10 02 18 02 20 01 2a 01 76",
        ),
        (
            "revisions",
            "00 00 00 03 00 00 00 00 00 00 00 02 00 00 00 00",
            # format, put, request, no predecessor, no lease, key
            "01 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 6b 00",
        ),
    ]
    world.put(b"k\0", b"w", lease=7)
    assert hexes(world) == [
        (
            "key_history",
            # keyspace, escaped key, terminator, complement of (2, 0)
            "00 00 00 03 6b 00 ff 00 00 ff ff ff ff ff ff ff fd ff ff ff ff",
            "01 00 0a 02 6b 00 10 02 18 02 20 01 2a 01 76",
        ),
        (
            "key_value",
            "00 00 00 03 6b 00",
            "01 00 00 00 00 0a 02 6b 00 10 02 18 03 20 02 2a 01 77 30 07",
        ),
        (
            "revisions",
            "00 00 00 03 00 00 00 00 00 00 00 03 00 00 00 00",
            "01 00 00 00 00 00 00 00 00 00 02 00 00 00 00 00 00 00 00 00 00 00 07 6b 00",
        ),
    ]
    world.delete(b"k\0")
    assert hexes(world) == [
        (
            "key_history",
            "00 00 00 03 6b 00 ff 00 00 ff ff ff ff ff ff ff fc ff ff ff ff",
            "01 00 0a 02 6b 00 10 02 18 03 20 02 2a 01 77 30 07",
        ),
        (
            "key_history",
            "00 00 00 03 6b 00 ff 00 00 ff ff ff ff ff ff ff fb ff ff ff ff",
            "01 01",
        ),
        ("key_value", "00 00 00 03 6b 00", None),
        (
            "revisions",
            "00 00 00 03 00 00 00 00 00 00 00 04 00 00 00 00",
            "01 01 00 00 00 00 00 00 00 00 03 00 00 00 00 00 00 00 00 00 00 00 00 6b 00",
        ),
    ]


def test_golden_keyspaces_row() -> None:
    state = KeyspaceState(
        compacted=9, finished=-1, keys=1, live_bytes=2, history_bytes=3, leases=4, freed_bytes=5
    )
    assert keyspace_key(3).hex(" ") == "00 00 00 03"
    assert state.encode().hex(" ") == (
        "01 00 00 00 00 00 00 00 09 ff ff ff ff ff ff ff ff 00 00 00 00 00 00 00 01"
        " 00 00 00 00 00 00 00 02 00 00 00 00 00 00 00 03 00 00 00 00 00 00 00 04"
        " 00 00 00 00 00 00 00 05"
    )
    assert KeyspaceState.decode(state.encode()) == state


def test_golden_compaction_row() -> None:
    world = World(keyspace=3)
    world.put(b"k")
    world.put(b"k")
    world.compact(3)
    world.remove_compacted()
    row = world.backend.get("machine", b"compaction" + bytes.fromhex("00000003"))
    assert row is not None
    assert row.hex(" ") == (
        "01 00 00 00 00 00 00 00 03 00 00 00 00 00 00 00 03 00 00 00 00 00 00 00 00 00 00 00 46"
    )


@pytest.mark.parametrize(
    ("main", "sub"), [(1, 0), (2**40, 3), (2**63 - 1, 0), (5, 255), (5, 256), (5, 2**32 - 1)]
)
def test_revisions_survive_the_way_into_keys_and_back(main: int, sub: int) -> None:
    prefix = rows.keyspace_prefix(1)
    assert rows.history_revision(rows.history_key(prefix, b"k", main, sub)) == (main, sub)
    row = rows.key_value_row(sub, b"k", 1, rows.mod_field(1), 1, b"", 0)
    assert rows.row_sub(row) == sub
    change = rows.decode_change(
        rows.change_key(prefix, main, sub), rows.change_value(rows.PUT, 1, 4, 6, -8, b"k")
    )
    assert change == rows.Change(main, sub, rows.PUT, 1, 4, 6, -8, b"k")


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=4), st.integers(1, 3))))
def test_history_rows_sort_by_key_and_then_newest_first(versions: list[tuple[bytes, int]]) -> None:
    prefix = rows.keyspace_prefix(0)
    in_rows = sorted(versions, key=lambda v: rows.history_key(prefix, v[0], v[1], 0))
    assert in_rows == sorted(versions, key=lambda v: (v[0], -v[1]))


def test_unknown_formats_are_refused() -> None:
    prefix = rows.keyspace_prefix(0)
    good = rows.change_value(rows.PUT, 0, 0, 0, 0, b"k")
    with pytest.raises(UnknownFormat):
        rows.decode_change(rows.change_key(prefix, 1, 0), b"\x02" + good[1:])
    with pytest.raises(UnknownFormat):
        rows.version_in(b"\x02\x00")
    with pytest.raises(UnknownFormat):
        rows.row_sub(b"\x02\0\0\0\0")
    with pytest.raises(UnknownFormat):
        KeyspaceState.decode(b"\x02" + KeyspaceState().encode()[1:])
    with pytest.raises(Corrupt):
        KeyspaceState.decode(KeyspaceState().encode()[:-1])
