"""An Api on a running loop, for calls that wait for other calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from google.protobuf.message import Message

from chainfire.api.table import METHODS
from chainfire.errors import RequestError
from chainfire.proto.kv_pb2 import DeleteRangeRequest, KeyValue, PutRequest, RangeRequest
from chainfire.proto.lease_pb2 import LeaseGrantRequest, LeaseRevokeRequest
from tests.api.fake_node import Api, Probe

Scene = Callable[["Contenders"], Coroutine[Any, Any, None]]


def on_stage(scene: Scene) -> Callable[[], None]:
    """A test that is played on a loop of its own."""

    def test() -> None:
        async def play() -> None:
            async with asyncio.timeout(20):
                await scene(Contenders())

        asyncio.run(play())

    test.__name__, test.__doc__ = scene.__name__, scene.__doc__
    return test


class Contenders(Api):
    async def settled(self) -> None:
        """Everything that could go on has gone on."""
        for _ in range(50):
            await asyncio.sleep(0)

    async def answer(self, call: Probe) -> Message | RequestError:
        for _ in range(10_000):
            if call.answers:
                break
            await asyncio.sleep(0)
        (answer,) = call.answers
        if isinstance(answer, RequestError):
            return answer
        return METHODS[call.method].reply_type.FromString(answer)

    def grant(self, lease: int) -> None:
        self.do("Lease.LeaseGrant", LeaseGrantRequest(ID=lease, TTL=60))

    def revoke(self, lease: int) -> None:
        self.do("Lease.LeaseRevoke", LeaseRevokeRequest(ID=lease))

    def put(self, key: bytes, value: bytes = b"", lease: int = 0) -> None:
        self.do("KV.Put", PutRequest(key=key, value=value, lease=lease))

    def delete(self, key: bytes) -> None:
        self.do("KV.DeleteRange", DeleteRangeRequest(key=key))

    def kvs(self) -> list[KeyValue]:
        reply: Any = self.do("KV.Range", RangeRequest(key=b"\0", range_end=b"\0"))
        return list(reply.kvs)

    def keys(self) -> list[bytes]:
        return [kv.key for kv in self.kvs()]
