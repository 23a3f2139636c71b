"""Opening a state directory: what is missing or unknown is found before anything is applied."""

from __future__ import annotations

import pytest

from chainfire.errors import Corrupt, Damaged, FatalError, UnknownFormat
from chainfire.machine import bootstrap, rows
from chainfire.proto.cluster_pb2 import Member
from chainfire.storage.backend import STATE_FAMILIES
from chainfire.storage.memory import MemoryBackend
from chainfire.types import ConfState
from tests.machine.world import World, bootstrapped, opened


def test_a_bootstrapped_directory_is_durable_and_opens() -> None:
    machine = opened(bootstrapped().crash(0))
    assert (machine.applied_index, machine.applied_term, machine.hash) == (0, 0, 0)
    assert machine.revision == 1, "etcd's first revision"
    assert machine.conf_state == ConfState((1,))
    assert machine.cluster_version == "3.7.0"
    assert machine.members[1].name == "one"
    assert machine.alarms == []
    assert machine.hash_at(0) == 0


def test_a_directory_is_bootstrapped_once() -> None:
    with pytest.raises(AssertionError):
        bootstrap(bootstrapped(), [Member(ID=1)], ConfState((1,)), "3.7.0")


def test_an_empty_directory_is_damaged() -> None:
    with pytest.raises(Damaged, match="applied"):
        opened(MemoryBackend(STATE_FAMILIES))


@pytest.mark.parametrize(
    ("family", "key"),
    [
        ("machine", rows.APPLIED),
        ("machine", rows.CONF_STATE),
        ("machine", rows.CLUSTER_VERSION),
        ("members", rows.member_key(1)),
    ],
)
def test_a_missing_row_is_damage(family: str, key: bytes) -> None:
    world = World()
    world.put()
    batch = world.backend.batch()
    batch.delete(family, key)
    world.backend.write(batch)
    with pytest.raises(Damaged, match="state/"):
        opened(world.backend)


@pytest.mark.parametrize(
    ("family", "key", "value", "error"),
    [
        ("machine", rows.APPLIED, b"\x02", UnknownFormat),
        ("machine", rows.APPLIED, b"\x01\x00", Corrupt),
        ("machine", rows.APPLIED, b"", Corrupt),
        ("machine", rows.CONF_STATE, b"\x02", UnknownFormat),
        ("machine", rows.CONF_STATE, b"\x01\x00\x00\x00\x05", Corrupt),
        ("machine", rows.CONF_STATE, b"\x01" + bytes(16) + b"\x02", Corrupt),
        ("machine", rows.CLUSTER_VERSION, b"\x09", UnknownFormat),
        ("machine", rows.CLUSTER_VERSION, b"\x01\xff", Corrupt),
        ("machine", rows.sender_key(1), b"\x02", UnknownFormat),
        ("machine", rows.sender_key(1), b"\x01" + bytes(16) + b"\x00\x00\x00\x01", Corrupt),
        ("members", rows.member_key(1), b"\xff", Corrupt),
        ("members", rows.member_key(2), Member(ID=3).SerializeToString(), Corrupt),
        ("alarms", rows.member_key(1) + b"\x01", b"\x02", UnknownFormat),
        ("alarms", b"short", b"\x01", Corrupt),
        ("keyspaces", b"\0\0\0\0", b"\x63", UnknownFormat),
    ],
)
def test_a_row_that_cannot_be_read_stops_the_member(
    family: str, key: bytes, value: bytes, error: type[FatalError]
) -> None:
    backend = bootstrapped()
    batch = backend.batch()
    batch.put(family, key, value)
    backend.write(batch)
    with pytest.raises(error):
        opened(backend)
