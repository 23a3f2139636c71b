"""A watch as the client sees it: where it stands, and how it goes on after a lost connection.

`Place` is pure: it makes the request and judges each answer. `Watch` carries
it over streams: one that ends is opened again on the next endpoint, from the
revision behind the last one that was told, so that nothing is lost and
nothing told twice.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from types import TracebackType
from typing import Self

from google.protobuf.message import DecodeError

from chainfire.client.faults import Failure, ServerFault, error_of
from chainfire.client.transport import Channel, Write
from chainfire.client.values import Changes, change_of
from chainfire.errors import Code, Compacted
from chainfire.proto import watch_pb2

PATH = "/etcdserverpb.Watch/Watch"
PAUSE_SECONDS_MIN = 0.05
PAUSE_SECONDS_MAX = 2.0
_COMPACTED = Compacted.text.removeprefix("etcdserver: ")
# A stream that ends with one of these is opened again; other ends are the server's answer.
_LOST = (Code.UNAVAILABLE, Code.CANCELLED, Code.INTERNAL)


class WatchCompacted(Compacted):
    """What was to be told next is compacted: read the keys again, and watch from there."""

    def __init__(self, compact_revision: int) -> None:
        super().__init__(f"history before {compact_revision} is gone")
        self.compact_revision = compact_revision


class Place:
    """The next revision to be told of. `request` opens a stream there."""

    def __init__(self, create: watch_pb2.WatchCreateRequest) -> None:
        self._create = create
        self._split: list[watch_pb2.WatchResponse] = []  # a revision's fragments so far

    def request(self) -> bytes:
        self._split.clear()
        return watch_pb2.WatchRequest(create_request=self._create).SerializeToString()

    def take(self, response: watch_pb2.WatchResponse) -> Changes | None:
        """What the caller is told of it. Raises WatchCompacted, or what it says."""
        if response.canceled:
            raise _end_of(response)
        if response.created:
            # From now on means from the first answer on, even if this stream is lost.
            self._create.start_revision = (
                self._create.start_revision or response.header.revision + 1
            )
            return None
        self._split.append(response)
        if response.fragment:
            return None
        parts, self._split = self._split, []
        events = tuple(change_of(event) for part in parts for event in part.events)
        told = events[-1].kv.mod_revision if events else response.header.revision
        self._create.start_revision = max(self._create.start_revision, told + 1)
        return Changes(events, response.header.revision)


def _end_of(response: watch_pb2.WatchResponse) -> Exception:
    # Refusals of rights come as Go prints a status: "rpc error: code = … desc = …".
    reason = response.cancel_reason.rpartition("desc = ")[2]
    if response.compact_revision or reason.endswith(_COMPACTED):
        return WatchCompacted(response.compact_revision)
    return error_of(Failure(Code.UNKNOWN, reason, sent=True), is_read=True)


class Watch:
    """`async for changes in watch`, within `async with`. Ends with an error only."""

    def __init__(self, place: Place, channels: Callable[[int], Channel], dial: float) -> None:
        self._place = place
        self._channels = channels  # by attempt: the preferred endpoint first, then the others
        self._dial = dial
        self._write: Write | None = None  # to the stream that is open, or was last
        self._changes = self._follow()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._changes.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Changes:
        """What changed at one revision or several, whole ones; or word of progress: no events.

        Raises WatchCompacted, or what the server answered.
        """
        return await anext(self._changes)

    async def request_progress(self) -> None:
        """Ask how far it has seen: the answer comes among the changes, without events.

        None comes while events are still to be told, or from a connection that is lost meanwhile.
        """
        if self._write is not None:
            request = watch_pb2.WatchRequest(progress_request=watch_pb2.WatchProgressRequest())
            await self._write(request.SerializeToString())

    def _opened(self, write: Write) -> None:
        self._write = write

    async def _follow(self) -> AsyncGenerator[Changes, None]:
        attempt, failures = 0, 0
        while True:
            try:
                stream = self._channels(attempt).open_stream(
                    PATH, self._place.request(), self._dial, self._opened
                )
                async with aclosing(stream):
                    async for body in stream:
                        failures = 0
                        changes = self._place.take(_decode(body))
                        if changes is not None:
                            yield changes
            except Failure as failure:
                if failure.code not in _LOST:
                    raise error_of(failure, is_read=True) from failure
            attempt, failures = attempt + 1, failures + 1
            pause = min(PAUSE_SECONDS_MIN * 2.0 ** min(failures - 1, 10), PAUSE_SECONDS_MAX)
            await asyncio.sleep(pause * (0.5 + random.random()))


def _decode(body: bytes) -> watch_pb2.WatchResponse:
    try:
        return watch_pb2.WatchResponse.FromString(body)
    except DecodeError as exc:
        raise ServerFault(Code.INTERNAL, f"{PATH}: not a reply: {exc}") from exc
