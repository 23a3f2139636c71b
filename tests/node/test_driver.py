"""The driver's promises, step by step: nothing before the sync, everything after it, once."""

from __future__ import annotations

from itertools import pairwise

import pytest

from chainfire.command import CommandKind
from chainfire.errors import (
    DiskFull,
    RequestDeadlineExceeded,
    Stopped,
    Timeout,
    TooManyRequests,
)
from chainfire.machine import giant
from chainfire.machine import slices as machine_slices
from chainfire.node.driver import Limits
from chainfire.node.orders import APPLIED_PER_TURN_MAX
from chainfire.proto.kv_pb2 import LINEARIZABLE, LOCAL, SERIALIZABLE, DeleteRangeRequest, PutRequest
from chainfire.proto.maintenance_pb2 import NOSPACE, AlarmRequest
from chainfire.raft.messages import Message, MessageType
from chainfire.storage.backend import WriteBatch
from chainfire.types import Alarm, DeleteResult, Entry, HardState, PutResult
from tests.node.world import ME, PLENTY, Caller, World


def test_a_put_is_answered_only_after_its_log_batch_is_synced() -> None:
    world = World().lead()
    caller = world.put(b"k")
    effects = world.turn()
    assert effects.sync is not None and not caller.answered
    world.turn()
    assert not caller.answered and world.machine.store.get_row(0, b"k") is None
    world.sync(effects)
    world.turn()
    assert caller.result == PutResult(revision=2)


def test_everything_of_a_turn_shares_one_sync_and_revisions_follow_arrival() -> None:
    world = World().lead()
    syncs = world.log.statistics().sync_count
    callers = [world.put(b"k%d" % i) for i in range(50)]
    world.settle()
    assert [c.result for c in callers] == [PutResult(revision=2 + i) for i in range(50)]
    assert world.log.statistics().sync_count == syncs + 1


def test_what_arrives_during_a_sync_shares_the_next_one() -> None:
    world = World().lead()
    first = world.put(b"a")
    effects = world.turn()
    later = [world.put(b"b%d" % i) for i in range(9)]
    world.turn()  # the first batch's sync is under way
    assert world.log_store.last_index() == 2
    world.sync(effects)
    effects = world.turn()
    assert first.result is not None and not any(caller.answered for caller in later)
    world.sync(effects)
    world.turn()
    assert all(caller.result for caller in later)


def test_the_witness_is_written_before_the_answer_and_never_ahead_of_the_sync() -> None:
    world = World().lead()
    put = world.put(b"a")
    effects = world.turn()
    noted = len(world.witness.notes)
    world.turn()
    assert len(world.witness.notes) == noted and not put.answered
    world.sync(effects)
    assert world.witness.notes[-1] == (world.log_store.last_index(), 1, 1, ME)
    assert not put.answered


def test_a_crash_after_the_sync_keeps_the_write_and_one_before_it_may_lose_it() -> None:
    world = World().lead()
    world.put(b"kept")
    world.settle()
    world.put(b"unsynced")
    world.turn()
    after = World(world.log.crash(0), world.state.crash(0)).lead()
    assert after.machine.store.get_row(0, b"kept") is not None
    assert after.machine.store.get_row(0, b"unsynced") is None


def test_no_read_of_any_level_before_the_last_life_is_applied_again() -> None:
    world = World().lead()
    world.put(b"k")
    world.settle()
    after = World(world.log.crash(0), world.state.crash(0))
    waiting = [after.read(level) for level in (LOCAL, SERIALIZABLE, LINEARIZABLE)]
    after.turn()
    assert not any(reader.answered for reader in waiting)
    after.lead()
    assert all(reader.may_read for reader in waiting)
    assert after.machine.revision == 2


def test_reads_of_a_lone_leader_are_answered_at_once() -> None:
    world = World().lead()
    for level in (LINEARIZABLE, SERIALIZABLE, LOCAL):
        assert world.read(level).may_read


def test_a_min_revision_waits_for_that_write_or_for_the_callers_deadline() -> None:
    world = World().lead()
    patient = world.read(LOCAL, min_revision=2)
    hasty = world.read(LOCAL, min_revision=9, deadline_ms=500)
    world.tick(100)
    assert not patient.answered
    world.put(b"k")
    world.settle()
    assert patient.may_read and not hasty.answered
    world.tick(500)
    assert isinstance(hasty.error, RequestDeadlineExceeded)


def test_a_stalled_write_refuses_new_proposals_and_finishes_the_old_ones_later() -> None:
    world = World().lead()
    world.log.stalled = True
    early = world.put(b"early")
    assert world.turn().stalled
    late = world.put(b"late")
    assert isinstance(late.error, TooManyRequests)
    world.log.stalled = False
    world.settle()
    assert early.result == PutResult(revision=2)


def test_no_read_while_the_store_is_behind_the_machines_memory() -> None:
    world = World().lead()
    put = world.put(b"k")
    effects = world.turn()
    world.state.stalled = True
    world.sync(effects)
    assert world.turn().stalled and not put.answered
    read = world.read(LOCAL)
    assert not read.answered
    world.state.stalled = False
    world.settle()
    assert put.result == PutResult(revision=2) and read.may_read


def test_too_many_waiting_proposals_are_refused_like_etcds() -> None:
    world = World().lead()
    callers = [world.put(b"k") for _ in range(101)]
    assert isinstance(callers[-1].error, TooManyRequests)
    world.settle()
    assert all(caller.result for caller in callers[:-1])


def test_what_comes_before_the_first_tick_has_its_whole_time() -> None:
    world = World()
    world.driver.begin(1_000_000)
    put, read = world.put(b"k"), world.read(LOCAL, min_revision=2)
    world.turn()
    world.tick(1_000_100)
    assert not put.answered and not read.answered


def test_without_a_leader_a_proposal_waits_until_there_is_one() -> None:
    world = World()
    caller = world.put(b"k")
    world.turn()
    assert not caller.answered
    world.lead()
    assert caller.result == PutResult(revision=2)


def test_a_proposal_that_timed_out_before_it_was_proposed_is_never_applied() -> None:
    world = World()
    caller = world.put(b"k")
    world.turn()
    world.tick(7000)
    assert isinstance(caller.error, Timeout)
    world.lead()
    assert world.machine.store.get_row(0, b"k") is None


def test_a_proposal_whose_sync_never_ends_times_out_as_unknown() -> None:
    world = World().lead()
    caller = world.put(b"k")
    world.turn()
    world.driver.tick(7000, 1 << 40)
    world.turn()
    assert isinstance(caller.error, Timeout)


def test_stopping_answers_everybody_who_waits() -> None:
    world = World().lead()
    put, read = world.put(b"k"), world.read(LOCAL, min_revision=9)
    for answer in world.driver.stop().answers:
        answer.pending.refused(answer.result)
    assert isinstance(put.error, Stopped) and isinstance(read.error, Stopped)
    assert isinstance(world.put(b"k").error, Stopped)


def test_what_was_applied_before_a_failure_is_still_answered_with_its_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World().lead()
    puts = [Caller(), Caller()]  # two pages to apply; with prev_kv nothing is answered early
    for caller in puts:
        put = PutRequest(key=b"k", value=bytes(60 << 10), prev_kv=True)
        world.driver.propose(CommandKind.PUT, put.SerializeToString(), caller)
    world.sync(world.turn())
    write = world.state.write

    def write_once(batch: WriteBatch) -> None:
        write(batch)
        world.state.full = True

    monkeypatch.setattr(world.state, "write", write_once)
    with pytest.raises(DiskFull):
        world.turn()
    results = {answer.pending: answer.result for answer in world.driver.stop().answers}
    assert results[puts[0]] == PutResult(revision=2)
    assert isinstance(results[puts[1]], Stopped)


def test_waiting_reads_are_bounded() -> None:
    world = World(limits=Limits(reads_max=3))
    waiting = [world.read(level) for level in (LOCAL, LINEARIZABLE)]
    world.driver.begin(1)
    waiting = [world.read(LOCAL, min_revision=9) for _ in range(5)]
    refused = [reader for reader in waiting if isinstance(reader.error, TooManyRequests)]
    assert 0 < len(refused) < 5
    waiting[0].gone = True
    world.tick(10)
    assert not world.read(LOCAL, min_revision=9).answered


def test_a_long_replay_is_cut_into_turns_and_pages() -> None:
    first = World().lead()
    entries = [Entry(1, first.log_store.last_index() + 1 + i) for i in range(10_000)]
    first.log_store.append(entries, HardState(1, ME, entries[-1].index))
    first.log.sync()
    world = World(first.log.crash(0), first.state.crash(0))
    reader = world.read(LOCAL)
    applied = [world.machine.applied_index]
    while world.turn().more:
        applied.append(world.machine.applied_index)
    steps = [after - before for before, after in pairwise(applied)]
    assert len(steps) > 1 and max(steps) <= 2 * APPLIED_PER_TURN_MAX
    assert world.machine.applied_index == entries[-1].index and reader.may_read


def test_a_late_sync_does_not_promise_again_what_a_new_leader_has_replaced() -> None:
    world = World(voters=(ME, 2, 3))
    driver, notes = world.driver, world.witness.notes
    old = [Entry(1, index, data=b"") for index in range(1, 11)]
    driver.received(2, [Message(MessageType.APPEND, ME, 2, 1, entries=old, commit=0)])
    effects = world.turn()  # written; its sync is under way
    append = Message(MessageType.APPEND, ME, 3, 2, log_term=1, index=5, entries=[Entry(2, 6)])
    driver.received(3, [append])
    world.turn()
    assert notes[-1][:2] == (5, 1)
    world.sync(effects)
    assert notes[-1][:2] == (5, 1)
    world.settle()
    assert notes[-1][:2] == (6, 2)


@pytest.mark.parametrize("turns", [1, 2])
def test_what_a_new_leader_has_replaced_within_a_sync_is_not_acknowledged(turns: int) -> None:
    """Seed 1010209 of the swarm: an acknowledgement of entries that were never durable."""
    world = World(voters=(ME, 2, 3))
    driver = world.driver
    old = [Entry(1, index, data=b"") for index in range(1, 11)]
    driver.received(2, [Message(MessageType.APPEND, ME, 2, 1, entries=old, commit=0)])
    if turns == 2:
        world.turn()
    append = Message(MessageType.APPEND, ME, 3, 2, log_term=1, index=5, entries=[Entry(2, 6)])
    driver.received(3, [append])
    effects = world.turn()
    world.sync(effects)
    said = world.turn().frames
    assert 2 not in said or MessageType.APPEND_REPLY not in {m.type for m in said[2]}
    [reply] = [m for m in said[3] if m.type is MessageType.APPEND_REPLY]
    assert (reply.term, reply.index, reply.reject) == (2, 6, False)


def test_a_new_leader_publishes_its_name_and_urls_once() -> None:
    world = World().lead()
    world.tick(100)
    member = world.machine.members[ME]
    assert (member.name, list(member.clientURLs)) == ("m1", ["http://127.0.0.1:2379"])
    applied = world.machine.applied_index
    world.tick(200)
    assert world.machine.applied_index == applied


def test_a_nearly_full_disk_raises_the_alarm_and_room_clears_it() -> None:
    world = World().lead()
    world.tick(100, free_bytes=999)
    assert list(world.machine.alarms) == [Alarm(ME, NOSPACE)]
    refused = world.put(b"k")
    world.settle()
    assert refused.error is not None and refused.error.text.endswith("space exceeded")
    world.tick(200, free_bytes=5000)
    assert list(world.machine.alarms) == []


def test_an_alarm_that_is_applied_when_there_is_room_again_is_cleared() -> None:
    world = World().lead()
    world.driver.tick(100, 999)
    world.driver.tick(200, 5000)
    world.settle()
    assert list(world.machine.alarms) == [Alarm(ME, NOSPACE)]
    world.tick(300, free_bytes=5000)
    assert list(world.machine.alarms) == []


def test_an_alarm_of_an_earlier_life_is_cleared_when_there_is_room() -> None:
    world = World().lead()
    world.tick(100, free_bytes=999)
    after = World(world.log.crash(0), world.state.crash(0), start_number=2)
    after.tick(50, free_bytes=5000)
    after.lead()
    assert list(after.machine.alarms) == [Alarm(ME, NOSPACE)]
    after.tick(100, free_bytes=5000)
    assert list(after.machine.alarms) == []


def test_an_alarm_raised_by_hand_with_room_to_spare_stays() -> None:
    world = World().lead()
    request = AlarmRequest(action=AlarmRequest.ACTIVATE, memberID=ME, alarm=NOSPACE)
    world.tick(50)
    world.driver.propose(CommandKind.ALARM, request.SerializeToString(), Caller())
    world.settle()
    world.tick(100)
    world.tick(5000)
    assert list(world.machine.alarms) == [Alarm(ME, NOSPACE)]


def test_during_a_giant_delete_ticks_reads_and_the_log_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(giant, "GIANT_ROWS_MIN", 10)
    monkeypatch.setattr(machine_slices, "SLICE_ROWS", 2)
    world = World().lead()
    for number in range(20):
        world.put(b"k%02d" % number)
    world.settle()
    delete = Caller()
    body = DeleteRangeRequest(key=b"\0", range_end=b"\0").SerializeToString()
    world.driver.propose(CommandKind.DELETE_RANGE, body, delete)
    world.sync(world.turn())
    effects = world.turn()
    slices = 0
    while not delete.answered:
        assert effects.more and not effects.stalled
        reader, put = world.read(LINEARIZABLE), world.put(b"later%d" % slices)
        assert reader.may_read
        assert world.machine.store.get_row(0, b"k00") is not None
        world.driver.tick(10 * slices, PLENTY)
        effects = world.turn()
        if effects.sync is not None:
            world.sync(effects)
        assert not put.answered
        slices += 1
    assert slices == 9
    assert delete.result == DeleteResult(revision=22, deleted=20, prevs=[])
    assert world.machine.store.get_row(0, b"k00") is None
    world.settle()
    assert world.machine.store.keyspace(0).keys == slices
