"""What a member remembers of the others survives its restart."""

from __future__ import annotations

import asyncio

import pytest

from chainfire.errors import Corrupt, UnknownFormat
from chainfire.node.handshake import Met
from chainfire.node.registry import Registry
from chainfire.storage.backend import LOG_FAMILIES
from chainfire.storage.memory import MemoryBackend
from tests.node.world import World


def test_whom_it_met_is_durable_when_meet_returns() -> None:
    backend, machine = MemoryBackend(LOG_FAMILIES), World().machine
    registry = Registry(backend, machine)
    assert registry.met(7) is None
    asyncio.run(registry.meet(7, Met(1, 2, 3)))
    asyncio.run(registry.meet(2**64 - 1, Met(4, 5, 6)))
    again = Registry(backend.crash(0), machine)
    assert (again.met(7), again.met(2**64 - 1)) == (Met(1, 2, 3), Met(4, 5, 6))


def test_a_stalled_disk_is_waited_for() -> None:
    backend = MemoryBackend(LOG_FAMILIES)
    registry = Registry(backend, World().machine)

    async def scene() -> None:
        backend.stalled = True
        meeting = asyncio.create_task(registry.meet(7, Met(1, 2, 3)))
        await asyncio.sleep(0)
        assert not meeting.done() and registry.met(7) is None
        backend.stalled = False
        await meeting

    asyncio.run(scene())
    assert registry.met(7) == Met(1, 2, 3)


def test_golden_rows() -> None:
    backend = MemoryBackend(LOG_FAMILIES)
    registry = Registry(backend, World().machine)
    asyncio.run(registry.meet(7, Met(1, 2, 3)))
    assert not registry.was_admitted
    registry.note_admitted()
    assert registry.was_admitted
    word = "{:016x}".format
    assert {key.hex(): value.hex() for key, value in backend.iterate("raft_meta")} == {
        b"met".hex() + word(7): "01" + word(1) + word(2) + word(3),
        b"admitted".hex(): "01",
    }


@pytest.mark.parametrize(("row", "error"), [(b"\x02", UnknownFormat), (b"\x01", Corrupt)])
def test_rows_that_cannot_be_read_stop_the_member(row: bytes, error: type[Exception]) -> None:
    backend = MemoryBackend(LOG_FAMILIES)
    batch = backend.batch()
    batch.put("raft_meta", b"met" + bytes(8), row)
    backend.write(batch)
    with pytest.raises(error):
        Registry(backend, World().machine)
