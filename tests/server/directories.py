"""Data directories for tests: opened as a start would, run for a while, copied as a crash leaves
them."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

from chainfire.command import CommandKind
from chainfire.config import Config
from chainfire.errors import RequestError
from chainfire.node.registry import Registry
from chainfire.node.shell import Node
from chainfire.proto.kv_pb2 import PutRequest
from chainfire.server.member import make_node, opening_settings
from chainfire.server.opened import Opened
from chainfire.server.opening import OpeningSettings, open_member
from chainfire.types import Result

SECONDS = 20.0


def config(data_dir: Path, *, name: str = "default", force: bool = False) -> Config:
    base = Config()
    urls = base.cluster.initial_advertise_peer_urls
    token = base.cluster.initial_cluster_token if name == "default" else name
    return dataclasses.replace(
        base,
        member=dataclasses.replace(base.member, name=name, data_dir=str(data_dir)),
        cluster=dataclasses.replace(
            base.cluster,
            initial_cluster=((name, urls),),
            initial_cluster_token=token,
            force_new_cluster=force,
        ),
        storage=dataclasses.replace(base.storage, ballast_bytes=1 << 20),
    )


def settings(data_dir: Path, *, name: str = "default", force: bool = False) -> OpeningSettings:
    return opening_settings(config(data_dir, name=name, force=force))


class _Caller:
    def __init__(self) -> None:
        self.answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

    @property
    def finished(self) -> bool:
        return self.answer.done()

    def done(self, result: Result) -> None:
        self.answer.set_result(result)

    def refused(self, error: RequestError) -> None:
        self.answer.set_exception(error)


async def put(node: Node, key: bytes, value: bytes = b"v") -> None:
    caller = _Caller()
    body = PutRequest(key=key, value=value).SerializeToString()
    node.propose(CommandKind.PUT, body, caller)
    async with asyncio.timeout(SECONDS):
        await caller.answer


def live(
    data_dir: Path,
    keys: int,
    *,
    force: bool = False,
    first: int = 0,
    image: Path | None = None,
    then: Callable[[Opened], None] | None = None,
) -> Opened:
    """A life that puts some keys, one after the other, and ends gracefully; `image` becomes a
    copy of the directory as a kill -9 after the last answer would have left it."""

    async def run() -> Opened:
        opened = open_member(settings(data_dir, force=force))
        registry = Registry(opened.log_backend, opened.machine)
        node = make_node(config(data_dir, force=force), opened, registry)
        try:
            await node.start(SECONDS)
            for number in range(first, first + keys):
                assert node.machine.revision, "who looks sees all earlier puts applied"
                await put(node, b"k%d" % number)
            if then is not None:
                then(opened)
            if image is not None:
                shutil.copytree(data_dir, image)
        finally:
            await node.aclose()
            opened.close()
        return opened

    return asyncio.run(run())


def keys_of(data_dir: Path, *, force: bool = False) -> set[bytes]:
    """What a start finds; nothing is written but the start."""
    found: set[bytes] = set()

    def look(opened: Opened) -> None:
        found.update(key[4:] for key in opened.state_backend.keys("key_value"))

    live(data_dir, 0, force=force, then=look)
    return found
