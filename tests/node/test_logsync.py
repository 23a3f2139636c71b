"""Who syncs the log aside, and what becomes of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from chainfire.errors import FatalError, SyncFailed
from chainfire.node.logsync import LogSync
from chainfire.storage.memory import MemoryBackend
from chainfire.wheel import FAULT
from tests.node.running import on_servers_loop, until

pytestmark = pytest.mark.skipif(FAULT is not None, reason=str(FAULT))


class Backend(MemoryBackend):
    """Names a file, while it has one."""

    descriptor: int | None = None

    def __init__(self) -> None:
        super().__init__(("raft_logs",))
        self.outcomes: list[int] = []

    def sync_descriptor(self) -> int | None:  # type: ignore[override]
        return self.descriptor

    def synced_outside(self, error_number: int, seconds: float) -> None:
        self.outcomes.append(error_number)
        assert 0 <= seconds < 60
        if error_number:
            raise SyncFailed(os.strerror(error_number))


@pytest.fixture
def descriptor() -> Iterator[int]:
    with Path(__file__).open("rb") as file:
        yield file.fileno()


@on_servers_loop
async def test_the_file_is_synced_where_there_is_one_and_the_engine_asked_where_not(
    descriptor: int,
) -> None:
    backend, heard = Backend(), list[int]()
    sync = LogSync(backend, natively=True, synced=heard.append, die=pytest.fail)
    for number in range(1, 50):
        backend.descriptor = descriptor if number % 3 else None
        sync.start(number)
        assert sync.running
        await until(lambda number=number: heard == list(range(1, number + 1)))
        assert not sync.running
    assert len(backend.outcomes) == 33 and backend.statistics().sync_count == 16
    assert sum(sync.times().counts) == 49
    await sync.aclose()


@on_servers_loop
async def test_the_portable_door_leaves_it_to_the_engine() -> None:
    backend, heard = Backend(), list[int]()
    backend.descriptor = 0
    sync = LogSync(backend, natively=False, synced=heard.append, die=pytest.fail)
    sync.start(1)
    await until(lambda: heard == [1])
    assert not backend.outcomes
    await sync.aclose()


@on_servers_loop
async def test_without_a_free_descriptor_the_engine_is_asked() -> None:
    backend, heard = Backend(), list[int]()
    sync = LogSync(backend, natively=True, synced=heard.append, die=pytest.fail)
    backend.descriptor = 1 << 20  # which the kernel refuses to duplicate
    sync.start(1)
    await until(lambda: heard == [1])
    assert not backend.outcomes and backend.statistics().sync_count == 1
    await sync.aclose()


@on_servers_loop
async def test_a_failed_sync_ends_the_member_and_nothing_is_said_to_be_durable() -> None:
    backend, heard, deaths = Backend(), list[int](), list[FatalError]()
    sync = LogSync(backend, natively=True, synced=heard.append, die=deaths.append)
    end, other = os.pipe()
    backend.descriptor = end
    sync.start(1)
    os.close(end)
    os.close(other)
    await until(lambda: bool(deaths))
    assert isinstance(deaths[0], SyncFailed) and not heard
    await sync.aclose()


@on_servers_loop
async def test_an_end_waits_for_the_sync_that_is_under_way_and_hears_of_it(
    descriptor: int,
) -> None:
    backend, heard = Backend(), list[int]()
    sync = LogSync(backend, natively=True, synced=heard.append, die=pytest.fail)
    backend.descriptor = descriptor
    sync.start(1)
    await sync.aclose()
    assert heard == [1]
