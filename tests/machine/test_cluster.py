"""Members, alarms, cluster version: what is in memory is what the rows say."""

from __future__ import annotations

import pytest

from chainfire.errors import InvalidArgument, MemberNotFound
from chainfire.machine import bootstrap
from chainfire.machine.cluster import Cluster
from chainfire.proto.cluster_pb2 import Member
from chainfire.proto.maintenance_pb2 import AlarmRequest, AlarmType
from chainfire.storage.backend import STATE_FAMILIES
from chainfire.storage.memory import MemoryBackend
from chainfire.storage.staged import Staged
from chainfire.types import Alarm, ConfState

GET, ACTIVATE, DEACTIVATE = AlarmRequest.GET, AlarmRequest.ACTIVATE, AlarmRequest.DEACTIVATE
NONE, NOSPACE, CORRUPT = AlarmType.NONE, AlarmType.NOSPACE, AlarmType.CORRUPT


def member(member_id: int, name: str = "", learner: bool = False) -> Member:
    return Member(ID=member_id, name=name, peerURLs=[f"http://{member_id}"], isLearner=learner)


class Fixture:
    """A cluster over memory; `reopened` reads it back from the rows that were staged."""

    def __init__(self) -> None:
        backend = MemoryBackend(STATE_FAMILIES)
        bootstrap(backend, [member(1, "a"), member(2)], ConfState((1, 2)), "3.7.0")
        self.staged = Staged(backend)
        self.cluster = Cluster(self.staged)

    def reopened(self) -> Cluster:
        return Cluster(self.staged)

    def alarm(self, action: AlarmRequest.AlarmAction, member_id: int, type: int) -> list[Alarm]:
        request = AlarmRequest(action=action, memberID=member_id)
        request.alarm = type  # type: ignore[assignment]
        answer = self.cluster.apply_alarm(request, self.staged)
        assert self.reopened().alarms == self.cluster.alarms
        return answer


def test_alarms_are_raised_listed_and_cleared() -> None:
    f = Fixture()
    assert f.alarm(ACTIVATE, 2, NOSPACE) == [Alarm(2, NOSPACE)]
    assert f.alarm(ACTIVATE, 2, NOSPACE) == [Alarm(2, NOSPACE)], "raising again changes nothing"
    assert f.alarm(ACTIVATE, 1, CORRUPT) == [Alarm(1, CORRUPT)]
    assert f.alarm(GET, 0, NONE) == [Alarm(1, CORRUPT), Alarm(2, NOSPACE)]
    assert f.alarm(GET, 0, NOSPACE) == [Alarm(2, NOSPACE)]
    assert f.alarm(DEACTIVATE, 1, NOSPACE) == [], "another member's"
    assert f.alarm(DEACTIVATE, 2, NOSPACE) == [Alarm(2, NOSPACE)]
    assert f.alarm(GET, 0, NONE) == [Alarm(1, CORRUPT)]


def test_member_zero_clears_an_alarm_type_on_all_members() -> None:
    f = Fixture()
    f.alarm(ACTIVATE, 2, NOSPACE)
    f.alarm(ACTIVATE, 1, NOSPACE)
    f.alarm(ACTIVATE, 1, CORRUPT)
    assert f.alarm(DEACTIVATE, 0, NOSPACE) == [Alarm(1, NOSPACE), Alarm(2, NOSPACE)]
    assert f.cluster.alarms == {Alarm(1, CORRUPT)}


@pytest.mark.parametrize("action", [ACTIVATE, DEACTIVATE])
def test_no_alarm_is_raised_or_cleared_by_type_none(action: AlarmRequest.AlarmAction) -> None:
    f = Fixture()
    f.alarm(ACTIVATE, 1, CORRUPT)
    assert f.alarm(action, 1, NONE) == []
    assert f.cluster.alarms == {Alarm(1, CORRUPT)}


@pytest.mark.parametrize(("action", "type"), [(ACTIVATE, 3), (DEACTIVATE, 300), (7, NOSPACE)])
def test_unknown_alarm_types_and_actions_are_invalid(action: int, type: int) -> None:
    with pytest.raises(InvalidArgument):
        Fixture().alarm(action, 1, type)  # type: ignore[arg-type]


def test_a_member_publishes_its_name_and_client_urls_and_nothing_else() -> None:
    f = Fixture()
    f.cluster.set_attributes(
        Member(ID=2, name="b", clientURLs=["http://c"], peerURLs=["http://x"]), f.staged
    )
    expected = Member(ID=2, name="b", clientURLs=["http://c"], peerURLs=["http://2"])
    assert f.cluster.members[2] == f.reopened().members[2] == expected
    with pytest.raises(MemberNotFound):
        f.cluster.set_attributes(Member(ID=3, name="c"), f.staged)


@pytest.mark.parametrize("version", ["3.7", "v3.7.0", "3.07.0", "3.7.0-rc.1", "", "3.7.0\n"])
def test_a_cluster_version_has_three_numbers(version: str) -> None:
    f = Fixture()
    with pytest.raises(InvalidArgument):
        f.cluster.set_version(version, f.staged)
    f.cluster.set_version("3.10.0", f.staged)
    assert f.cluster.version == f.reopened().version == "3.10.0"


def test_a_configuration_adds_promotes_moves_and_removes_members() -> None:
    f = Fixture()

    def change(conf_state: ConfState, *described: Member) -> dict[int, Member]:
        f.cluster.apply_conf_change(conf_state, described, f.staged)
        again = f.reopened()
        assert (again.members, again.conf_state) == (f.cluster.members, conf_state)
        return again.members

    added = change(ConfState((1, 2), (3,)), member(3))
    assert added[3] == member(3, learner=True)
    f.cluster.set_attributes(Member(ID=3, name="c", clientURLs=["http://c"]), f.staged)
    promoted = change(ConfState((1, 2, 3)))
    assert (promoted[3].isLearner, promoted[3].name) == (False, "c")
    moved = change(ConfState((1, 2, 3)), Member(ID=3, peerURLs=["http://new"]))
    assert (moved[3].name, moved[3].peerURLs, moved[3].clientURLs) == (
        "c",
        ["http://new"],
        ["http://c"],
    )
    leaving = change(ConfState((2, 3), voters_outgoing=(1, 2, 3), auto_leave=True))
    assert sorted(leaving) == [1, 2, 3], "an outgoing voter is a member until the end"
    assert sorted(change(ConfState((2, 3)))) == [2, 3]


def test_a_removed_id_is_remembered_for_good() -> None:
    f = Fixture()
    f.cluster.apply_conf_change(ConfState((1,)), (), f.staged)
    assert f.cluster.removed == f.reopened().removed == {2}
