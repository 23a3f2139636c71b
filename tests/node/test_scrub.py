"""What lies on the disk is read over and over, in small slices; damage stops the member."""

from __future__ import annotations

import asyncio

import pytest

from chainfire.errors import Corrupt, FatalError
from chainfire.node import scrub
from chainfire.node.scrub import Scrub
from chainfire.storage.memory import MemoryBackend
from tests.node.running import on_loop, running, until
from tests.node.world import World


class Counted(MemoryBackend):
    """Remembers what was scrubbed; damaged from row `bad` on."""

    def __init__(self) -> None:
        super().__init__(("a", "b"))
        self.asked: list[tuple[str, bytes]] = []
        self.bad = b"\xff"

    def scrub(self, family: str, lower: bytes, bytes_max: int) -> bytes | None:
        self.asked.append((family, lower))
        if lower >= self.bad:
            raise Corrupt("a block's checksum is wrong")
        return super().scrub(family, lower, bytes_max)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrub, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(scrub, "PASS_SECONDS_MIN", 0.0)
    monkeypatch.setattr(scrub, "SLICE_BYTES", 100)


def filled() -> Counted:
    backend = Counted()
    batch = backend.batch()
    for number in range(3):
        batch.put("a", b"%d" % number, b"v" * 100)
    backend.write(batch)
    return backend


@on_loop
async def test_every_family_is_read_to_its_end_again_and_again() -> None:
    backend, died = filled(), list[FatalError]()
    scrubbing = Scrub([(backend, ("a", "b"))], died.append)
    scrubbing.start()
    await until(lambda: scrubbing.passes >= 2)
    scrubbing.stop()
    one_pass = [("a", b""), ("a", b"0\0"), ("a", b"1\0"), ("a", b"2\0"), ("b", b"")]
    assert backend.asked[:10] == one_pass * 2
    assert not died


@on_loop
async def test_damage_that_nobody_has_read_stops_the_member() -> None:
    backend, died = filled(), list[FatalError]()
    backend.bad = b"1\0"
    scrubbing = Scrub([(backend, ("a", "b"))], died.append)
    scrubbing.start()
    await until(lambda: bool(died))
    asked = len(backend.asked)
    await asyncio.sleep(0)
    assert [type(error) for error in died] == [Corrupt]
    assert len(backend.asked) == asked, "nothing more is read"


@on_loop
async def test_a_member_scrubs_both_of_its_databases() -> None:
    world = World()
    async with running(world) as node:
        await until(lambda: node.overview.statistics().scrub_passes > 0)
