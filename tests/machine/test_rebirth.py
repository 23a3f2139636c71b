"""What a restored state keeps of the old cluster, and what it must not."""

from __future__ import annotations

import pytest

from chainfire.errors import Damaged
from chainfire.machine import Machine, bootstrap, rows
from chainfire.machine.giant import KEY as GIANT
from chainfire.machine.rebirth import be_reborn
from chainfire.machine.sender import Sender
from chainfire.mvcc.state import NEVER
from chainfire.proto.cluster_pb2 import Member
from chainfire.storage.backend import STATE_FAMILIES
from chainfire.storage.memory import MemoryBackend
from chainfire.types import Alarm, ConfState

NEW = (Member(ID=7, name="n", peerURLs=["http://n:1"]),)


def old_state() -> MemoryBackend:
    backend = MemoryBackend(STATE_FAMILIES)
    bootstrap(backend, [Member(ID=1), Member(ID=2)], ConfState(voters=(1, 2)), "3.7.0")
    batch = backend.batch()
    batch.put("machine", rows.sender_key(1), rows.encode_sender(Sender(9, 5)))
    batch.put("machine", rows.removed_key(3), rows.encode_removed())
    batch.put("alarms", rows.alarm_key(Alarm(1, 2)), rows.encode_alarm())
    batch.put("key_value", b"\x00\x00\x00\x00k", b"row")
    backend.write(batch)
    return backend


def test_members_change_and_data_stays() -> None:
    backend = old_state()
    before = rows.read_position(backend)
    assert be_reborn(backend, NEW, ConfState(voters=(7,))) == before
    assert rows.read_members(backend) == {7: NEW[0]}
    assert rows.decode_conf_state(rows.required(backend, rows.CONF_STATE)).voters == (7,)
    assert backend.get("key_value", b"\x00\x00\x00\x00k") == b"row"


def test_command_ids_removed_members_and_alarms_are_forgotten() -> None:
    backend = old_state()
    be_reborn(backend, NEW, ConfState(voters=(7,)))
    assert rows.read_senders(backend) == {}
    assert rows.read_removed(backend) == set()
    assert rows.read_alarms(backend) == set()
    assert Machine(backend, cache_bytes=1 << 20).start_number(1) == 0


def test_a_bumped_revision_may_be_marked_compacted() -> None:
    backend = old_state()
    revision = rows.read_position(backend).revision
    be_reborn(backend, NEW, ConfState(voters=(7,)), bump_revision=100, mark_compacted=True)
    machine = Machine(backend, cache_bytes=1 << 20)
    assert machine.revision == revision + 100
    assert machine.store.keyspace(0).compacted in (revision + 100, NEVER)


def test_half_of_a_large_delete_is_refused() -> None:
    backend = old_state()
    batch = backend.batch()
    batch.put("machine", GIANT, b"anything")
    backend.write(batch)
    with pytest.raises(Damaged, match="half of a large delete"):
        be_reborn(backend, NEW, ConfState(voters=(7,)))
