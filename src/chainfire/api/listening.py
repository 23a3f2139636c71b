"""Watches of handlers inside this member: locks and elections wait for keys with these.

Everything runs on the loop's thread; what is heard is what this member has applied.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

from chainfire.api.services import Services
from chainfire.errors import Compacted, InvalidArgument, TooManyRequests
from chainfire.mvcc import rows
from chainfire.watch.event import Event
from chainfire.watch.groups import WatchStream, span_of, united

EVENTS_MAX = 10_000  # not taken yet; more ends the listening


class Listening:
    """Events of a key or range, in order, each once. Use `with`, and `next` again and again.

    `also`: more keys.
    """

    def __init__(
        self,
        services: Services,
        key: bytes,
        range_end: bytes = b"",
        *,
        also: Iterable[bytes] = (),
        start_revision: int = 0,  # 0: from now
        keyspace: int = 0,
    ) -> None:
        span = span_of(keyspace, key, range_end)
        if span is None:
            raise InvalidArgument("an empty range")
        more = (span_of(keyspace, key, b"") for key in also)
        spans = united([span, *(span for span in more if span is not None)])
        self._hub = services.watches
        self._stream = WatchStream(None, listener=self)
        self._events: list[Event] = []
        self._compacted = 0
        self._change = asyncio.Event()
        self._hub.open(self._stream)
        self._hub.begin(self._hub.add(self._stream, 0, spans, 0, start_revision))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._hub.close(self._stream)

    async def next(self) -> list[Event]:
        """What has happened since the last call, at least one event.

        Raises Compacted, and TooManyRequests if too much was not taken in time.
        """
        while not self._events:
            if self._compacted:
                raise Compacted
            self._change.clear()
            await self._change.wait()
        if len(self._events) > EVENTS_MAX:
            raise TooManyRequests
        events, self._events = self._events, []
        return events

    # ── for the hub ─────────────────────────────────────────────────────────

    def heard(self, events: Sequence[Event]) -> None:
        if len(self._events) <= EVENTS_MAX:
            self._events += events
            self._change.set()

    def ended(self, compacted: int) -> None:
        self._compacted = compacted
        self._change.set()


async def until_deleted(services: Services, *keys: bytes, keyspace: int = 0) -> int:
    """Return once one of the keys, as this member has applied it, does not exist; the revision
    by then.
    """
    with Listening(services, keys[0], also=keys[1:], keyspace=keyspace) as listening:
        store = services.node.store
        if any(store.get_row(keyspace, key) is None for key in keys):
            return services.watches.revision
        while True:
            for event in await listening.next():
                if event.type == rows.DELETE:
                    return event.main
