"""Plain commands are answered when committed, with the result that the apply then has."""

from __future__ import annotations

import pytest

from chainfire.command import CommandKind
from chainfire.errors import Stopped, SyncFailed
from chainfire.proto.command_pb2 import LeaseGrant
from chainfire.proto.kv_pb2 import (
    LINEARIZABLE,
    LOCAL,
    SERIALIZABLE,
    DeleteRangeRequest,
    PutRequest,
    RequestOp,
    TxnRequest,
)
from chainfire.proto.maintenance_pb2 import NOSPACE, AlarmRequest
from chainfire.types import AckResult, DeleteResult, PutResult, TxnResult
from tests.node.world import ME, Caller, World, deliver

native = pytest.importorskip("chainfire_native", reason="chainfire-native is not installed")
if not hasattr(native, "stage_plain"):
    pytest.skip("this chainfire-native is older than the codec", allow_module_level=True)


def leading() -> World:
    """With one put applied: its sender is known."""
    world = World().lead()
    world.put(b"first")
    world.settle()
    return world


def committed(world: World) -> None:
    """Durable, and so committed; the turn that applies it is still to come."""
    world.sync(world.turn())


def test_a_plain_put_is_answered_before_it_is_applied_and_after_it_is_durable() -> None:
    world = leading()
    caller = world.put(b"k")
    effects = world.turn()
    assert not caller.answered
    world.sync(effects)
    assert caller.result == PutResult(revision=3)
    assert world.machine.revision == 2
    world.driver.let_go()
    effects = world.turn()
    assert world.machine.revision == 3
    assert not (effects.stalled or effects.more or effects.answers)


@pytest.mark.parametrize("level", [LINEARIZABLE, SERIALIZABLE, LOCAL])
def test_a_read_behind_an_early_answer_sees_what_was_answered(level: int) -> None:
    world = leading()
    world.put(b"k")
    committed(world)
    assert world.machine.revision == 2
    assert world.read(level).may_read and world.machine.revision == 3


@pytest.mark.parametrize("level", [LINEARIZABLE, SERIALIZABLE])
def test_a_read_behind_what_is_not_certain_waits_for_the_apply(level: int) -> None:
    world = leading()
    world.put(b"k")
    body = PutRequest(key=b"first", prev_kv=True).SerializeToString()
    world.driver.propose(CommandKind.PUT, body, Caller())
    committed(world)
    reader, local = world.read(level), world.read(LOCAL)
    assert not reader.answered and local.may_read
    effects = world.turn()
    assert reader.may_read and world.machine.revision == 4
    assert not effects.more


def test_what_is_proposed_between_answer_and_apply_is_not_refused() -> None:
    world = leading()
    world.put(b"k")
    committed(world)
    caller = world.put(b"l")
    world.settle()
    assert caller.result == PutResult(revision=4)


def test_a_delete_a_transaction_and_a_grant_are_answered_early_too() -> None:
    world = leading()
    txn = TxnRequest(success=[RequestOp(request_put=PutRequest(key=b"k"))])
    delete = DeleteRangeRequest(key=b"first")
    for kind, body, result in (
        (CommandKind.TXN, txn, TxnResult(3, True, [PutResult(3)])),
        (CommandKind.DELETE_RANGE, delete, DeleteResult(4, 1, [])),
        (CommandKind.LEASE_GRANT, LeaseGrant(id=5, ttl_ms=1000), AckResult(4)),
    ):
        caller = Caller()
        world.driver.propose(kind, body.SerializeToString(), caller)
        committed(world)
        assert caller.result == result and world.machine.revision == 2
    world.settle()
    assert world.machine.revision == 4


def foretold(world: World) -> None:
    """As `committed`; what may be told is worked out before the sync."""
    effects = world.turn()
    world.driver.foretell()
    world.sync(effects)


def test_what_is_worked_out_before_the_sync_is_told_after_it() -> None:
    world = leading()
    caller, revisions = world.put(b"k"), []
    effects = world.turn()
    world.driver.foretell()
    assert not caller.answered
    world.sync(effects)
    assert caller.result == PutResult(revision=3) and world.machine.revision == 2
    for key in (b"first", b"k", b"l"):
        delete = Caller()
        body = DeleteRangeRequest(key=key).SerializeToString()
        world.driver.propose(CommandKind.DELETE_RANGE, body, delete)
        behind = world.put(b"behind")
        foretold(world)
        world.settle()
        assert behind.result is not None
        revisions.append((delete.result, behind.result.revision))
    assert revisions == [
        (DeleteResult(4, 1, []), 5),
        (DeleteResult(6, 1, []), 7),
        (DeleteResult(7, 0, []), 8),
    ]
    assert world.machine.revision == 8


def test_what_was_worked_out_and_never_came_is_told_to_nobody() -> None:
    world = leading()
    caller = world.put(b"k")
    effects = world.turn()
    world.driver.foretell()
    world.log.fail_next_sync()
    with pytest.raises(SyncFailed):
        world.sync(effects)
    deliver(world.driver.stop().answers)
    assert isinstance(caller.error, Stopped)


def test_what_is_behind_an_uncertain_command_is_answered_after_it() -> None:
    world = leading()
    before = world.put(b"k")
    delete = Caller()
    body = DeleteRangeRequest(key=b"k").SerializeToString()
    world.driver.propose(CommandKind.DELETE_RANGE, body, delete)
    behind = world.put(b"k")
    committed(world)
    assert before.result == PutResult(revision=3)
    assert not delete.answered and not behind.answered
    world.settle()
    assert delete.result == DeleteResult(revision=4, deleted=1, prevs=[])
    assert behind.result == PutResult(revision=5)


def test_a_put_that_asks_for_more_is_answered_after_its_apply() -> None:
    world = leading()
    caller = Caller()
    body = PutRequest(key=b"first", prev_kv=True).SerializeToString()
    world.driver.propose(CommandKind.PUT, body, caller)
    committed(world)
    assert not caller.answered
    effects = world.turn()
    assert caller.answered and world.machine.revision == 3 and not effects.more


def test_while_an_alarm_is_on_nothing_is_answered_early() -> None:
    world = leading()
    alarm = AlarmRequest(action=AlarmRequest.ACTIVATE, memberID=ME, alarm=NOSPACE)
    world.driver.propose(CommandKind.ALARM, alarm.SerializeToString(), Caller())
    world.settle()
    caller = world.put(b"k")
    committed(world)
    world.turn()
    assert caller.error is not None and world.machine.revision == 2


def test_a_stop_between_answer_and_apply_answers_nobody_twice() -> None:
    world = leading()
    early, late = world.put(b"k"), Caller()
    committed(world)
    world.driver.propose(CommandKind.PUT, b"\x0a\x01l", late)
    for answer in world.driver.stop().answers:
        answer.pending.refused(answer.result)  # type: ignore[arg-type]
    assert early.result == PutResult(revision=3) and late.error is not None
