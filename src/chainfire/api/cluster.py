"""The Cluster service: who the members are, and changing that (etcd: v3rpc/member.go).

Checks stand in two places. What protects a quorum (`--strict-reconfig-check`)
and what only a leader knows is looked at here, on what this member knows, as
etcd does; what a change must fit to (ids, peer URLs, learners) is decided when
it is applied, in log order, on every member alike (`node/changing.py`).

Departure from etcd: an update's peer URLs are checked as an addition's are,
because other members would have to dial them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from chainfire.api.call import Call
from chainfire.api.maintenance import decode
from chainfire.api.services import Services
from chainfire.config.urls import BadValue, parse_url
from chainfire.errors import (
    LearnerNotReady,
    MemberBadUrls,
    MemberNotFound,
    NotEnoughStartedMembers,
    PeerUrlExists,
    RequestError,
    TooManyLearners,
    Unhealthy,
)
from chainfire.node.identity import member_id
from chainfire.proto.cluster_pb2 import (
    Member,
    MemberAddRequest,
    MemberAddResponse,
    MemberListRequest,
    MemberListResponse,
    MemberPromoteRequest,
    MemberPromoteResponse,
    MemberRemoveRequest,
    MemberRemoveResponse,
    MemberUpdateRequest,
    MemberUpdateResponse,
)
from chainfire.proto.kv_pb2 import LINEARIZABLE, LOCAL
from chainfire.raft.changes import ChangeKind, ChangeStep, ConfChange
from chainfire.types import Result

HEALTH_SECONDS: Final = 5.0  # etcd: HealthInterval
READY_SHARE: Final = 0.9  # of the leader's log, for a learner; etcd: readyPercentThreshold
_ChangeReply = MemberRemoveResponse | MemberUpdateResponse | MemberPromoteResponse


# ── MemberList ──────────────────────────────────────────────────────────────


def member_list(services: Services, call: Call) -> None:
    """As this member knows them; with `linearizable`, as the cluster does."""
    request = decode(MemberListRequest, call.request)
    call.resume = _member_list_ready
    level = LINEARIZABLE if request.linearizable else LOCAL
    services.node.read(level, 0, call.deadline, call)


def _member_list_ready(call: Call) -> None:
    _reply(call, MemberListResponse(members=_members(call.services)))


def _members(services: Services) -> list[Member]:
    members = services.node.machine.members
    return [members[id_] for id_ in sorted(members)]


def _reply(call: Call, reply: MemberListResponse | MemberAddResponse | _ChangeReply) -> None:
    call.reply(call.services.header(0) + reply.SerializeToString())


# ── MemberAdd ───────────────────────────────────────────────────────────────


def member_add(services: Services, call: Call) -> None:
    """A member that does not run yet. Refused with MemberBadUrls, PeerUrlExists, TooManyLearners.

    With `strict_reconfig_check` also with NotEnoughStartedMembers, Unhealthy.
    """
    request = decode(MemberAddRequest, call.request)
    urls = sorted(_peer_urls(request.peerURLs))  # as the id is made from them
    # As etcd: no token, but the time, so that a URL that comes back gets a new id.
    id_ = member_id(urls, "", added_at_unix_s=int(time.time()))
    added = Member(ID=id_, peerURLs=urls, isLearner=request.isLearner)
    _ensure_may_add(services, added)
    call.message = added
    call.then = _added
    kind = ChangeKind.ADD_LEARNER if request.isLearner else ChangeKind.ADD_VOTER
    change = ConfChange((ChangeStep(kind, id_),))
    services.node.propose_conf_change(change, [added], call)


def _added(call: Call, _: Result) -> None:
    _reply(call, MemberAddResponse(member=call.message, members=_members(call.services)))


def _peer_urls(texts: Iterable[str]) -> list[str]:
    """Raises MemberBadUrls."""
    try:
        urls = [str(parse_url(text)) for text in texts]
    except BadValue as exc:
        raise MemberBadUrls from exc
    if not urls:
        raise MemberBadUrls
    return urls


def _ensure_may_add(services: Services, added: Member) -> None:
    members = services.node.machine.members
    voters = _voters(members)
    if services.limits.strict_reconfig_check:
        started = sum(_is_started(member) for member in voters)
        is_second = started == 1 and len(voters) == 1  # a cluster of one may grow
        if not added.isLearner and not is_second and started < (len(voters) + 1) // 2 + 1:
            raise NotEnoughStartedMembers
        if _connected(services, voters) < len(voters):
            raise Unhealthy
    if added.isLearner:
        taken = {url for member in members.values() for url in member.peerURLs}
        if not taken.isdisjoint(added.peerURLs):
            raise PeerUrlExists
        learners = len(members) - len(voters)
        if learners + 1 > services.limits.max_learners:
            raise TooManyLearners


# ── MemberRemove, MemberUpdate, MemberPromote ───────────────────────────────


def member_remove(services: Services, call: Call) -> None:
    """Refused with MemberNotFound, and as `member_add` where a quorum would be in danger."""
    id_ = decode(MemberRemoveRequest, call.request).ID
    if services.limits.strict_reconfig_check:
        _ensure_may_remove(services, id_)
    _change(services, call, ChangeKind.REMOVE, id_, (), MemberRemoveResponse)


def _ensure_may_remove(services: Services, id_: int) -> None:
    node = services.node
    members = node.machine.members
    member = members.get(id_)
    if member is not None and member.isLearner:
        return
    voters = _voters(members)
    staying = [voter for voter in voters if id_ != voter.ID]
    started = sum(_is_started(voter) for voter in staying)
    if not staying or started < len(staying) // 2 + 1:
        raise NotEnoughStartedMembers
    if id_ != node.member_id and node.overview.connected_seconds(id_) is None:
        return  # who is not there is no part of the quorum that is at work
    if _connected(services, voters) - 1 < 1 + (len(voters) - 1) // 2:
        raise Unhealthy


def member_update(services: Services, call: Call) -> None:
    """Other peer URLs for a member. Refused with MemberBadUrls, MemberNotFound, PeerUrlExists."""
    request = decode(MemberUpdateRequest, call.request)
    moved = Member(ID=request.ID, peerURLs=_peer_urls(request.peerURLs))
    _change(services, call, ChangeKind.UPDATE, request.ID, [moved], MemberUpdateResponse)


def member_promote(services: Services, call: Call) -> None:
    """Refused with MemberNotFound, MemberNotLearner, LearnerNotReady, NotEnoughStartedMembers."""
    id_ = decode(MemberPromoteRequest, call.request).ID
    try:
        _ensure_may_promote(services, id_)
    except RequestError as error:
        failures = services.counters.promote_failures
        failures[error.text] = failures.get(error.text, 0) + 1
        raise
    _change(services, call, ChangeKind.ADD_VOTER, id_, (), MemberPromoteResponse)


def _ensure_may_promote(services: Services, id_: int) -> None:
    node = services.node
    if id_ not in node.machine.members:
        raise MemberNotFound
    matches = node.overview.match_indexes()
    if matches.get(id_, 0) < matches.get(node.leader_id, 1) * READY_SHARE:
        raise LearnerNotReady
    if services.limits.strict_reconfig_check:
        voters = _voters(node.machine.members)
        # The one that is promoted counts, and as started.
        started = 1 + sum(_is_started(voter) for voter in voters)
        if started < (1 + len(voters)) // 2 + 1:
            raise NotEnoughStartedMembers


def _change(
    services: Services,
    call: Call,
    kind: ChangeKind,
    id_: int,
    described: Sequence[Member],
    reply: type[_ChangeReply],
) -> None:
    call.message = reply
    call.then = _changed
    services.node.propose_conf_change(ConfChange((ChangeStep(kind, id_),)), described, call)


def _changed(call: Call, _: Result) -> None:
    call.services.counters.promoted += call.message is MemberPromoteResponse
    _reply(call, call.message(members=_members(call.services)))


# ── what the strict checks count ────────────────────────────────────────────


def _voters(members: Mapping[int, Member]) -> list[Member]:
    return [member for member in members.values() if not member.isLearner]


def _is_started(member: Member) -> bool:
    """It has published its name at least once."""
    return bool(member.name)


def _connected(services: Services, members: Iterable[Member]) -> int:
    """How many of them this member has been in contact with for a while; itself always."""
    mine, overview = services.node.member_id, services.node.overview
    return sum(
        mine == member.ID or (overview.connected_seconds(member.ID) or 0.0) >= HEALTH_SECONDS
        for member in members
    )
