"""Sending without waiting, and conversing, for streams of doors that can only send by awaiting.

What is posted is sent by a task that ends when nothing is left.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable

from chainfire.api.call import OutletUser
from chainfire.errors import RequestError
from chainfire.types import Caster

ROOM_BYTES = 256 * 1024  # posted and not sent yet; the native door grants as much
OVERHEAD_BYTES = 64  # of each message, so that empty ones are bounded too


class Posting:
    """The half of `api.call.Stream` that posts, over its `send`."""

    caster: Caster | None = None
    address = 0

    def __init__(self) -> None:
        self.room = ROOM_BYTES
        self._posted: deque[bytes] = deque()
        self._poster: asyncio.Task[None] | None = None
        self._room_there = asyncio.Event()
        self._user: OutletUser | None = None
        self._answered = asyncio.Event()  # the last message of a conversation

    async def send(self, body: bytes) -> None:
        raise NotImplementedError

    def __aiter__(self) -> AsyncIterator[bytes]:
        raise NotImplementedError

    async def converse(self, hear: Callable[[bytes], None]) -> None:
        """One message at a time: the next one when it is answered."""
        async for body in self:
            self._answered.clear()
            hear(body)
            await self._answered.wait()
        await self._all_sent()

    async def run(self, work: Awaitable[None]) -> None:
        """The stream's work. Where it refuses, what it posted before leaves first."""
        try:
            await work
        except RequestError:
            await self._all_sent()
            raise

    async def _all_sent(self) -> None:
        if self._poster is not None:
            await self._poster

    def post(self, body: bytes) -> None:
        self._answered.set()
        self._posted.append(body)
        self.room -= len(body) + OVERHEAD_BYTES
        if self._poster is None or self._poster.done():
            self._poster = asyncio.create_task(self._send_posted())

    async def _send_posted(self) -> None:
        """Cancelled when the client has gone; the handler hears of that by itself."""
        while self._posted:
            body = self._posted.popleft()
            await self.send(body)
            had_none = self.room <= 0
            self.room += len(body) + OVERHEAD_BYTES
            if had_none and self.room > 0:
                self._room_there.set()
                if self._user is not None:
                    self._user.room_again()

    async def has_room(self) -> None:
        while self.room <= 0:
            self._room_there.clear()
            await self._room_there.wait()

    def tell(self, user: OutletUser) -> None:
        self._user = user

    def end_posting(self) -> None:
        """The stream is over: nothing more is sent."""
        self._posted.clear()
        if self._poster is not None:
            self._poster.cancel()
