"""What a leader proposes by itself. Pure: asked once a tick, answers with commands.

    publish          a member's own name and client URLs, where the stored ones differ
    cluster version  where none is set or a member can do more
    auto-compaction  by `autocompact`
    compaction done  what a physical compaction freed
    space alarm      raised while the disk is nearly full, cleared by `quota`
    corrupt alarm    raised when this member has found that it differs, cleared when it does no more

A duty is wanted until the machine shows that it is done, and proposed again
only after its last proposal was answered; after a refusal, a second later.
What is refused as invalid is a mistake of ours that the next second does not
mend: it is logged, and tried again after a while.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

from chainfire import quota
from chainfire.command import BODY_NAMES, CommandKind
from chainfire.errors import InvalidArgument, RequestError
from chainfire.machine import Machine
from chainfire.mvcc.state import NEVER
from chainfire.node.autocompact import AutoCompactor
from chainfire.proto.cluster_pb2 import Member
from chainfire.proto.command_pb2 import ClusterVersionSet, CompactionFinished
from chainfire.proto.kv_pb2 import CompactionRequest
from chainfire.proto.maintenance_pb2 import CORRUPT, NOSPACE, AlarmRequest, AlarmType
from chainfire.types import Alarm, Result
from chainfire.version import CLUSTER_VERSION

REFUSED_PAUSE_MS = 1000
INVALID_PAUSE_MS = 600_000

log = logging.getLogger(__name__)


@dataclass(slots=True, frozen=True)
class DutySettings:
    name: str
    client_urls: tuple[str, ...]
    quota_bytes: int  # negative: no quota
    auto_clear_space_alarm: bool
    disk_reserve_bytes: int  # less free disk than this raises NOSPACE
    auto_compactor: AutoCompactor | None


class Duty:
    """A command of ours under way; it is its own Pending."""

    __slots__ = ("_owner", "body", "kind")

    def __init__(self, kind: int, body: bytes, owner: Duties) -> None:
        self.kind = kind
        self.body = body
        self._owner = owner

    @property
    def finished(self) -> bool:
        return False

    def done(self, result: Result) -> None:
        self._owner.done(self.kind)

    def refused(self, error: RequestError) -> None:
        self._owner.refused(self.kind, error)


class Duties:
    def __init__(self, member_id: int, machine: Machine, settings: DutySettings) -> None:
        self._member_id = member_id
        self._machine = machine
        self._settings = settings
        self._now_ms = 0
        self._open: set[int] = set()  # kinds that wait for an answer
        self._not_before_ms: dict[int, int] = {}  # kinds that were refused
        self.is_corrupt = False  # this member differs from the others
        self.is_sound_again = False  # it did, or its state was another one then
        self._finished: tuple[int, int] | None = None  # (revision, freed bytes)
        self._compact_to = NEVER  # what the auto-compactor has decided
        self._published: Member | None = None  # stored, and as it should be
        # Seen while the space alarm was up: only then is it ours to clear. One that is up at the
        # first look is from an earlier life, which may have died of the full disk.
        self._was_full: bool | None = None

    def note_compaction_finished(self, revision: int, freed_bytes: int) -> None:
        """This member's own physical compaction ended; the leader tells everybody."""
        self._finished = (revision, freed_bytes)

    def note_earlier_alarm(self) -> None:
        """An alarm of this member's was applied that an earlier life of it had asked for."""
        self._was_full = True

    def done(self, kind: int) -> None:
        self._open.discard(kind)

    def refused(self, kind: int, error: RequestError) -> None:
        self._open.discard(kind)
        pause_ms = REFUSED_PAUSE_MS
        if isinstance(error, InvalidArgument):
            pause_ms = INVALID_PAUSE_MS
            log.error(
                "a command of this member's own was refused as invalid",
                extra={"command": BODY_NAMES[kind], "detail": str(error)},
            )
        self._not_before_ms[kind] = self._now_ms + pause_ms

    def due(self, now_ms: int, *, leader: bool, free_bytes: int) -> list[Duty]:
        """Commands to propose now; `free_bytes` is what the disk has left."""
        self._now_ms = now_ms
        wanted = [*self._publish(), *self._corrupt(), *self._space(free_bytes)]
        if leader:
            wanted += [*self._version(), *self._compaction(now_ms)]
        due = [
            Duty(kind, body, self)
            for kind, body in wanted
            if kind not in self._open and self._not_before_ms.get(kind, 0) <= now_ms
        ]
        self._open.update(duty.kind for duty in due)
        return due

    def _publish(self) -> Iterator[tuple[int, bytes]]:
        stored = self._machine.members.get(self._member_id)
        settings = self._settings
        if stored is None or stored is self._published:
            return
        if stored.name == settings.name and tuple(stored.clientURLs) == settings.client_urls:
            self._published = stored
            return
        mine = Member(ID=self._member_id, name=settings.name, clientURLs=settings.client_urls)
        yield CommandKind.MEMBER_ATTRIBUTES_SET, mine.SerializeToString()

    def _version(self) -> Iterator[tuple[int, bytes]]:
        # One version so far; with several it is the minimum over the members.
        if self._machine.cluster_version != CLUSTER_VERSION:
            body = ClusterVersionSet(version=CLUSTER_VERSION)
            yield CommandKind.CLUSTER_VERSION_SET, body.SerializeToString()

    def _compaction(self, now_ms: int) -> Iterator[tuple[int, bytes]]:
        space = self._machine.store.keyspace(0)
        if self._finished is not None:
            revision, freed = self._finished
            if revision > space.finished:
                body = CompactionFinished(revision=revision, freed_bytes=freed)
                yield CommandKind.COMPACTION_FINISHED, body.SerializeToString()
            else:
                self._finished = None
        # A compactor names a target once, and the next one only minutes later.
        if self._settings.auto_compactor is not None:
            target = self._settings.auto_compactor.due(now_ms, self._machine.revision)
            self._compact_to = max(self._compact_to, NEVER if target is None else target)
        if self._compact_to > space.compacted:
            request = CompactionRequest(revision=self._compact_to)
            yield CommandKind.COMPACT, request.SerializeToString()

    def has_alarm(self, alarm: AlarmType) -> bool:
        """Whether this member's is raised."""
        alarms = self._machine.alarms
        return bool(alarms) and Alarm(self._member_id, alarm) in alarms

    def is_first_with(self, alarm: AlarmType) -> bool:
        """Whether it is raised here, and by no member with a lower id."""
        raised = [a.member_id for a in self._machine.alarms if a.type == alarm]
        there = self._machine.members.keys() & set(raised)
        return min(there, default=0) == self._member_id

    def _corrupt(self) -> Iterator[tuple[int, bytes]]:
        raised = self.has_alarm(CORRUPT)
        if self.is_corrupt and not raised:
            yield self._alarm(AlarmRequest.ACTIVATE, CORRUPT)
        elif raised and self.is_sound_again and not self.is_corrupt:
            yield self._alarm(AlarmRequest.DEACTIVATE, CORRUPT)

    def _space(self, free_bytes: int) -> Iterator[tuple[int, bytes]]:
        settings, machine = self._settings, self._machine
        raised = self.has_alarm(NOSPACE)
        reserve = settings.disk_reserve_bytes
        if self._was_full is None:
            self._was_full = raised
        if not raised:
            is_full = free_bytes < reserve
            # What we have asked for is ours, even if there is room again when it is applied.
            self._was_full = is_full or CommandKind.ALARM in self._open
            if is_full:
                yield self._alarm(AlarmRequest.ACTIVATE, NOSPACE)
            return
        has_room = (
            free_bytes >= reserve + reserve // 8  # or it would flap at the border
            and quota.should_clear(machine.usage(0), settings.quota_bytes)
        )
        # An alarm that somebody raised by hand, with room to spare, stays until he clears it.
        self._was_full = self._was_full or not has_room
        if has_room and self._was_full and settings.auto_clear_space_alarm:
            yield self._alarm(AlarmRequest.DEACTIVATE, NOSPACE)

    def _alarm(self, action: AlarmRequest.AlarmAction, alarm: AlarmType) -> tuple[int, bytes]:
        request = AlarmRequest(action=action, memberID=self._member_id, alarm=alarm)
        return CommandKind.ALARM, request.SerializeToString()
