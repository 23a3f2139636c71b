"""An archive is made between two giant commands, of what can be read; nothing of it stays."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from chainfire.errors import Corrupt
from chainfire.node.archiving import StateArchive
from chainfire.node.status import ARCHIVE_BOUNDS_SECONDS, Times
from chainfire.storage.backend import STATE_FAMILIES
from chainfire.storage.memory import MemoryBackend
from tests.node.running import on_loop, until


class Giants:
    def __init__(self) -> None:
        self.is_half_deleted = False
        self.copies = 0

    def hold_up_giants(self) -> None:
        self.copies += 1

    def let_giants_go(self) -> None:
        self.copies -= 1


class Place:
    def __init__(self, directory: Path) -> None:
        self.path = directory / "checkpoint-000001"

    def next_checkpoint_path(self) -> Path:
        return self.path


async def sound(checkpoint: Path) -> None:
    pass


async def damaged(checkpoint: Path) -> None:
    raise Corrupt(f"{checkpoint}: block checksum mismatch")


def archive(place: Place, giants: Giants, verify=sound) -> StateArchive:  # type: ignore[no-untyped-def]
    backend = MemoryBackend(STATE_FAMILIES)
    return StateArchive(place, backend, 1, 2, giants, verify, Times(ARCHIVE_BOUNDS_SECONDS))


@on_loop
async def test_it_waits_for_the_giant_under_way_and_lets_no_other_one_begin(tmp_path: Path) -> None:
    place, giants = Place(tmp_path), Giants()
    giants.is_half_deleted = True

    async def make() -> None:
        async with archive(place, giants):
            assert place.path.exists() and giants.copies == 0

    making = asyncio.create_task(make())
    await until(lambda: giants.copies)
    assert not place.path.exists()
    giants.is_half_deleted = False
    await making
    assert not place.path.exists()


@on_loop
async def test_who_gives_up_waiting_holds_nothing_up(tmp_path: Path) -> None:
    giants = Giants()
    giants.is_half_deleted = True
    making = asyncio.create_task(archive(Place(tmp_path), giants).__aenter__())
    await until(lambda: giants.copies)
    making.cancel()
    await asyncio.wait([making])
    assert giants.copies == 0


@on_loop
async def test_of_damaged_blocks_nothing_is_made_and_nothing_stays(tmp_path: Path) -> None:
    place, giants = Place(tmp_path), Giants()
    with pytest.raises(Corrupt, match="checksum mismatch"):
        await archive(place, giants, damaged).__aenter__()
    assert not place.path.exists() and giants.copies == 0
