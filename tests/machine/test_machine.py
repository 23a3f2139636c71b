"""The machine's rules one by one. What holds for every log is in test_determinism."""

from __future__ import annotations

import pytest

from chainfire.errors import (
    CorruptCluster,
    DiskFull,
    MemberNotFound,
    NoSpace,
    Outdated,
    RequestError,
    Stalled,
    UnknownFormat,
)
from chainfire.machine import machine as machine_module
from chainfire.proto.cluster_pb2 import Member
from chainfire.proto.command_pb2 import (
    ClusterVersionSet,
    Command,
    CompactionFinished,
    ConfChangeContext,
)
from chainfire.proto.kv_pb2 import (
    CompactionRequest,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
)
from chainfire.proto.maintenance_pb2 import AlarmRequest, AlarmType
from chainfire.types import (
    AckResult,
    Alarm,
    AlarmResult,
    CompactResult,
    ConfState,
    DeleteResult,
    Entry,
    EntryType,
    PutResult,
    Result,
    TxnResult,
)
from tests.machine.world import World, as_log, encode, opened, rows_of

NO_CONTEXT = ConfChangeContext()

ACTIVATE, DEACTIVATE = AlarmRequest.ACTIVATE, AlarmRequest.DEACTIVATE
NOSPACE, CORRUPT = AlarmType.NOSPACE, AlarmType.CORRUPT
PUT = PutRequest(key=b"k", value=b"v")
PUT_OP = RequestOp(request_put=PUT)
DELETE_OP = RequestOp(request_delete_range=DeleteRangeRequest(key=b"k"))
RANGE_OP = RequestOp(request_range=RangeRequest(key=b"k"))


def test_each_kind_has_its_result() -> None:
    world = World()
    assert world.put() == PutResult(2)
    assert world.delete() == DeleteResult(3, 1, [])
    assert world.txn(TxnRequest(success=[PUT_OP])) == TxnResult(4, True, [PutResult(4)])
    assert world.do(CompactionRequest(revision=3)) == CompactResult(4)
    assert world.do(CompactionFinished(revision=3, freed_bytes=0)) == AckResult(4)
    assert world.alarm(ACTIVATE, NOSPACE) == AlarmResult(4, [Alarm(1, NOSPACE)])
    assert world.do(ClusterVersionSet(version="3.8.0")) == AckResult(4)
    assert world.do(Member(ID=1, name="new")) == AckResult(4)
    machine = world.machine
    assert (machine.cluster_version, machine.members[1].name) == ("3.8.0", "new")
    assert (machine.applied_index, machine.revision) == (8, 4)


def test_an_empty_entry_has_no_result_but_a_link() -> None:
    world = World()
    before = world.machine.hash
    assert world.machine.apply([Entry(5, 1)]) == []
    machine = world.machine
    assert (machine.applied_index, machine.applied_term) == (1, 5)
    assert machine.hash not in (0, before)
    assert machine.hash_at(1) == machine.hash


def test_a_command_that_arrives_twice_is_applied_once() -> None:
    world = World()
    data = encode(PUT, 1)
    first, second = world.machine.apply(as_log([data, data]))
    assert first.result == PutResult(2)
    assert isinstance(second.result, Outdated)
    assert world.machine.revision == 2
    assert world.machine.hash_at(2) != world.machine.hash_at(1), "void ones still link"


def test_commands_of_an_earlier_start_are_void() -> None:
    world = World()
    applied = world.machine.apply(as_log([encode(PUT, 1, start=2), encode(PUT, 7, start=1)]))
    assert isinstance(applied[1].result, Outdated)
    assert world.machine.revision == 2
    assert opened(world.backend).start_number(1) == 2
    assert world.machine.start_number(9) == 0, "never heard of"


def test_a_refused_command_has_used_up_its_id() -> None:
    world = World()
    data = encode(PutRequest(key=b"new", ignore_value=True), 1)
    refused, again = world.machine.apply(as_log([data, data]))
    assert isinstance(refused.result, RequestError)
    assert refused.result.__traceback__ is None
    assert not isinstance(refused.result, Outdated)
    assert isinstance(again.result, Outdated)


def test_the_leaders_clock_never_goes_back() -> None:
    world = World()
    clocks = []
    for clock_ms in (100, 50, 200):
        world.do(PUT, clock_ms=clock_ms)
        clocks.append(world.machine.leader_clock_ms)
    assert clocks == [100, 100, 200]
    assert opened(world.backend).leader_clock_ms == 200


# ── alarms ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("body", "grows"),
    [
        (PUT, True),
        (TxnRequest(failure=[PUT_OP]), True),
        (
            TxnRequest(success=[RequestOp(request_txn=TxnRequest(failure=[PUT_OP]))]),
            True,
        ),
        (TxnRequest(success=[DELETE_OP, RANGE_OP]), False),
        (DeleteRangeRequest(key=b"k"), False),
        (CompactionRequest(revision=2), False),
    ],
)
def test_alarms_refuse_and_a_cleared_alarm_allows_again(
    body: PutRequest | TxnRequest | DeleteRangeRequest | CompactionRequest, grows: bool
) -> None:
    world = World()
    world.put(b"other")
    world.put(b"k")
    world.alarm(ACTIVATE, NOSPACE, member_id=9)
    assert isinstance(world.do(body), NoSpace) == grows
    world.alarm(ACTIVATE, CORRUPT)
    assert isinstance(world.do(body), CorruptCluster), "CORRUPT comes first and refuses all"
    world.alarm(DEACTIVATE, CORRUPT)
    world.alarm(DEACTIVATE, NOSPACE, member_id=9)
    assert not isinstance(world.do(PUT), RequestError)


def test_alarms_outlive_a_restart() -> None:
    world = World()
    world.alarm(ACTIVATE, NOSPACE)
    machine = opened(world.backend)
    assert machine.alarms == [Alarm(1, NOSPACE)]
    (applied,) = machine.apply(as_log([encode(PUT, 9)], first=2))
    assert isinstance(applied.result, NoSpace)


# ── usage ───────────────────────────────────────────────────────────────────


def test_what_a_compaction_freed_is_booked_once() -> None:
    world = World()
    for _ in range(5):
        world.put(value=b"v" * 100)
    world.do(CompactionRequest(revision=6))
    usage = world.machine.usage(0)
    world.do(CompactionFinished(revision=6, freed_bytes=100))
    assert world.machine.usage(0) == usage - 100
    world.do(CompactionFinished(revision=6, freed_bytes=100))
    assert world.machine.usage(0) == usage - 100
    assert opened(world.backend).usage(0) == usage - 100


@pytest.mark.parametrize(("revision", "freed"), [(6, 10**9), (6, -1), (99, 1), (-5, 1)])
def test_a_booking_that_cannot_be_is_refused(revision: int, freed: int) -> None:
    world = World()
    for _ in range(5):
        world.put(value=b"v" * 100)
    world.do(CompactionRequest(revision=6))
    usage = world.machine.usage(0)
    world.do(CompactionFinished(revision=revision, freed_bytes=freed))
    assert world.machine.usage(0) == usage


def test_keyspaces_are_counted_apart_under_one_revision() -> None:
    world = World()
    world.do(PUT, keyspace=7)
    world.put(b"key", b"value")
    world.put(b"key", b"value")
    assert world.machine.revision == 4
    store = world.machine.store
    assert (store.keyspace(7).keys, store.keyspace(0).keys) == (1, 1)
    assert 0 < world.machine.usage(7) < world.machine.usage(0)


# ── what stops a member ─────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(Command(format=2, put=PUT).SerializeToString(), id="newer format"),
        pytest.param(Command(format=1).SerializeToString() + b"\xfa\x01\x00", id="unknown body"),
        pytest.param(b"\xff\xff", id="not a command"),
    ],
)
def test_an_unknown_command_stops_before_anything_is_applied(data: bytes) -> None:
    world = World()
    world.put()
    before = rows_of(world.backend)
    good = encode(PUT, 2)
    with pytest.raises(UnknownFormat, match="log index 3"):
        world.machine.apply(as_log([good, data, good], first=2))
    assert rows_of(world.backend) == before
    assert world.machine.applied_index == 1
    assert len(world.machine.apply(as_log([good], first=2))) == 1, "what is known can be applied"


def test_a_gap_in_the_log_is_our_mistake() -> None:
    world = World()
    with pytest.raises(AssertionError):
        world.machine.apply(as_log([encode(PUT, 1)], first=2))


def test_a_term_that_goes_back_is_our_mistake() -> None:
    world = World()
    world.machine.apply([Entry(2, 1)])
    with pytest.raises(AssertionError):
        world.machine.apply([Entry(1, 2)])


def test_configuration_entries_have_their_own_way() -> None:
    with pytest.raises(AssertionError):
        World().machine.apply([Entry(1, 1, EntryType.CONF_CHANGE)])


# ── writes that fail for now ────────────────────────────────────────────────


@pytest.mark.parametrize("failure", [Stalled, DiskFull])
@pytest.mark.parametrize("writes_before", [0, 1, 2])
@pytest.mark.interpreted
def test_a_failed_write_is_taken_up_again_with_the_same_entries(
    failure: type[Stalled | DiskFull], writes_before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_module, "BATCH_BYTES_MAX", 1)  # one batch per entry
    log = as_log([encode(PutRequest(key=b"%d" % n, value=b"v"), n) for n in (1, 2, 3)])
    world, undisturbed = World(), World()
    written = 0
    write = world.backend.write

    def failing(batch: object) -> None:
        nonlocal written
        written += 1
        if written == writes_before + 1:
            raise failure
        write(batch)  # type: ignore[arg-type]

    monkeypatch.setattr(world.backend, "write", failing)
    with pytest.raises(failure):
        world.machine.apply(log)
    assert world.machine.applied_index == writes_before
    results = world.machine.apply(log)
    assert [applied.result for applied in results] == [PutResult(2), PutResult(3), PutResult(4)]
    assert world.machine.apply(log) == [], "all of it was taken and answered"
    undisturbed.machine.apply(log)
    assert rows_of(world.backend) == rows_of(undisturbed.backend)


# ── configuration ───────────────────────────────────────────────────────────


def test_a_configuration_change_is_one_atom_with_its_index() -> None:
    world = World()
    world.put()
    described = Member(ID=2, peerURLs=["http://two"])
    context = ConfChangeContext(members=[described])
    entry = Entry(3, 2, EntryType.CONF_CHANGE_V2, b"raft's")
    conf_state = ConfState(voters=(1, 2))
    batches = world.backend.unsynced_batches
    world.machine.apply_conf_change(entry, context, lambda: conf_state)
    assert world.backend.unsynced_batches == batches + 1
    for machine in (world.machine, opened(world.backend)):
        assert (machine.applied_index, machine.applied_term) == (2, 3)
        assert machine.conf_state == conf_state
        assert machine.members[2] == described
        assert machine.hash == world.machine.hash_at(2)


def test_a_configuration_change_whose_write_failed_is_taken_up_again() -> None:
    world = World()
    entry, leaving = Entry(3, 1, EntryType.CONF_CHANGE), ConfState((1,), auto_leave=True)
    world.backend.stalled = True
    with pytest.raises(Stalled):
        world.machine.apply_conf_change(entry, NO_CONTEXT, lambda: leaving)
    assert world.machine.applied_index == 0
    world.backend.stalled = False
    world.machine.apply_conf_change(entry, NO_CONTEXT, lambda: leaving)
    assert (world.machine.applied_index, world.machine.conf_state.auto_leave) == (1, True)
    written = world.backend.unsynced_batches
    world.machine.apply_conf_change(
        entry, NO_CONTEXT, lambda: ConfState((1,))
    )  # handed over once more
    assert world.backend.unsynced_batches == written
    assert world.machine.conf_state.auto_leave


def test_a_configuration_change_that_arrives_twice_is_made_once() -> None:
    world = World()
    context = ConfChangeContext(member_id=1, start_number=1, sequence=7, lowest_unsettled=7)
    entered: list[int] = []

    def change(index: int) -> RequestError | Result:
        def enter() -> ConfState:
            entered.append(index)
            return ConfState((1,))

        entry = Entry(3, index, EntryType.CONF_CHANGE_V2)
        (applied,) = world.machine.apply_conf_change(entry, context, enter)
        assert (applied.index, applied.sequence) == (index, 7)
        return applied.result

    assert isinstance(change(1), AckResult)
    assert isinstance(change(2), Outdated) and entered == [1]
    assert opened(world.backend).hash == world.machine.hash


def test_a_configuration_change_that_raft_refuses_leaves_all_as_it_was() -> None:
    world = World()

    def enter() -> ConfState:
        raise MemberNotFound

    context = ConfChangeContext(member_id=1, start_number=1, sequence=1)
    entry = Entry(3, 1, EntryType.CONF_CHANGE_V2)
    (applied,) = world.machine.apply_conf_change(entry, context, enter)
    assert isinstance(applied.result, MemberNotFound)
    assert world.machine.conf_state == ConfState((1,)) and world.machine.applied_index == 1


# ── counts ──────────────────────────────────────────────────────────────────


def test_statistics_count_what_was_applied() -> None:
    world = World()
    world.put()
    world.delete()
    nested = RequestOp(request_txn=TxnRequest(success=[PUT_OP]))
    world.txn(TxnRequest(success=[RANGE_OP, DELETE_OP, nested]))
    world.do(CompactionRequest(revision=2))
    world.do(CompactionRequest(revision=2))  # refused: compacted already
    index = world.machine.applied_index
    world.machine.apply(as_log([encode(PUT, 1), b""], first=index + 1))
    found = world.machine.statistics()
    assert (found.applied_entries, found.void_commands, found.refused_commands) == (7, 1, 1)
    assert (found.puts, found.deletes, found.txns, found.txn_ranges) == (2, 2, 1, 1)
    assert found.compactions == 1
    assert found.digested_bytes > 0
