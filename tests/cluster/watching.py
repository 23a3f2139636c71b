"""Clients that watch members under faults, and resume where they were.

One stream at a time, with one or more watches in it; what each was told goes to the record. Tastes
differ: patient ones stay until the stream breaks, others move on; slow ones stop reading until
they are behind; some begin again in the past, and may be told that it is compacted.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import grpc

from chainfire.proto import watch_pb2 as pb
from chainfire.proto.kv_pb2 import Event
from chainfire.sim.history import Revision, Violation, Watch
from tests.cluster.judging import Heard
from tests.cluster.wire import change_of

if TYPE_CHECKING:
    from tests.cluster.scene import Scene

PATH = "/etcdserverpb.Watch/Watch"
ALL = (b"\0", b"\0")
REQUIRES_LEADER = (("hasleader", "true"),)


@dataclass(slots=True)
class Taste:
    ranges: list[tuple[bytes, bytes]]
    patient: bool = False
    slow: bool = False
    looks_back: int = 0  # revisions: how far it may begin again in the past
    prev_kv: bool = False
    fragment: bool = False
    filters: tuple[int, ...] = ()
    progress_notify: bool = False
    requires_leader: bool = False
    member: int | None = None  # None: any


@dataclass(slots=True)
class Tally:
    """How much has come so far, to be held against the floors."""

    events: int = 0
    broken: int = 0  # streams, by faults
    compacted: int = 0
    progress: int = 0
    fragments: int = 0
    cancelled: int = 0


class Watcher:
    def __init__(self, scene: Scene, number: int, taste: Taste, tally: Tally) -> None:
        self._scene = scene
        self._number = number
        self._taste = taste
        self._tally = tally
        self._dice = random.Random(number)
        # The revision to go on from; 0: now. A recorder begins with the first.
        self._next = {span: int(span == ALL) for span in taste.ranges}
        self._open: dict[int, Heard] = {}  # of the stream under way, by watch id
        self._parts: dict[int, list[bytes]] = {}
        self._resumes = False  # a watch was ended by a compaction
        self.bookmark = 0  # all watches of the stream have heard of everything up to here

    async def run(self) -> None:
        scene = self._scene
        while not scene.is_over:
            member = self._taste.member
            if member is None:
                member = self._dice.randrange(len(scene.channels))
            channel = scene.slow_channels if self._taste.slow else scene.channels
            await self._stream(member, channel[member])
            await asyncio.sleep(0.02)

    @property
    def has_heard_all(self) -> bool:
        return len(self._open) == len(self._taste.ranges) and self.bookmark >= self._scene.top

    # ── a stream ────────────────────────────────────────────────────────────

    async def _stream(self, member: int, channel: grpc.aio.Channel) -> None:
        taste = self._taste
        metadata = REQUIRES_LEADER if taste.requires_leader else ()
        call = channel.stream_stream(PATH)(metadata=metadata)
        asking = asyncio.create_task(self._ask(call, member))
        try:
            while not self._resumes and (body := await call.read()) is not grpc.aio.EOF:
                self._hear(body)
                if taste.slow and not self._scene.is_ending and self._dice.random() < 0.02:
                    await asyncio.sleep(self._dice.random() * 3)
        except grpc.aio.AioRpcError:
            self._tally.broken += 1
        except asyncio.CancelledError:  # by `_ask`, or the whole scene is
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
        finally:
            asking.cancel()
            call.cancel()
            record = self._scene.record
            kept = record.live if self._scene.is_over else record.ended
            kept += self._open.values()
            self._open, self._parts, self._resumes, self.bookmark = {}, {}, False, 0

    async def _ask(self, call: Any, member: int) -> None:
        """Create the watches, ask for progress now and then, and leave after a while."""
        scene, taste, dice = self._scene, self._taste, self._dice
        try:
            for watch_id, span in enumerate(taste.ranges, 1):
                await call.write(self._create(watch_id, span, member))
            leaves_at = time.monotonic() + dice.uniform(1, 8)
            while not scene.is_over:
                await asyncio.sleep(0.1 if scene.is_ending else dice.uniform(0.1, 0.6))
                await call.write(pb.WatchRequest(progress_request={}).SerializeToString())
                if not taste.patient and not scene.is_ending and time.monotonic() > leaves_at:
                    if dice.random() < 0.5:
                        cancel: Any = {"watch_id": 1}
                        await call.write(pb.WatchRequest(cancel_request=cancel).SerializeToString())
                        await asyncio.sleep(0.3)
                    break
            call.cancel()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # it is over; who reads hears so

    def _create(self, watch_id: int, span: tuple[bytes, bytes], member: int) -> bytes:
        taste, start = self._taste, self._next[span]
        if start and taste.looks_back and not self._scene.is_ending:
            start = max(1, start - self._dice.randrange(taste.looks_back))
        watch = Watch(self._number, member, *span, start)
        watch.want_prev = taste.prev_kv
        watch.no_puts = pb.WatchCreateRequest.NOPUT in taste.filters
        watch.no_deletes = pb.WatchCreateRequest.NODELETE in taste.filters
        self._open[watch_id] = Heard(watch)
        create: Any = {
            "key": span[0],
            "range_end": span[1],
            "start_revision": start,
            "watch_id": watch_id,
            "prev_kv": taste.prev_kv,
            "fragment": taste.fragment,
            "progress_notify": taste.progress_notify,
            "filters": taste.filters,
            "reasons": span == ALL,
        }
        return pb.WatchRequest(create_request=create).SerializeToString()

    # ── what is told ────────────────────────────────────────────────────────

    def _hear(self, body: bytes) -> None:
        response = pb.WatchResponse.FromString(body)
        if response.watch_id == -1 and not response.canceled:  # progress of the whole stream
            for watch_id in self._open:
                self._note(watch_id, [body], response)
            self.bookmark = max(self.bookmark, response.header.revision)
            return
        watch_id = response.watch_id
        heard = self._open.get(watch_id)
        if heard is None:
            raise Violation(f"told of a watch that is no more: {response}")
        if response.created:
            heard.asked.created = response.header.revision
            self._go_on(heard, response.header.revision + 1, if_unset=True)
        elif response.fragment:
            self._parts.setdefault(watch_id, []).append(body)
            self._tally.fragments += 1
        else:
            self._note(watch_id, [*self._parts.pop(watch_id, ()), body], response)

    def _note(self, watch_id: int, parts: list[bytes], response: pb.WatchResponse) -> None:
        heard, count = self._open[watch_id], self._tally
        if response.canceled and not response.compact_revision:
            count.cancelled += 1
            self._end(watch_id)
            return
        heard.responses.append(parts)
        if response.compact_revision:
            count.compacted += 1
            self._next[heard.asked.key, heard.asked.end] = response.compact_revision
            self._resumes = True
            self._end(watch_id)
        elif response.events:
            count.events += len(response.events)
            self._go_on(heard, response.events[-1].kv.mod_revision + 1)
            if (heard.asked.key, heard.asked.end) == ALL:
                self._scene.record_feed(_revisions(parts))
        else:
            count.progress += 1
            self._go_on(heard, response.header.revision + 1)

    def _go_on(self, heard: Heard, revision: int, *, if_unset: bool = False) -> None:
        span = heard.asked.key, heard.asked.end
        if not (if_unset and self._next[span]):
            self._next[span] = max(self._next[span], revision)

    def _end(self, watch_id: int) -> None:
        self._scene.record.ended.append(self._open.pop(watch_id))


def _revisions(parts: list[bytes]) -> list[Revision]:
    found = []
    events = [event for part in parts for event in pb.WatchResponse.FromString(part).events]
    for main, group in groupby(events, lambda event: event.kv.mod_revision):
        its = list(group)
        by_lease = its[0].reason in (Event.LEASE_EXPIRED, Event.LEASE_REVOKED)
        found.append(Revision(main, tuple(map(change_of, its)), by_lease))
    return found
