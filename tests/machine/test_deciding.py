"""Compares of large ranges are walked in slices before their transaction is applied, and it does
not show."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from chainfire.machine import Applied, Machine, deciding, giant
from chainfire.mvcc import compare
from chainfire.proto.kv_pb2 import Compare, DeleteRangeRequest, PutRequest, TxnRequest
from chainfire.storage.memory import MemoryBackend
from chainfire.types import Entry, PutResult, TxnResult
from tests.machine.world import (
    applied,
    applied_while_stalling,
    as_log,
    bootstrapped,
    comparable,
    encode,
    opened,
    rows_of,
)
from tests.mvcc.strategies import deletes, plain_puts, txns

KEYS = [b"k%02d" % number for number in range(30)]
ALL = Compare(key=b"k", range_end=b"l", target=Compare.MOD, result=Compare.GREATER, mod_revision=1)
PUT_BEFORE, PUT_BEHIND = PutRequest(key=b"k30"), PutRequest(key=b"k00", value=b"behind")
ROWS_A_CALL = 6


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "ROWS_PER_SLICE", 3)
    monkeypatch.setattr(deciding, "STEPS_AT_ONCE", 2)
    monkeypatch.setattr(giant, "GIANT_ROWS_MIN", 10)


def transaction(*, deletes: bool = False) -> TxnRequest:
    """Which compares in a nested transaction, too."""
    request = TxnRequest(compare=[ALL])
    request.success.add().request_put.CopyFrom(PutRequest(key=b"k05", value=b"new"))
    nested = request.success.add().request_txn
    nested.compare.add(key=b"k", range_end=b"l", target=Compare.VALUE, value=b"")
    nested.failure.add().request_put.key = b"other"
    nested.success.add().request_put.key = b"wrong"
    if deletes:
        delete = DeleteRangeRequest(key=b"k10", range_end=b"k25")
        request.success.add().request_delete_range.CopyFrom(delete)
    request.failure.add().request_put.key = b"wrong"
    return request


def log_of(*bodies: Message) -> list[Entry]:
    puts = [PutRequest(key=key, value=b"") for key in KEYS]
    puts[-1].value = b"last"
    return as_log([encode(body, number) for number, body in enumerate([*puts, *bodies], 1)])


def finished(log: list[Entry]) -> tuple[Machine, MemoryBackend, list[Applied]]:
    """As it is where all is decided at once."""
    backend = bootstrapped()
    machine = opened(backend)
    with mock.patch.object(deciding, "STEPS_AT_ONCE", 1000):
        results = machine.apply(log[:-2])
        assert not machine.is_unfinished
        results += applied(machine, log[-2:])
    return machine, backend, results


@pytest.mark.interpreted
def test_it_gives_the_loop_back_and_what_is_behind_it_waits() -> None:
    log = log_of(PUT_BEFORE, transaction(), PUT_BEHIND)
    machine = opened(bootstrapped())
    results = machine.apply(log)
    assert [one.index for one in results] == list(range(1, len(log) - 1)), "all before it"
    state, calls = (machine.applied_index, machine.revision, machine.hash), 1
    while not (results := machine.apply(log[-2:])):
        calls += 1
        assert machine.is_unfinished
        assert (machine.applied_index, machine.revision, machine.hash) == state
        assert machine.may_be_read and not machine.is_held and not machine.is_half_deleted
        row = machine.store.get_row(0, b"k05")
        assert row is not None and b"new" not in row
    assert calls >= 2 * len(KEYS) // ROWS_A_CALL - 2  # twice in the first one
    first, second = results
    assert isinstance(first.result, TxnResult) and first.result.succeeded
    assert machine.store.get_row(0, b"other") and not machine.store.get_row(0, b"wrong")
    assert second.result == PutResult(state[1] + 2)
    assert not machine.is_unfinished


@pytest.mark.parametrize("is_giant", [False, True])
@pytest.mark.parametrize("steps", [1, 3, 7])
def test_where_it_pauses_does_not_show(
    monkeypatch: pytest.MonkeyPatch, steps: int, is_giant: bool
) -> None:
    log = log_of(PUT_BEFORE, transaction(deletes=is_giant), PUT_BEHIND)
    expected, expected_backend, expected_results = finished(log)
    monkeypatch.setattr(deciding, "STEPS_AT_ONCE", steps)
    backend = bootstrapped()
    machine = opened(backend)
    assert comparable(applied(machine, log)) == comparable(expected_results)
    assert machine.hash == expected.hash
    assert rows_of(backend) == rows_of(expected_backend)


@pytest.mark.parametrize("is_giant", [False, True])
@pytest.mark.parametrize("calls", range(1, 14))
def test_a_crash_in_the_midst_begins_anew_to_the_same_end(calls: int, is_giant: bool) -> None:
    log = log_of(PUT_BEFORE, transaction(deletes=is_giant), PUT_BEHIND)
    expected, expected_backend, _ = finished(log)
    backend = bootstrapped()
    machine = opened(backend)
    applied(machine, log, calls)
    again = opened(backend.crash(backend.unsynced_batches))
    if machine.applied_index < len(log) - 1 and not machine.is_half_deleted:
        assert again.applied_index == machine.applied_index == len(log) - 2
    crashed = again._backend
    applied(again, log[again.applied_index :])
    assert again.hash == expected.hash
    assert rows_of(crashed) == rows_of(expected_backend)


@pytest.mark.interpreted
def test_what_is_before_it_and_does_not_get_written_is_written_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = log_of(PUT_BEFORE, transaction(), PUT_BEHIND)
    expected, expected_backend, expected_results = finished(log)
    backend = bootstrapped()
    machine = opened(backend)
    results = applied_while_stalling(machine, backend, log, monkeypatch)
    assert comparable(results) == comparable(expected_results)
    assert rows_of(backend) == rows_of(expected_backend) and machine.hash == expected.hash


@pytest.mark.interpreted
def test_a_giant_one_that_is_held_up_is_decided_once() -> None:
    log = log_of(PUT_BEFORE, transaction(deletes=True), PUT_BEHIND)
    machine = opened(bootstrapped())
    machine.hold_up_giants()
    applied(machine, log, 50)
    with mock.patch.object(compare, "current_rows", side_effect=AssertionError):
        assert machine.apply(log) == []
        machine.let_giants_go()
        assert len(applied(machine, log)) == 2
    assert machine.hash == finished(log)[0].hash


def test_a_compare_that_fails_early_is_done_early() -> None:
    first = Compare(key=b"k", range_end=b"l", target=Compare.VERSION, version=2)
    machine = opened(bootstrapped())
    log = log_of(TxnRequest(compare=[first, ALL], failure=transaction().success[:1]), PUT_BEHIND)
    assert len(machine.apply(log)) == len(log) and not machine.is_unfinished


requests: st.SearchStrategy[Any] = st.one_of(plain_puts, plain_puts, deletes, txns, txns)


@settings(max_examples=150)
@given(st.lists(requests, min_size=1, max_size=12), st.integers(1, 5))
def test_in_slices_or_at_once_every_transaction_does_the_same(
    bodies: list[Message], page_size: int
) -> None:
    log = as_log([encode(body, number) for number, body in enumerate(bodies, 1)])
    at_once, sliced = bootstrapped(), bootstrapped()
    expected = opened(at_once)
    expected_results = applied(expected, log)
    machine, results = opened(sliced), []
    with (
        mock.patch.object(compare, "ROWS_PER_SLICE", 1),
        mock.patch.object(deciding, "STEPS_AT_ONCE", 1),
    ):
        while machine.applied_index < len(log):
            first = machine.applied_index
            results += applied(machine, log[first : first + page_size])
    assert comparable(results) == comparable(expected_results)
    assert machine.hash == expected.hash
    assert rows_of(sliced) == rows_of(at_once)
