"""A space alarm on a real cluster: what it refuses is in no log, and its end holds everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from chainfire.proto.maintenance_pb2 import NOSPACE, AlarmRequest, AlarmResponse
from tests.clusters import Cluster, Member
from tests.peers import need_chainfire

PUTS = 30
ROUNDS = 20
VALUE = b"v" * 100_000


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(need_chainfire(), tmp_path_factory.mktemp("alarms")) as made:
        yield made.start()


def raise_alarm(asked: Member, of: Member) -> None:
    request = AlarmRequest(action=AlarmRequest.ACTIVATE, memberID=of.id, alarm=NOSPACE)
    asked.call("Maintenance/Alarm", request, AlarmResponse)


def clear_alarms(asked: Member) -> None:
    request = AlarmRequest(action=AlarmRequest.DEACTIVATE, alarm=NOSPACE)
    asked.call("Maintenance/Alarm", request, AlarmResponse)


def is_refused(member: Member) -> bool:
    try:
        member.put(b"k", VALUE)
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
            raise
        return True
    return False


def log_bytes(member: Member) -> int:
    """What of its log's files holds something: those that wait to be used are made of zeros."""
    files = (Path(member.data_dir) / "log").iterdir()
    return sum(len(file.read_bytes().rstrip(b"\0")) for file in files)


def test_what_the_alarm_refuses_is_in_no_log(cluster: Cluster) -> None:
    alarmed = cluster.followers()[0]
    raise_alarm(alarmed, alarmed)
    cluster.wait_equal()
    before = [log_bytes(member) for member in cluster.members]
    for member in cluster.members:
        assert all(is_refused(member) for _ in range(PUTS))
    grown = [log_bytes(m) - b for m, b in zip(cluster.members, before, strict=True)]
    assert max(grown) < len(VALUE), grown


def test_who_has_heard_that_it_is_cleared_is_refused_nowhere(cluster: Cluster) -> None:
    """Also not by a member that has not applied that yet."""
    leader, followers = cluster.leader(), cluster.followers()
    clear_alarms(leader)
    for number in range(ROUNDS):
        asked = [leader, *followers][number % 3]
        raise_alarm(followers[0], leader)
        assert is_refused(asked)
        clear_alarms(leader)
        assert not is_refused(asked), number
