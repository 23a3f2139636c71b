"""What all members agree on beside the data: members, configuration, alarms, cluster version.

Every change goes to the staged rows and to the copy here at once; the machine
writes the rows with the rest of the batch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import chain
from typing import Final

from chainfire.errors import CorruptCluster, InvalidArgument, MemberNotFound, NoSpace
from chainfire.machine import rows
from chainfire.proto.cluster_pb2 import Member
from chainfire.proto.maintenance_pb2 import AlarmRequest, AlarmType
from chainfire.storage.backend import Reader, Writer
from chainfire.types import Alarm, ConfState

_VERSION: Final = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)", re.ASCII)
_ALARM_TYPES: Final = (AlarmType.NOSPACE, AlarmType.CORRUPT)


class Cluster:
    """The replicated facts about the cluster. `members` by id; treat the messages as frozen."""

    __slots__ = ("alarms", "changes", "conf_state", "members", "removed", "version")

    def __init__(self, reader: Reader) -> None:
        """Read the rows. Raises Damaged, Corrupt or UnknownFormat."""
        self.changes = 0  # of `members`, counted
        self.members: dict[int, Member] = rows.read_members(reader)
        self.removed: set[int] = rows.read_removed(reader)  # ids that never come back
        self.alarms: set[Alarm] = rows.read_alarms(reader)
        self.conf_state = rows.decode_conf_state(rows.required(reader, rows.CONF_STATE))
        self.version = rows.decode_cluster_version(rows.required(reader, rows.CLUSTER_VERSION))

    @property
    def alarms_in_order(self) -> list[Alarm]:
        return _in_order(self.alarms)

    def ensure_allowed(self, *, grows: bool) -> None:
        """Raise what a data command is refused with while alarms are on.

        etcd: applierV3Capped, applierV3Corrupt.
        """
        if self._has_alarm(AlarmType.CORRUPT):
            raise CorruptCluster
        if grows and self._has_alarm(AlarmType.NOSPACE):
            raise NoSpace

    def _has_alarm(self, type: int) -> bool:
        return any(alarm.type == type for alarm in self.alarms)

    def apply_alarm(self, request: AlarmRequest, staged: Writer) -> list[Alarm]:
        """What the request is about: the alarms asked for, raised or cleared, in order.

        As etcd: raising what is raised, or clearing what is not, changes
        nothing. GET of NONE lists all; member 0 clears the type on all members.
        """
        if request.action == AlarmRequest.GET:
            wanted = [a for a in self.alarms if request.alarm in (AlarmType.NONE, a.type)]
            return _in_order(wanted)
        if request.alarm == AlarmType.NONE:
            return []
        if request.alarm not in _ALARM_TYPES:
            raise InvalidArgument(f"unknown alarm type {request.alarm}")
        if request.action == AlarmRequest.ACTIVATE:
            alarm = Alarm(request.memberID, request.alarm)
            self.alarms.add(alarm)
            staged.put("alarms", rows.alarm_key(alarm), rows.encode_alarm())
            return [alarm]
        if request.action == AlarmRequest.DEACTIVATE:
            cleared = _in_order(
                [
                    alarm
                    for alarm in self.alarms
                    if alarm.type == request.alarm and request.memberID in (0, alarm.member_id)
                ]
            )
            for alarm in cleared:
                self.alarms.remove(alarm)
                staged.delete("alarms", rows.alarm_key(alarm))
            return cleared
        raise InvalidArgument(f"unknown alarm action {request.action}")

    def set_version(self, version: str, staged: Writer) -> None:
        if not _VERSION.fullmatch(version):
            raise InvalidArgument(f"cluster version {version!r} is not like 3.7.0")
        self.version = version
        staged.put(rows.FAMILY, rows.CLUSTER_VERSION, rows.encode_cluster_version(version))

    def set_attributes(self, attributes: Member, staged: Writer) -> None:
        """A member's own word about its name and client URLs; the rest comes with the entry
        that changed the configuration."""
        known = self.members.get(attributes.ID)
        if known is None:
            raise MemberNotFound(f"member {attributes.ID:x}")
        member = Member(
            ID=known.ID,
            name=attributes.name,
            peerURLs=known.peerURLs,
            clientURLs=attributes.clientURLs,
            isLearner=known.isLearner,
        )
        self._put(member, staged)

    def apply_conf_change(
        self, conf_state: ConfState, described: Iterable[Member], staged: Writer
    ) -> None:
        """Take over a configuration that Raft has just entered.

        `described` are the members that are new or have new peer URLs. Who is in
        no part of the configuration is gone; who is a learner, the configuration
        says.
        """
        learners = {*conf_state.learners, *conf_state.learners_next}
        ids = sorted({*conf_state.voters, *conf_state.voters_outgoing, *learners})
        found = {member.ID: member for member in chain(self.members.values(), described)}
        assert found.keys() >= set(ids), (
            ids,
            sorted(found),
            "a member that nobody described",
        )
        for gone in sorted(self.members.keys() - set(ids)):
            del self.members[gone]
            self.changes += 1
            staged.delete("members", rows.member_key(gone))
            self.removed.add(gone)
            staged.put(rows.FAMILY, rows.removed_key(gone), rows.encode_removed())
        for member_id in ids:
            said, known = found[member_id], self.members.get(member_id)
            member = Member(
                ID=member_id,
                name=known.name if known and known.name else said.name,
                peerURLs=said.peerURLs,
                clientURLs=known.clientURLs if known else said.clientURLs,
                isLearner=member_id in learners,
            )
            if member != known:
                self._put(member, staged)
        self.conf_state = conf_state
        staged.put(rows.FAMILY, rows.CONF_STATE, rows.encode_conf_state(conf_state))

    def _put(self, member: Member, staged: Writer) -> None:
        self.changes += 1
        self.members[member.ID] = member
        staged.put("members", rows.member_key(member.ID), rows.encode_member(member))


def _in_order(alarms: Iterable[Alarm]) -> list[Alarm]:
    return sorted(alarms, key=lambda alarm: (alarm.member_id, alarm.type))
