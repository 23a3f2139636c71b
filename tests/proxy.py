"""A TCP proxy of our own between two members: the network that a test can cut.

    pass     bytes go through
    stall    nothing goes through, nothing is closed: a partition, or a machine that is gone
    refuse   as if the process had ended: connections are reset, new ones refused

`cut` does what `stall` does, to some members only: who dials is read from the hello. `delay` lets
everything through late.

`Proxy` lives on the caller's event loop; `Proxies` keeps many on a thread of its own, for tests
that are not asynchronous.
"""

from __future__ import annotations

import asyncio
import struct
import threading
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from typing import Any, Self, TypeVar

T = TypeVar("T")
CHUNK = 1 << 16
HEAD = struct.Struct(">II")  # length and checksum of the first frame: docs/formats.md
SENDER = slice(17, 25)  # in the body of a hello; who only asks for the roster names nobody


class Proxy:
    """From `port` (0: a free one) to `target` on loopback. `start`, then cut and heal."""

    def __init__(self, target: int, port: int = 0) -> None:
        self.target = target
        self.port = port
        self._server: asyncio.Server | None = None
        self._stalled = False
        self._delay_seconds = 0.0
        self._cut: frozenset[int] = frozenset()  # member ids
        self._change = asyncio.Event()  # set, and replaced, when one of the two changes
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stall(self) -> None:
        self._stalled = True

    async def cut(self, senders: Iterable[int]) -> None:
        self._cut = frozenset(senders)
        self._changed()

    async def delay(self, seconds: float) -> None:
        """Each portion of bytes waits so long; 0: none does."""
        self._delay_seconds = seconds

    async def heal(self) -> None:
        self._stalled, self._cut = False, frozenset()
        self._changed()
        if self._server is None:
            await self.start()

    def _changed(self) -> None:
        self._change.set()
        self._change = asyncio.Event()

    async def reset(self) -> None:
        """All connections end; new ones are taken."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self.reset()

    async def aclose(self) -> None:
        await self.refuse()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        with suppress(OSError, EOFError, asyncio.CancelledError):
            head = await reader.readexactly(HEAD.size)
            body = await reader.readexactly(HEAD.unpack(head)[0])
            sender = int.from_bytes(body[SENDER], "big")
            await self._open_for(sender)
            onward, back = await asyncio.open_connection("127.0.0.1", self.target)
            self._writers.add(back)
            back.write(head + body)
            try:
                await asyncio.gather(
                    self._pump(reader, back, sender), self._pump(onward, writer, sender)
                )
            finally:
                self._writers.discard(back)
                back.transport.abort()
        self._writers.discard(writer)
        writer.transport.abort()

    async def _open_for(self, sender: int) -> None:
        while self._stalled or sender in self._cut:
            await self._change.wait()

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, sender: int
    ) -> None:
        while data := await source.read(CHUNK):
            await self._open_for(sender)
            if self._delay_seconds:
                await asyncio.sleep(self._delay_seconds)
            sink.write(data)
            await sink.drain()
        raise ConnectionResetError  # either side's end ends both


class Proxies:
    """Proxies on a loop in a thread; every call returns when it is done."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._made: list[Proxy] = []

    def add(self, target: int) -> Proxy:
        async def make() -> Proxy:
            return await Proxy(target).start()

        proxy = self.run(make())
        self._made.append(proxy)
        return proxy

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def close(self) -> None:
        for proxy in self._made:
            self.run(proxy.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
