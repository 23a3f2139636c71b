"""What a leader owes is owed until it is done, whatever becomes of one proposal."""

from __future__ import annotations

import pytest

from chainfire.command import CommandKind
from chainfire.errors import InvalidArgument, TooManyRequests
from chainfire.mvcc.state import NEVER
from chainfire.node.duties import INVALID_PAUSE_MS, REFUSED_PAUSE_MS, Duty
from chainfire.proto.command_pb2 import CompactionFinished
from chainfire.proto.kv_pb2 import CompactionRequest
from chainfire.proto.maintenance_pb2 import NOSPACE
from chainfire.types import AckResult, Alarm
from tests.node.world import ME, PLENTY, World


class Once:
    """An auto-compactor that names one target, once."""

    def __init__(self, target: int) -> None:
        self.target: int | None = target

    def due(self, now_ms: int, revision: int) -> int | None:
        target, self.target = self.target, None
        return target


def settled(auto_compactor: Once | None = None) -> World:
    """A leader with five revisions and nothing else to do."""
    world = World(auto_compactor=None).lead()
    world.tick(1)
    for number in range(5):
        world.put(b"k", b"%d" % number)
        world.settle()
    assert world.machine.store.keyspace(0).compacted == NEVER, "nobody has asked for it"
    world.driver.duties._settings = world.duty_settings(auto_compactor)
    return world


def due(world: World, now_ms: int, *, leader: bool = True) -> list[Duty]:
    return world.driver.duties.due(now_ms, leader=leader, free_bytes=PLENTY)


def test_a_decided_compaction_survives_a_refusal_and_waits_a_second() -> None:
    world = settled(Once(4))
    [duty] = due(world, 1000)
    assert CompactionRequest.FromString(duty.body).revision == 4
    assert due(world, 1100) == [], "one at a time"
    duty.refused(TooManyRequests())
    assert due(world, 1000 + REFUSED_PAUSE_MS) == []
    [again] = due(world, 1100 + REFUSED_PAUSE_MS)
    assert again.body == duty.body
    again.refused(TooManyRequests())
    world.tick(10_000)
    assert world.machine.store.keyspace(0).compacted == 4
    assert due(world, 20_000) == []


def test_a_decided_compaction_is_not_lost_while_another_one_is_under_way() -> None:
    world = settled(Once(3))
    [first] = due(world, 1000)
    world.driver.duties._settings = world.duty_settings(Once(5))
    assert due(world, 1100) == []
    first.done(AckResult(1))
    [second] = due(world, 1200)
    assert CompactionRequest.FromString(second.body).revision == 5


def test_what_a_compaction_freed_is_told_until_it_is_applied() -> None:
    world = settled(Once(4))
    world.tick(1000)
    duties = world.driver.duties
    duties.note_compaction_finished(4, 10)
    assert due(world, 2000, leader=False) == []
    [told] = due(world, 2100)
    assert told.kind == CommandKind.COMPACTION_FINISHED
    told.refused(TooManyRequests())
    [again] = due(world, 9000)
    assert CompactionFinished.FromString(again.body) == CompactionFinished(
        revision=4, freed_bytes=10
    )
    again.refused(TooManyRequests())
    world.tick(20_000)
    assert world.machine.store.keyspace(0).finished == 4
    assert due(world, 30_000) == []


def test_what_is_refused_as_invalid_is_told_and_not_tried_each_second(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = settled(Once(4))
    world.tick(1000)
    world.driver.duties.note_compaction_finished(4, 10**9)
    [told] = due(world, 2000)
    told.refused(InvalidArgument("1000000000 bytes cannot have been freed"))
    [record] = caplog.records
    assert record.__dict__["command"] == "compaction_finished"
    assert "cannot have been freed" in record.__dict__["detail"]
    assert due(world, 2000 + INVALID_PAUSE_MS - 1) == []
    assert due(world, 2000 + INVALID_PAUSE_MS)


def test_the_space_alarm_does_not_flap_at_the_border() -> None:
    world = settled()
    world.tick(1000, free_bytes=999)
    world.tick(2000, free_bytes=1001)
    assert list(world.machine.alarms) == [Alarm(ME, NOSPACE)]
    world.tick(3000, free_bytes=1125)
    assert list(world.machine.alarms) == []
