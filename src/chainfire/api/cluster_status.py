"""The state of all members in one call, as the member that is asked last heard of them.

Members report about once a second (`node/reports.py`), so a healthy cluster's
answer is hardly older than that; who was not heard of for a while is told so.
"""

from __future__ import annotations

from collections import defaultdict

from chainfire.api.call import Call
from chainfire.api.maintenance import alarm_name, decode
from chainfire.api.services import Services
from chainfire.node.frames import Report
from chainfire.node.reports import LOST_MS, Heard
from chainfire.proto.cluster_pb2 import (
    ALARMED,
    FOLLOWER,
    HEALTHY,
    LEADER,
    LEADERLESS,
    LEARNER,
    SILENT,
    UNHEARD,
    UNKNOWN,
    ClusterStatusRequest,
    ClusterStatusResponse,
    Member,
    MemberHealth,
    MemberRole,
    MemberStatus,
)


def cluster_status(services: Services, call: Call) -> None:
    decode(ClusterStatusRequest, call.request)
    node = services.node
    own = Heard(node.overview.own_report(), 0, 0)
    heard = {**node.overview.reports(), node.member_id: own}
    commit_index = max(one.report.commit_index for one in heard.values())
    alarms: defaultdict[int, list[str]] = defaultdict(list)
    for alarm in node.machine.alarms:
        alarms[alarm.member_id].append(alarm_name(alarm.type))
    leader = node.leader_id
    members = [
        _status(member, heard.get(id_), leader, commit_index, alarms[id_])
        for id_, member in sorted(node.machine.members.items())
    ]
    reply = ClusterStatusResponse(
        leader=leader,
        commit_index=commit_index,
        healthy=bool(leader) and all(one.health == HEALTHY for one in members),
        members=members,
    )
    call.reply(services.header(node.machine.revision) + reply.SerializeToString())


def _status(
    member: Member, heard: Heard | None, leader: int, commit_index: int, alarms: list[str]
) -> MemberStatus:
    status = MemberStatus(member=member, alarms=alarms, health=_health(heard, alarms))
    if heard is not None:
        report = heard.report
        status.role = _role(member, report, leader)
        status.term = report.term
        status.commit_index = report.commit_index
        status.applied_index = report.applied_index
        status.lag = max(0, commit_index - report.applied_index)
        status.revision = report.revision
        status.db_size_in_use = report.in_use_bytes
        status.version = report.version
        status.age_ms = heard.age_ms
    return status


def _role(member: Member, report: Report, leader: int) -> MemberRole:
    if member.isLearner:
        return LEARNER
    if member.ID == leader == report.leader:
        return LEADER
    return FOLLOWER if report.term else UNKNOWN


def _health(heard: Heard | None, alarms: list[str]) -> MemberHealth:
    if heard is None:
        return UNHEARD
    if heard.age_ms > LOST_MS:
        return SILENT
    if alarms:
        return ALARMED
    return HEALTHY if heard.report.leader else LEADERLESS
