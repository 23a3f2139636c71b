"""Maintenance, Cluster and Health over a real machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from chainfire.api import health
from chainfire.api.table import METHODS
from chainfire.errors import Corrupt, NoLeader, RequestError, StateDamaged, Unimplemented
from chainfire.proto.cluster_pb2 import MemberListRequest, MemberListResponse
from chainfire.proto.health_pb2 import (
    HealthCheckRequest,
    HealthCheckResponse,
    HealthListRequest,
    HealthListResponse,
)
from chainfire.proto.kv_pb2 import LINEARIZABLE, LOCAL, PutRequest
from chainfire.proto.maintenance_pb2 import (
    CORRUPT,
    NONE,
    NOSPACE,
    AlarmRequest,
    AlarmResponse,
    DefragmentRequest,
    DefragmentResponse,
    DowngradeRequest,
    DowngradeResponse,
    HashKVRequest,
    HashKVResponse,
    HashRequest,
    HashResponse,
    MoveLeaderRequest,
    MoveLeaderResponse,
    SnapshotResponse,
    StatusRequest,
    StatusResponse,
)
from tests.api.fake_node import CLIENT_URL, MEMBER_ID, PEER_URL, Api
from tests.api.streams import ProbeStream
from tests.node.running import until

RAISE = AlarmRequest(action=AlarmRequest.ACTIVATE, memberID=5, alarm=NOSPACE)


@pytest.fixture
def api() -> Api:
    return Api()


# ── Maintenance ─────────────────────────────────────────────────────────────


def test_status_of_a_fresh_member_has_a_size_and_no_errors(api: Api) -> None:
    reply = api.do("Maintenance.Status", StatusRequest())
    assert isinstance(reply, StatusResponse)
    assert reply.dbSize > 0
    assert (reply.version, reply.storageVersion) == ("3.7.1", "3.7.0")
    assert (reply.leader, reply.raftTerm, reply.header.revision) == (MEMBER_ID, 2, 1)
    assert (list(reply.errors), reply.isLearner) == ([], False)
    assert reply.dbSizeQuota == 2 * 1024**3
    assert reply.HasField("downgradeInfo")


def test_status_follows_the_data_and_lists_what_is_wrong(api: Api) -> None:
    before = api.do("Maintenance.Status", StatusRequest())
    api.do("KV.Put", PutRequest(key=b"a", value=b"v" * 1000))
    api.do("Maintenance.Alarm", RAISE)
    api.node.leader_id = 0
    reply = api.do("Maintenance.Status", StatusRequest())
    assert isinstance(before, StatusResponse)
    assert isinstance(reply, StatusResponse)
    assert reply.dbSizeInUse >= before.dbSizeInUse + 1000
    assert reply.dbSize >= reply.dbSizeInUse
    assert reply.raftAppliedIndex == before.raftAppliedIndex + 2
    assert list(reply.errors) == ["etcdserver: no leader", "memberID:5 alarm:NOSPACE "]


def test_an_alarm_is_raised_listed_and_cleared(api: Api) -> None:
    raised = api.do("Maintenance.Alarm", RAISE)
    assert isinstance(raised, AlarmResponse)
    assert [(a.memberID, a.alarm) for a in raised.alarms] == [(5, NOSPACE)]
    for wanted, found in ((NONE, 1), (NOSPACE, 1), (CORRUPT, 0)):
        listed = api.do("Maintenance.Alarm", AlarmRequest(alarm=wanted))
        assert isinstance(listed, AlarmResponse)
        assert len(listed.alarms) == found
    clear = AlarmRequest(action=AlarmRequest.DEACTIVATE, memberID=5, alarm=NOSPACE)
    api.do("Maintenance.Alarm", clear)
    listed = api.do("Maintenance.Alarm", AlarmRequest())
    assert isinstance(listed, AlarmResponse)
    assert list(listed.alarms) == []


def test_listing_alarms_is_a_linearizable_read_and_writes_nothing(api: Api) -> None:
    api.do("Maintenance.Alarm", AlarmRequest())
    assert (api.node.proposed, api.node.levels) == ([], [LINEARIZABLE])


def test_defragment_nudges_the_engine_and_answers_at_once(api: Api) -> None:
    reply = api.do("Maintenance.Defragment", DefragmentRequest())
    assert isinstance(reply, DefragmentResponse)
    assert not reply.HasField("header")
    assert api.node.nudges == 1


def test_hashes_follow_the_data(api: Api) -> None:
    first = api.do("Maintenance.HashKV", HashKVRequest())
    chain = api.do("Maintenance.Hash", HashRequest())
    api.do("KV.Put", PutRequest(key=b"a"))
    second = api.do("Maintenance.HashKV", HashKVRequest())
    assert isinstance(first, HashKVResponse)
    assert isinstance(second, HashKVResponse)
    assert isinstance(chain, HashResponse)
    assert (second.hash_revision, second.compact_revision, second.header.revision) == (2, -1, 2)
    assert first.hash != second.hash
    old = api.do("Maintenance.HashKV", HashKVRequest(revision=1))
    assert isinstance(old, HashKVResponse)
    assert (old.hash, old.hash_revision, old.header.revision) == (first.hash, 1, 2)
    assert api.do("Maintenance.Hash", HashRequest()) != chain


def test_moving_the_leader_to_itself_is_done(api: Api) -> None:
    reply = api.do("Maintenance.MoveLeader", MoveLeaderRequest(targetID=MEMBER_ID))
    assert isinstance(reply, MoveLeaderResponse)
    assert not reply.HasField("header")


@pytest.mark.parametrize("version", ["3.6", "3.6.0", "3.6.17", "3.6.0-rc.1"])
def test_a_downgrade_by_one_minor_version_is_valid(api: Api, version: str) -> None:
    reply = api.do("Maintenance.Downgrade", DowngradeRequest(version=version))
    assert isinstance(reply, DowngradeResponse)
    assert reply.version == "3.7.0"


def test_a_downgrade_is_not_carried_out(api: Api) -> None:
    request = DowngradeRequest(action=DowngradeRequest.ENABLE, version="3.6")
    assert isinstance(api.do("Maintenance.Downgrade", request), Unimplemented)


# ── Cluster ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("linearizable", "level"), [(True, LINEARIZABLE), (False, LOCAL)])
def test_member_list_names_the_member_and_no_revision(
    api: Api, linearizable: bool, level: int
) -> None:
    reply = api.do("Cluster.MemberList", MemberListRequest(linearizable=linearizable))
    assert isinstance(reply, MemberListResponse)
    (member,) = reply.members
    assert (member.ID, member.name) == (MEMBER_ID, "default")
    assert (list(member.peerURLs), list(member.clientURLs)) == ([PEER_URL], [CLIENT_URL])
    assert (reply.header.member_id, reply.header.revision) == (MEMBER_ID, 0)
    assert api.node.levels == [level]


# ── Health ──────────────────────────────────────────────────────────────────


def health_call(api: Api, method: str, request: object) -> object:
    (answer,) = api.start(f"/grpc.health.v1.Health/{method}", request).answers
    return answer


def test_health_knows_the_whole_server_only(api: Api) -> None:
    serving = HealthCheckResponse(status=HealthCheckResponse.SERVING)
    assert health_call(api, "Check", HealthCheckRequest()) == serving.SerializeToString()
    unknown = health_call(api, "Check", HealthCheckRequest(service="x"))
    assert isinstance(unknown, RequestError)
    assert (unknown.code, unknown.message) == (5, "unknown service")
    listed = health_call(api, "List", HealthListRequest())
    assert isinstance(listed, bytes)
    assert dict(HealthListResponse.FromString(listed).statuses) == {"": serving}
    api.services.serving.set(False)
    stopping = HealthCheckResponse(status=HealthCheckResponse.NOT_SERVING)
    assert health_call(api, "Check", HealthCheckRequest()) == stopping.SerializeToString()


def test_a_health_watch_tells_every_change(api: Api) -> None:
    async def scene() -> list[int]:
        stream = ProbeStream([b""])
        task = asyncio.create_task(health.watch(api.services, stream))
        for serving in (False, False, True):
            await asyncio.sleep(0)
            api.services.serving.set(serving)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        return [HealthCheckResponse.FromString(body).status for body in stream.sent]

    serving, stopped = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
    assert asyncio.run(scene()) == [serving, stopped, serving]


# ── HTTP health ─────────────────────────────────────────────────────────────


def reason(api: Api, *excluded: str, serializable: bool = False) -> str:
    return asyncio.run(health.unhealthy_reason(api.services, excluded, serializable=serializable))


def test_health_is_lost_with_an_alarm_unless_it_is_excluded(api: Api) -> None:
    assert reason(api) == ""
    api.do("Maintenance.Alarm", RAISE)
    assert reason(api) == "ALARM NOSPACE"
    assert reason(api, "NOSPACE") == ""
    assert (api.services.counters.health_success, api.services.counters.health_failures) == (2, 1)


def test_health_needs_a_leader_unless_serializable(api: Api) -> None:
    api.node.leader_id = 0
    assert reason(api) == "RAFT NO LEADER"
    assert reason(api, serializable=True) == ""


def test_health_tells_why_a_read_failed(api: Api) -> None:
    api.node.refusal = NoLeader()
    assert reason(api) == "RANGE ERROR:etcdserver: no leader"


def test_a_read_that_takes_too_long_is_unhealthy() -> None:
    api = Api(request_timeout_seconds=0)
    api.node.held = True
    assert reason(api) == "RANGE ERROR:etcdserver: request timed out"


def test_a_corrupt_row_met_by_a_health_check_stops_the_member(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage = Corrupt("block 7")

    def broken(*_: object) -> None:
        raise damage

    monkeypatch.setattr(api.node.backend, "get", broken)
    assert reason(api) == "RANGE ERROR:etcdserver: server stopped"
    assert api.node.halted == [damage]


def verdict(api: Api, kind: str) -> health.Verdict:
    return asyncio.run(health.run_checks(api.services, kind, health.CHECKS[kind]))


def test_ready_when_every_check_is_ok(api: Api) -> None:
    assert verdict(api, "livez") == health.Verdict(True, "[+]serializable_read ok\n")
    assert verdict(api, "readyz").report == (
        "[+]data_corruption ok\n[+]serializable_read ok\n"
        "[+]linearizable_read ok\n[+]non_learner ok\n"
    )


def test_a_failed_check_says_why_and_is_counted(api: Api) -> None:
    corrupt = AlarmRequest(action=AlarmRequest.ACTIVATE, memberID=1, alarm=CORRUPT)
    api.do("Maintenance.Alarm", corrupt)
    api.node.leader_id = 0
    api.node.is_learner = True
    found = verdict(api, "readyz")
    assert found == health.Verdict(
        False,
        "[-]data_corruption failed: alarm activated: CORRUPT\n[+]serializable_read ok\n"
        "[-]linearizable_read failed: etcdserver: no leader\n"
        "[-]non_learner failed: not supported for learner\n",
    )
    counters = api.services.counters
    assert counters.checks["readyz", "non_learner"] == [1, 0]
    assert counters.checks_last["readyz", "serializable_read"] is True


# ── later issues ────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "path",
    [
        "/etcdserverpb.Auth/Authenticate",
    ],
)
def test_methods_to_come_say_so(api: Api, path: str) -> None:
    (error,) = api.start(path, b"").answers
    assert isinstance(error, Unimplemented)
    assert error.message == f"chainfire: {path} is not implemented yet"


def test_a_snapshot_of_a_damaged_state_ends_with_data_loss_and_stops_the_member(api: Api) -> None:
    class Archive:
        async def __aenter__(self) -> Archive:
            raise Corrupt("000007.sst: block checksum mismatch")

        async def __aexit__(self, *_: object) -> None: ...

    api.node.archive = Archive  # type: ignore[method-assign,assignment]
    path = "/etcdserverpb.Maintenance/Snapshot"
    stream = ProbeStream([], path)
    handler = METHODS[path].stream
    assert handler is not None

    async def scene() -> None:
        with pytest.raises(StateDamaged, match="ask another one"):
            await handler(api.services, stream)  # type: ignore[arg-type,misc]
        assert not api.node.halted  # the caller hears of it first
        await until(lambda: api.node.halted)

    asyncio.run(scene())
    assert stream.sent == [] and isinstance(api.node.halted[0], Corrupt)


def test_a_snapshot_comes_in_blobs_that_say_how_much_is_left(api: Api) -> None:
    class Archive:
        total_bytes = 7

        async def __aenter__(self) -> Archive:
            return self

        async def __aexit__(self, *_: object) -> None: ...

        async def pieces(self) -> AsyncIterator[bytes]:
            yield b"abc"
            yield b"defg"

    api.node.archive = Archive  # type: ignore[method-assign,assignment]
    path = "/etcdserverpb.Maintenance/Snapshot"
    stream = ProbeStream([], path)
    handler = METHODS[path].stream
    assert handler is not None
    asyncio.run(handler(api.services, stream))  # type: ignore[arg-type]
    replies = [SnapshotResponse.FromString(body) for body in stream.sent]
    assert [(r.blob, r.remaining_bytes) for r in replies] == [(b"abc", 4), (b"defg", 0)]
    assert {r.version for r in replies} == {"3.7.0"}
