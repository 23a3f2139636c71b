"""The Cluster service and MoveLeader: etcd's checks, texts and answers."""

from __future__ import annotations

from typing import Any

import pytest

from chainfire.errors import (
    BadLeaderTransferee,
    LearnerNotReady,
    MemberBadUrls,
    MemberExists,
    MemberNotFound,
    MemberNotLearner,
    NoLeader,
    NotEnoughStartedMembers,
    NotLeader,
    PeerUrlExists,
    TooManyLearners,
    Unhealthy,
)
from chainfire.node.frames import Report
from chainfire.node.identity import member_id
from chainfire.node.reports import Heard
from chainfire.proto import cluster_pb2 as pb
from chainfire.proto.kv_pb2 import RangeRequest
from chainfire.proto.maintenance_pb2 import AlarmRequest, AlarmType, MoveLeaderRequest
from chainfire.types import ConfState
from tests.api.fake_node import MEMBER_ID, PEER_URL, Api

A, B = 10, 20


@pytest.fixture
def api() -> Api:
    """The fake member, started."""
    api = Api()
    api.node.machine.members[MEMBER_ID].name = "default"
    return api


def add(api: Api, *urls: str, learner: bool = False) -> Any:
    return api.do("Cluster.MemberAdd", pb.MemberAddRequest(peerURLs=urls, isLearner=learner))


def remove(api: Api, id_: int) -> Any:
    return api.do("Cluster.MemberRemove", pb.MemberRemoveRequest(ID=id_))


def promote(api: Api, id_: int) -> Any:
    return api.do("Cluster.MemberPromote", pb.MemberPromoteRequest(ID=id_))


def update(api: Api, id_: int, *urls: str) -> Any:
    return api.do("Cluster.MemberUpdate", pb.MemberUpdateRequest(ID=id_, peerURLs=urls))


def grow(api: Api, *ids: int, started: bool = True, connected: bool = True) -> None:
    """Voters beside the fake member, without asking anybody."""
    cluster = api.node.machine._cluster
    for id_ in ids:
        name = f"m{id_}" if started else ""
        cluster.members[id_] = pb.Member(ID=id_, name=name, peerURLs=[f"http://h:{id_}"])
        if connected:
            api.node.connected[id_] = 60.0
    cluster.conf_state = ConfState(voters=tuple(sorted(cluster.members)))


# ── adding ──────────────────────────────────────────────────────────────────


def test_a_member_that_is_added_is_unstarted_and_has_an_id_of_its_own(api: Api) -> None:
    reply = add(api, "http://127.0.0.1:9", "http://127.0.0.1:8")
    assert reply.member.peerURLs == ["http://127.0.0.1:8", "http://127.0.0.1:9"]
    assert (reply.member.name, reply.member.isLearner) == ("", False)
    assert member_id(reply.member.peerURLs, "") != reply.member.ID  # the time is in it
    assert sorted(member.ID for member in reply.members) == sorted([MEMBER_ID, reply.member.ID])
    assert reply.header.revision == 0
    assert api.node.machine.conf_state.voters == tuple(sorted([MEMBER_ID, reply.member.ID]))


def test_a_learner_does_not_vote(api: Api) -> None:
    reply = add(api, "http://127.0.0.1:9", learner=True)
    assert reply.member.isLearner
    assert api.node.machine.conf_state.learners == (reply.member.ID,)


@pytest.mark.parametrize(
    "urls", [[], ["127.0.0.1:1"], ["http://h"], ["http://h:1/x"], ["ftp://h:1"], ["http://h:1", ""]]
)
def test_urls_that_are_none_are_refused(api: Api, urls: list[str]) -> None:
    assert isinstance(add(api, *urls), MemberBadUrls)
    assert isinstance(update(api, MEMBER_ID, *urls), MemberBadUrls)
    assert api.node.changes == []


@pytest.mark.parametrize("learner", [False, True])
def test_a_url_that_is_taken_is_refused(api: Api, learner: bool) -> None:
    assert isinstance(add(api, PEER_URL, learner=learner), PeerUrlExists)


def test_a_second_learner_is_too_many(api: Api) -> None:
    add(api, "http://h:1", learner=True)
    assert isinstance(add(api, "http://h:2", learner=True), TooManyLearners)
    assert not isinstance(add(Api(max_learners=2), "http://h:2", learner=True), TooManyLearners)


def test_a_second_unstarted_voter_would_cost_the_quorum(api: Api) -> None:
    api.node.connected = {}
    first = add(api, "http://h:1").member.ID
    api.node.connected[first] = 60.0
    assert isinstance(add(api, "http://h:2"), NotEnoughStartedMembers)


@pytest.mark.parametrize("seconds", [None, 4.9])
def test_nobody_is_added_while_a_voter_is_not_there_for_long(
    api: Api, seconds: float | None
) -> None:
    grow(api, A, B)
    if seconds is None:
        del api.node.connected[A]
    else:
        api.node.connected[A] = seconds
    assert isinstance(add(api, "http://h:1"), Unhealthy)
    assert isinstance(add(api, "http://h:1", learner=True), Unhealthy)
    api.node.connected[A] = 5.0
    assert isinstance(add(api, "http://h:1"), pb.MemberAddResponse)


def test_without_the_strict_check_only_what_cannot_be_is_refused() -> None:
    api = Api(strict_reconfig_check=False)
    first, second = (add(api, f"http://h:{n}").member.ID for n in (1, 2))
    assert isinstance(remove(api, first), pb.MemberRemoveResponse)
    assert isinstance(remove(api, second), pb.MemberRemoveResponse)
    assert isinstance(remove(api, second), MemberNotFound)


# ── removing, moving, promoting ─────────────────────────────────────────────


def test_a_removed_member_is_gone_and_its_id_stays_so(api: Api) -> None:
    grow(api, A, B)
    reply = remove(api, A)
    assert [member.ID for member in reply.members] == [B, MEMBER_ID]
    assert isinstance(remove(api, A), MemberNotFound)
    assert api.node.machine.removed_members == {A}


def test_the_last_member_cannot_be_removed(api: Api) -> None:
    assert isinstance(remove(api, MEMBER_ID), NotEnoughStartedMembers)
    assert isinstance(remove(api, 7), MemberNotFound)


def test_removing_one_that_is_there_needs_a_quorum_of_the_others(api: Api) -> None:
    grow(api, A, B)
    del api.node.connected[B]
    assert isinstance(remove(api, A), Unhealthy)
    assert isinstance(remove(api, B), pb.MemberRemoveResponse)  # it does not count anyway


def test_removing_a_started_one_beside_unstarted_ones_is_refused(api: Api) -> None:
    grow(api, A, B, started=False)
    assert isinstance(remove(api, MEMBER_ID), NotEnoughStartedMembers)


def test_a_learner_may_always_be_removed(api: Api) -> None:
    learner = add(api, "http://h:1", learner=True).member.ID
    assert isinstance(remove(api, learner), pb.MemberRemoveResponse)


def test_an_update_moves_the_urls_and_keeps_the_rest(api: Api) -> None:
    learner = add(api, "http://h:1", learner=True).member.ID
    reply = update(api, learner, "http://h:3", "http://h:2")
    (moved,) = [member for member in reply.members if learner == member.ID]
    assert moved.peerURLs == ["http://h:3", "http://h:2"]  # in their order, as etcd
    assert moved.isLearner
    assert isinstance(update(api, 7, "http://h:4"), MemberNotFound)
    assert isinstance(update(api, learner, PEER_URL), PeerUrlExists)


def test_a_learner_is_promoted_once_it_has_caught_up(api: Api) -> None:
    learner = add(api, "http://h:1", learner=True).member.ID
    assert isinstance(promote(api, learner), LearnerNotReady)  # nothing is known of it
    api.node.matches = {MEMBER_ID: 100, learner: 89}
    assert isinstance(promote(api, learner), LearnerNotReady)
    api.node.matches[learner] = 90
    (promoted,) = [m for m in promote(api, learner).members if learner == m.ID]
    assert not promoted.isLearner
    assert isinstance(promote(api, learner), MemberNotLearner)
    assert isinstance(promote(api, 7), MemberNotFound)


def test_what_the_log_refuses_is_told() -> None:
    api = Api()
    api.node.refusal = MemberExists()
    assert isinstance(add(api, "http://h:1"), MemberExists)


# ── leadership ──────────────────────────────────────────────────────────────


def test_leadership_moves_from_the_leader_to_a_voter(api: Api) -> None:
    grow(api, A)
    assert api.do("Maintenance.MoveLeader", MoveLeaderRequest(targetID=A))
    assert (api.node.moved_to, api.node.leader_id) == (A, A)
    refused = api.do("Maintenance.MoveLeader", MoveLeaderRequest(targetID=MEMBER_ID))
    assert isinstance(refused, NotLeader)
    api.node.leader_id = MEMBER_ID
    unknown = api.do("Maintenance.MoveLeader", MoveLeaderRequest(targetID=7))
    assert isinstance(unknown, BadLeaderTransferee)


def test_with_hasleader_a_member_without_one_refuses(api: Api) -> None:
    api.node.leader_id = 0
    asked = api.do("KV.Range", RangeRequest(key=b"a"), (("hasleader", "true"),))
    assert isinstance(asked, NoLeader)


# ── the whole cluster's status ──────────────────────────────────────────────


def status(api: Api) -> pb.ClusterStatusResponse:
    call = api.start("/chainfire.v1.Cluster/ClusterStatus", pb.ClusterStatusRequest())
    (answer,) = call.answers
    return pb.ClusterStatusResponse.FromString(answer)


def report(leader: int = MEMBER_ID, applied: int = 40) -> Report:
    return Report(
        term=2,
        leader=leader,
        commit_index=50,
        applied_index=applied,
        revision=7,
        in_use_bytes=1000,
        version="3.7.1",
    )


def test_one_call_tells_of_every_member(api: Api) -> None:
    grow(api, A, B)
    api.node.heard = {A: Heard(report(), 300, 60_000), B: Heard(report(applied=50), 9000, 0)}
    found = status(api)
    assert (found.leader, found.commit_index, found.healthy) == (MEMBER_ID, 50, False)
    assert [member.member.ID for member in found.members] == [A, B, MEMBER_ID]
    a, b, me = found.members
    assert (a.role, a.health, a.lag, a.age_ms) == (pb.FOLLOWER, pb.HEALTHY, 10, 300)
    assert (a.term, a.revision, a.db_size_in_use, a.version) == (2, 7, 1000, "3.7.1")
    assert (b.role, b.health) == (pb.FOLLOWER, pb.SILENT)
    assert (me.role, me.health, me.lag) == (pb.LEADER, pb.HEALTHY, 50)
    assert found.header.member_id == MEMBER_ID


def test_who_was_never_heard_and_who_knows_no_leader_is_told(api: Api) -> None:
    grow(api, A, B)
    api.node.heard = {A: Heard(report(leader=0), 0, 0)}
    assert [member.health for member in status(api).members] == [
        pb.LEADERLESS,
        pb.UNHEARD,
        pb.HEALTHY,
    ]


def test_a_cluster_of_one_is_healthy_until_an_alarm(api: Api) -> None:
    assert status(api).healthy
    api.do(
        "Maintenance.Alarm",
        AlarmRequest(action=AlarmRequest.ACTIVATE, memberID=MEMBER_ID, alarm=AlarmType.NOSPACE),
    )
    found = status(api)
    assert not found.healthy
    assert (found.members[0].health, found.members[0].alarms) == (pb.ALARMED, ["NOSPACE"])
