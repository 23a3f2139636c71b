"""Clients that watch, lose their member, and resume.

A stream's responses arrive in order, a little later; a client that reads
slowly fills its outlet, and is heard out in the end. What was heard is noted
for `check_watch`, one Watch for each stream: whoever resumes begins a new one
where the last one ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from chainfire.proto import kv_pb2
from chainfire.proto import watch_pb2 as pb
from chainfire.proto.kv_pb2 import KeyValue
from chainfire.sim.clients import WIRE_US, World
from chainfire.sim.history import Event, Kv, Watch, WatchResponse
from chainfire.sim.member import SimMember
from chainfire.sim.schedule import MS, SECOND, Schedule, dice
from chainfire.types import Caster
from chainfire.watch.session import Session

SLOW_BYTES: Final = 300  # what a slow reader's outlet takes
FAST_BYTES: Final = 1 << 20
QUIET_US: Final = 2 * SECOND  # whoever hears of no event for that long has heard of all
_PAUSE_US: Final = 300 * MS


class _Stream:
    """A stream between a client and one life of a member. The session's Outlet."""

    address = 0

    def __init__(self, client: WatchClient, member: SimMember, watch: Watch, room: int) -> None:
        assert member.watches is not None
        self.caster: Caster | None = None
        self.watch = watch
        self.member = member
        self.life = member.life
        self._client = client
        self._schedule = client.world.schedule
        self.room = room
        self._last = 0  # when the latest response arrives
        self.session = Session(member.watches.hub, self)

    @property
    def is_open(self) -> bool:
        return self.member.life == self.life

    def post(self, body: bytes) -> None:
        self.room -= len(body)
        delay = WIRE_US + int(self._client.dice.random() * self._client.slowness_us)
        self._last = max(self._last + 1, self._schedule.now + delay)
        self._schedule.at(self._last, self._arrive, body)

    def _arrive(self, body: bytes) -> None:
        if self._client.stream is not self:
            return
        was_full = self.room <= 0
        self.room += len(body)
        if was_full and self.room > 0 and self.is_open:
            self.member.later(WIRE_US, self.session.room_again)
        self._client.heard(self.watch, pb.WatchResponse.FromString(body))


class WatchClient:
    """One watch at a time, from where the last one ended."""

    def __init__(self, world: World, id: int) -> None:
        self.id = id
        self.world = world
        self.dice = dice(world.shape.seed, f"watch {id}")
        self.stream: _Stream | None = None
        self.slowness_us = self.dice.choice((100, 100, 200 * MS))
        self.heard_at = 0  # of an event, last
        self._stopped = False
        self._next = self.dice.choice((0, 0, 1, 2, 50))  # revision to begin with
        everything = self.dice.random() < 0.5
        self._range = (b"\0", b"\0") if everything else (b"k01", b"k02\0")

    def start(self) -> None:
        self.world.schedule.after(int(_PAUSE_US * 2 * self.dice.random()), self._look)

    def stop(self) -> None:
        """Stay on the stream there is, and open another one if it ends."""
        self._stopped = True

    def died(self, member: SimMember) -> None:
        if self.stream is not None and self.stream.member is member:
            self.stream = None

    def _look(self) -> None:
        self.start()
        stream, roll = self.stream, self.dice.random()
        if stream is None:
            self._connect()
        elif roll < 0.3:
            ask = pb.WatchRequest(progress_request=pb.WatchProgressRequest())
            stream.member.later(WIRE_US, stream.session.request, ask)
        elif roll < 0.4 and not self._stopped:
            stream.member.later(WIRE_US, stream.session.close)
            self.stream = None

    def _connect(self) -> None:
        member = self.world.member_for(self.id, self.dice)
        if member is None or member.watches is None:
            return
        watch = Watch(self.id, member.id, *self._range, self._next)
        watch.want_prev, kind = self.dice.random() < 0.3, self.dice.random()
        watch.no_puts, watch.no_deletes = kind < 0.1, kind > 0.9
        self.world.history.watches.append(watch)
        room = self.dice.choice((FAST_BYTES, FAST_BYTES, SLOW_BYTES))
        self.stream = _Stream(self, member, watch, room)
        create = pb.WatchCreateRequest(
            key=watch.key,
            range_end=watch.end,
            start_revision=watch.start,
            prev_kv=watch.want_prev,
            filters=[pb.WatchCreateRequest.NOPUT] * watch.no_puts
            + [pb.WatchCreateRequest.NODELETE] * watch.no_deletes,
        )
        ask = pb.WatchRequest(create_request=create)
        member.later(WIRE_US, self.stream.session.request, ask)

    def heard(self, watch: Watch, response: pb.WatchResponse) -> None:
        revision = response.header.revision
        if response.created:
            watch.created = revision
            return
        events = tuple(map(_event, response.events))
        compacted = response.compact_revision
        now = self.world.schedule.now
        watch.responses.append(WatchResponse(now, revision, events, compacted))
        if compacted:
            self._next, self.stream = compacted, None
        elif events:
            self.heard_at = now
            self._next = events[-1].kv.mod + 1
        else:
            self._next = max(self._next, revision + 1)


def hear_out(schedule: Schedule, readers: Sequence[WatchClient], longest_us: int) -> None:
    """Go on until nobody has heard of an event for `QUIET_US`, or for `longest_us` altogether.

    How long a slow reader far behind takes depends on how far that is.
    """
    deadline, quiet_since = schedule.now + longest_us, schedule.now
    while schedule.now < min(quiet_since + QUIET_US, deadline):
        schedule.run_until(schedule.now + 200 * MS)
        quiet_since = max(quiet_since, *[reader.heard_at for reader in readers])


def _event(event: kv_pb2.Event) -> Event:
    prev = _kv(event.prev_kv) if event.HasField("prev_kv") else None
    return Event(_kv(event.kv), event.type == kv_pb2.Event.DELETE, prev)


def _kv(kv: KeyValue) -> Kv:
    return Kv(kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease)
