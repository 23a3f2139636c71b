"""A command that deletes very many keys leaves in slices what it leaves at once, whatever comes
between."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chainfire.errors import (
    Corrupt,
    Damaged,
    LeaseNotFound,
    Outdated,
    RequestError,
    UnknownFormat,
)
from chainfire.machine import Applied, Machine, giant, slices
from chainfire.machine.progress import Progress
from chainfire.mvcc.read import range_steps, run
from chainfire.proto.command_pb2 import LeaseExpire, LeaseGrant
from chainfire.proto.kv_pb2 import (
    Compare,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    TxnRequest,
)
from chainfire.proto.lease_pb2 import LeaseRevokeRequest
from chainfire.storage.memory import MemoryBackend
from chainfire.types import DeleteResult, Entry, PutResult
from tests.machine.world import (
    applied,
    applied_while_stalling,
    as_log,
    bootstrapped,
    encode,
    oldest_and_youngest,
    opened,
    remember_lines,
    rows_of,
)

KEYS = [b"k%02d" % number for number in range(30)]
EVERYTHING = DeleteRangeRequest(key=b"\0", range_end=b"\0")


@pytest.fixture(autouse=True)
def small_giants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(giant, "GIANT_ROWS_MIN", 10)
    monkeypatch.setattr(slices, "SLICE_ROWS", 4)


def transaction() -> TxnRequest:
    """Puts before, between and after its deletes, in and out of their ranges, and one nested."""
    request = TxnRequest()
    request.compare.add(key=b"k05", target=Compare.VALUE, value=b"k05")  # not so once it began
    request.success.add().request_put.CopyFrom(PutRequest(key=b"k04", value=b"new"))
    request.success.add().request_put.CopyFrom(PutRequest(key=b"k07", value=b"new", lease=8))
    delete = DeleteRangeRequest(key=b"k05", range_end=b"k15", prev_kv=True)
    request.success.add().request_delete_range.CopyFrom(delete)
    request.success.add().request_put.CopyFrom(PutRequest(key=b"k05", value=b"again", lease=7))
    nested = request.success.add().request_txn
    nested.compare.add(key=b"k00", target=Compare.VERSION, version=9)
    nested.failure.add().request_delete_range.key = b"k02"
    delete = DeleteRangeRequest(key=b"k20", range_end=b"\0")
    nested.failure.add().request_delete_range.CopyFrom(delete)
    request.success.add().request_range.CopyFrom(RangeRequest(key=b"\0", range_end=b"\0"))
    request.success.add().request_put.CopyFrom(PutRequest(key=b"k21", ignore_lease=False))
    request.failure.add().request_put.key = b"wrong"
    return request


DELETE = DeleteRangeRequest(key=b"k05", range_end=b"k25")
GIANTS = {
    "delete": DELETE,
    "txn": transaction(),
    "revoke": LeaseRevokeRequest(ID=7),
    "expire": LeaseExpire(ids=[8, 9, 7, 8, 10]),  # 9 has no keys, 10 time left
}
every_kind = pytest.mark.parametrize("body", GIANTS.values(), ids=GIANTS)


def log_of(body: Message = DELETE, *behind: PutRequest) -> list[Entry]:
    """Four leases, 30 keys, most of them with one, the giant, and what is behind it."""
    bodies = [
        *(LeaseGrant(id=lease, ttl_ms=9000) for lease in (7, 8, 9)),
        LeaseGrant(id=10, ttl_ms=90_000),
        *(
            PutRequest(key=key, value=key, lease=(7, 8, 7, 0)[at % 4])
            for at, key in enumerate(KEYS)
        ),
        body,
        *behind,
    ]
    clocks = {len(bodies) - len(behind): 10_000}
    return as_log([encode(one, n, clock_ms=clocks.get(n, 1)) for n, one in enumerate(bodies, 1)])


def visible(machine: Machine) -> list[bytes]:
    request = RangeRequest(key=b"\0", range_end=b"\0")
    return list(run(range_steps(machine.store.view, machine.store, 0, request)).rows)


@pytest.mark.interpreted
def test_it_takes_many_calls_and_its_result_comes_with_the_last() -> None:
    body = DeleteRangeRequest(key=b"k05", range_end=b"k25", prev_kv=True)
    machine, log = opened(bootstrapped()), log_of(body, PutRequest(key=b"k06"))
    machine.apply(log[:-2])
    calls, results = 0, list[Applied]()
    while not results:
        assert machine.is_unfinished or not calls
        results += machine.apply(log[-2:])
        calls += 1
    (delete,) = results
    assert isinstance(delete.result, DeleteResult)
    assert (delete.result.revision, delete.result.deleted) == (32, 20)
    assert len(delete.result.prevs) == 20
    assert calls == 5
    (put,) = machine.apply(log[-2:])
    assert put.result == PutResult(33)
    assert len(visible(machine)) == 11


@every_kind
def test_readers_see_the_state_before_it_until_it_is_done(body: Message) -> None:
    machine, log = Machine(bootstrapped(), cache_bytes=1 << 20), log_of(body)
    machine.apply(log[:-1])
    before = visible(machine)
    state = machine.store.keyspace(0).keys, machine.revision, machine.hash
    assert machine.store.get_rows(0, b"\0", b"\0") == before
    machine.apply(log)
    while machine.is_unfinished:
        assert visible(machine) == before
        assert machine.store.get_rows(0, b"\0", b"\0") in (None, before)
        assert [machine.store.get_row(0, key) for key in KEYS] == before
        assert (machine.store.keyspace(0).keys, machine.revision, machine.hash) == state
        machine.apply(log)
    left = visible(machine)
    assert 0 < len(left) < len(before)
    assert machine.store.get_rows(0, b"\0", b"\0") in (None, left)
    assert [row for key in KEYS if (row := machine.store.get_row(0, key))] == left
    assert machine.store.keyspace(0).keys == len(left)


def finished(body: Message = DELETE) -> tuple[Machine, MemoryBackend]:
    backend = bootstrapped()
    machine = opened(backend)
    applied(machine, log_of(body, PutRequest(key=b"k06")))
    return machine, backend


def takes_slices(body: Message) -> bool:
    machine = opened(bootstrapped())
    machine.apply(log_of(body))
    return machine.is_half_deleted


@pytest.mark.interpreted
@every_kind
def test_held_up_it_does_not_begin_and_what_is_behind_it_waits(body: Message) -> None:
    machine, log = opened(bootstrapped()), log_of(body, PutRequest(key=b"k06"))
    machine.hold_up_giants(), machine.hold_up_giants()
    before = machine.apply(log)
    assert len(before) == len(log) - 2 and machine.apply(log) == []
    machine.let_giants_go()
    assert machine.apply(log) == [] and machine.is_unfinished and not machine.is_half_deleted
    machine.let_giants_go()
    assert len(applied(machine, log)) == 2 and machine.hash == finished(body)[0].hash


@pytest.mark.interpreted
def test_one_under_way_goes_on_while_the_next_one_is_held_up() -> None:
    machine = opened(bootstrapped())
    log = log_of(DELETE, *(PutRequest(key=key) for key in KEYS))
    again = encode(EVERYTHING, len(log) + 1)
    log = as_log([*(entry.data for entry in log), again])
    machine.apply(log)
    assert machine.is_half_deleted
    machine.hold_up_giants()
    results = applied(machine, log, calls_max=50)
    assert not machine.is_half_deleted and machine.is_unfinished
    assert len(visible(machine)) == len(KEYS)
    machine.let_giants_go()
    assert len(results) + len(applied(machine, log)) == len(KEYS) + 2 and not visible(machine)


@pytest.mark.interpreted
def test_one_that_a_crash_has_interrupted_is_not_held_up() -> None:
    backend, log = bootstrapped(), log_of()
    opened(backend).apply(log)
    machine = opened(backend)
    assert machine.is_half_deleted
    machine.hold_up_giants()
    applied(machine, log)
    assert not machine.is_half_deleted and not machine.is_unfinished


@every_kind
@pytest.mark.interpreted
def test_in_slices_or_at_once_all_rows_but_the_chain_are_the_same(
    monkeypatch: pytest.MonkeyPatch, body: Message
) -> None:
    machine, sliced = finished(body)
    assert takes_slices(body)
    monkeypatch.setattr(giant, "GIANT_ROWS_MIN", 1000)
    other, whole = finished(body)
    assert not takes_slices(body)
    ours, theirs = rows_of(sliced), rows_of(whole)
    ours.pop("machine"), theirs.pop("machine")
    assert ours == theirs
    assert machine.store.keyspaces == other.store.keyspaces
    assert machine.statistics().leases_expired == other.statistics().leases_expired


@every_kind
def test_in_slices_or_at_once_the_result_is_the_same(
    monkeypatch: pytest.MonkeyPatch, body: Message
) -> None:
    log = log_of(body)
    *_, sliced = applied(opened(bootstrapped()), log)
    monkeypatch.setattr(giant, "GIANT_ROWS_MIN", 1000)
    *_, whole = applied(opened(bootstrapped()), log)
    assert sliced == whole
    assert not isinstance(sliced.result, RequestError)


@every_kind
@pytest.mark.parametrize("rows", [1, 3, 20, 50])
def test_where_the_slices_are_cut_does_not_show(
    monkeypatch: pytest.MonkeyPatch, rows: int, body: Message
) -> None:
    machine, backend = finished(body)
    monkeypatch.setattr(slices, "SLICE_ROWS", rows)
    other, other_backend = finished(body)
    assert other.hash == machine.hash
    assert rows_of(other_backend) == rows_of(backend)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.sampled_from(list(GIANTS.values())))
def test_a_crash_between_any_two_slices_goes_on_from_there(
    data: st.DataObject, body: Message
) -> None:
    machine, backend = finished(body)
    log = log_of(body, PutRequest(key=b"k06"))
    crashing = bootstrapped()
    applied(opened(crashing), log, data.draw(st.integers(1, 8)))
    for _ in range(data.draw(st.integers(1, 3))):
        crashing = crashing.crash(data.draw(st.integers(0, crashing.unsynced_batches)))
        again = opened(crashing)
        half_done = crashing.get("machine", b"giant") is not None
        assert again.may_be_read is not half_done
        rest = log[again.applied_index :]
        if half_done:
            crashed_once_more = data.draw(st.booleans())
            applied(again, rest, 2 if crashed_once_more else 1000)
    again = opened(crashing)
    applied(again, log[again.applied_index :])
    assert again.may_be_read and not again.is_held
    assert (again.hash, again.revision) == (machine.hash, machine.revision)
    assert rows_of(crashing) == rows_of(backend)
    assert again.store.keyspaces == machine.store.keyspaces


@every_kind
@pytest.mark.interpreted
def test_a_stalled_slice_is_written_later_and_once(
    monkeypatch: pytest.MonkeyPatch, body: Message
) -> None:
    machine, backend = finished(body)
    stalling = bootstrapped()
    other, log = opened(stalling), log_of(body, PutRequest(key=b"k06"))
    results = applied_while_stalling(other, stalling, log, monkeypatch)
    assert len(results) == len(log)
    assert rows_of(stalling) == rows_of(backend)
    assert other.hash == machine.hash


@every_kind
def test_who_is_oldest_is_as_it_was_until_it_is_done(body: Message) -> None:
    machine, log = opened(bootstrapped()), log_of(body, PutRequest(key=b"k06"))
    remember_lines(machine)
    machine.apply(log[:-2])
    before = oldest_and_youngest(machine)
    machine.apply(log[-2:-1])
    while machine.is_unfinished:
        assert oldest_and_youngest(machine) == before
        machine.apply(log[-2:-1])
    for at in (-1, None):
        after = oldest_and_youngest(machine)
        assert after == oldest_and_youngest(machine, by_walking=True) != before
        machine.apply(log[-1:] if at else [])


@pytest.mark.interpreted
def test_half_a_delete_whose_entry_is_lost_is_damage() -> None:
    backend, log = bootstrapped(), log_of()
    machine = opened(backend)
    applied(machine, log, 2)
    assert machine.is_unfinished
    again = opened(backend)
    other = as_log([encode(EVERYTHING, 99)], first=again.applied_index + 1, term=2)
    with pytest.raises(Damaged, match="half of a delete"):
        again.apply(other)


def test_a_void_giant_deletes_nothing() -> None:
    machine, log = opened(bootstrapped()), log_of()
    applied(machine, log)
    void = as_log([encode(EVERYTHING, 35)], first=machine.applied_index + 1)
    (one,) = applied(machine, void)
    assert isinstance(one.result, Outdated)
    assert machine.store.keyspace(0).keys == 10
    assert not machine.is_held


def test_a_giant_transaction_that_is_refused_changes_nothing() -> None:
    machine, body = opened(bootstrapped()), transaction()
    body.success.add().request_put.CopyFrom(PutRequest(key=b"k99", lease=99))
    log = log_of(body)
    applied(machine, log[:-1])
    before = machine.revision, visible(machine)
    (one,) = applied(machine, log[-1:])
    assert isinstance(one.result, LeaseNotFound)
    assert (machine.revision, visible(machine)) == before
    assert not machine.is_held
    assert not machine.is_half_deleted


def test_a_progress_row_that_is_cut_off_is_not_read() -> None:
    row = Progress(5, 2, branch=b"\1\0").encode()
    for size in range(len(row)):
        with pytest.raises((Corrupt, UnknownFormat)):
            Progress.decode(row[:size])
