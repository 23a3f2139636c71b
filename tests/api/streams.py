"""A Stream for handler tests: requests from a list, replies into one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from chainfire.api.call import Metadata, OutletUser
from chainfire.types import Caster


class ProbeStream:
    peer = ""
    deadline: float | None = None
    metadata: Metadata = ()
    caster: Caster | None = None
    address = 0
    room = 1 << 20

    def __init__(self, requests: Sequence[bytes], method: str = "") -> None:
        self.method = method
        self.request = requests[0] if requests else b""
        self.sent: list[bytes] = []
        self._requests = requests
        self.all_heard = asyncio.Event()
        self._posted = asyncio.Event()

    async def send(self, body: bytes) -> None:
        self.sent.append(body)

    async def converse(self, hear: Callable[[bytes], None]) -> None:
        for body in self._requests:
            hear(body)
        self.all_heard.set()
        while len(self.sent) < len(self._requests):
            self._posted.clear()
            await self._posted.wait()

    def post(self, body: bytes) -> None:
        self.sent.append(body)
        self._posted.set()

    async def has_room(self) -> None:
        return

    def tell(self, user: OutletUser) -> None:
        self.user = user

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for body in self._requests:
            yield body
