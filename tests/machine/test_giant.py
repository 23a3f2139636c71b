"""A delete of very many keys in slices leaves what it leaves at once, whatever comes between."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chainfire.errors import Damaged, Outdated, Stalled
from chainfire.machine import Applied, Machine, giant
from chainfire.mvcc.read import range_steps, run
from chainfire.proto.command_pb2 import LeaseGrant
from chainfire.proto.kv_pb2 import DeleteRangeRequest, PutRequest, RangeRequest
from chainfire.storage.backend import WriteBatch
from chainfire.storage.memory import MemoryBackend
from chainfire.types import DeleteResult, Entry, PutResult
from tests.machine.world import as_log, bootstrapped, encode, opened, rows_of

KEYS = [b"k%02d" % number for number in range(30)]
EVERYTHING = DeleteRangeRequest(key=b"\0", range_end=b"\0")


@pytest.fixture(autouse=True)
def small_giants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(giant, "GIANT_ROWS_MIN", 10)
    monkeypatch.setattr(giant, "SLICE_ROWS", 4)


def log_of(*behind: PutRequest, prev_kv: bool = False) -> list[Entry]:
    """A lease, 30 keys, some of them with it, a delete of k05 to k25, and what is behind it."""
    bodies = [
        LeaseGrant(id=7, ttl_ms=9000),
        *(PutRequest(key=key, value=key, lease=7 * (at % 3 == 0)) for at, key in enumerate(KEYS)),
        DeleteRangeRequest(key=b"k05", range_end=b"k25", prev_kv=prev_kv),
        *behind,
    ]
    return as_log([encode(body, n) for n, body in enumerate(bodies, 1)])


def applied(machine: Machine, log: list[Entry], calls_max: int = 1000) -> list[Applied]:
    results = machine.apply(log)
    while machine.is_unfinished and (calls_max := calls_max - 1):
        results += machine.apply(log)
    return results


def visible(machine: Machine) -> list[bytes]:
    request = RangeRequest(key=b"\0", range_end=b"\0")
    return list(run(range_steps(machine.store.view, machine.store, 0, request)).rows)


def test_it_takes_many_calls_and_its_result_comes_with_the_last() -> None:
    machine, log = opened(bootstrapped()), log_of(PutRequest(key=b"k06"), prev_kv=True)
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


def test_readers_see_the_state_before_it_until_it_is_done() -> None:
    machine, log = Machine(bootstrapped(), cache_bytes=1 << 20), log_of()
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
    assert len(visible(machine)) == 10
    assert machine.store.get_rows(0, b"\0", b"\0") in (None, visible(machine))
    assert [key for key in KEYS if machine.store.get_row(0, key)] == KEYS[:5] + KEYS[25:]
    assert machine.store.keyspace(0).keys == 10


def finished(prev_kv: bool = False) -> tuple[Machine, MemoryBackend]:
    backend = bootstrapped()
    machine = opened(backend)
    applied(machine, log_of(PutRequest(key=b"k06"), prev_kv=prev_kv))
    return machine, backend


def test_in_slices_or_at_once_all_rows_but_the_chain_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, sliced = finished()
    monkeypatch.setattr(giant, "GIANT_ROWS_MIN", 1000)
    _, whole = finished()
    ours, theirs = rows_of(sliced), rows_of(whole)
    ours.pop("machine"), theirs.pop("machine")
    assert ours == theirs


@pytest.mark.parametrize("rows", [1, 3, 20, 50])
def test_where_the_slices_are_cut_does_not_show(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    machine, backend = finished()
    monkeypatch.setattr(giant, "SLICE_ROWS", rows)
    other, other_backend = finished()
    assert other.hash == machine.hash
    assert rows_of(other_backend) == rows_of(backend)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_crash_between_any_two_slices_goes_on_from_there(data: st.DataObject) -> None:
    machine, backend = finished()
    log = log_of(PutRequest(key=b"k06"))
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


def test_a_stalled_slice_is_written_later_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, backend = finished()
    stalling = bootstrapped()
    other, log = opened(stalling), log_of(PutRequest(key=b"k06"))
    write, calls = stalling.write, 0

    def stalls(batch: WriteBatch) -> None:
        nonlocal calls
        calls += 1
        if calls % 2:
            raise Stalled("the disk is slow")
        write(batch)

    monkeypatch.setattr(stalling, "write", stalls)
    results: list[Applied] = []
    for _ in range(100):
        try:
            results += other.apply(log)
        except Stalled:
            continue
        if not other.is_unfinished:
            break
    assert len(results) == len(log)
    assert rows_of(stalling) == rows_of(backend)
    assert other.hash == machine.hash


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
    void = as_log([encode(EVERYTHING, 32)], first=machine.applied_index + 1)
    (one,) = applied(machine, void)
    assert isinstance(one.result, Outdated)
    assert machine.store.keyspace(0).keys == 10
    assert not machine.is_held
