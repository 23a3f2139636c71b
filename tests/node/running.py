"""A member on the real event loop: the product's Node around a World's driver and memory disks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import uvloop

from chainfire.errors import SyncFailed
from chainfire.node.compacting import Pace
from chainfire.node.registry import Registry
from chainfire.node.shell import Node
from chainfire.node.upkeep import UpkeepSettings
from chainfire.storage.backend import StorageBackend
from tests.node.world import PLENTY, Caller, World

DEADLINE_SECONDS = 60.0  # only what hangs takes so long: a busy machine is no failure


P = ParamSpec("P")


def on_loop(scene: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """A test that is a coroutine, on an event loop of its own."""

    @wraps(scene)
    def test(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(scene(*args, **kwargs))

    return test


def on_servers_loop(scene: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """The same on the loop that a server runs on."""

    @wraps(scene)
    def test(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(scene(*args, **kwargs))

    return test


class FakeDisk:
    def __init__(self) -> None:
        self.witness_fails = False
        self.witness_syncs = 0

    def free_bytes(self) -> int:
        return PLENTY

    def damaged_bytes(self) -> int:
        return 0

    def next_checkpoint_path(self) -> Path:
        raise AssertionError("memory has no files to copy")

    def fsync_witness(self) -> None:
        self.witness_syncs += 1
        if self.witness_fails:
            raise SyncFailed("the simulated witness failed a sync")


async def no_files(checkpoint: Path) -> None:
    raise AssertionError("memory has no files to verify")


def node_of(
    world: World,
    disk: FakeDisk | None = None,
    *,
    inline: bool = False,
    state: StorageBackend | None = None,
    state_sync_entries: int = 10_000,
    catchup_entries: int = 10,
) -> Node:
    return Node(
        driver=world.driver,
        log_backend=world.log,
        state_backend=state or world.state,
        registry=Registry(world.log, world.machine),
        disk=disk or FakeDisk(),
        cluster_id=7,
        heartbeat_seconds=0.01,
        calls_come_in_batches=inline,
        slow_turn_seconds=0,
        auto_heal=True,
        verify=no_files,
        upkeep=UpkeepSettings(
            state_sync_entries=state_sync_entries,
            catchup_entries=catchup_entries,
            compaction=Pace(batch_rows=100, pause_seconds=0.001),
        ),
    )


@asynccontextmanager
async def running(
    world: World,
    disk: FakeDisk | None = None,
    *,
    inline: bool = False,
    state_sync_entries: int = 10_000,
    catchup_entries: int = 10,
) -> AsyncIterator[Node]:
    node = node_of(
        world,
        disk,
        inline=inline,
        state_sync_entries=state_sync_entries,
        catchup_entries=catchup_entries,
    )
    try:
        await node.start(DEADLINE_SECONDS)
        yield node
    finally:
        await node.aclose()


async def until(condition: Callable[[], object], seconds: float = DEADLINE_SECONDS) -> None:
    """Return when it holds; fails after the deadline."""
    give_up = asyncio.get_running_loop().time() + seconds
    while not condition():
        await asyncio.sleep(0.001)
        assert asyncio.get_running_loop().time() < give_up, "it never came true"


async def answered(*callers: Caller) -> None:
    await until(lambda: all(caller.answered for caller in callers))
