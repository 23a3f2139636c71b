"""What is foreseen of entries is what their apply returns; the general way is the judge."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainfire.machine import Machine
from chainfire.machine.foresight import EVALUATED_MAX
from chainfire.proto.command_pb2 import LeaseGrant
from chainfire.proto.kv_pb2 import Compare, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest
from chainfire.types import AckResult, DeleteResult, Entry, PutResult, TxnResult
from tests import report
from tests.machine.test_determinism import logs
from tests.machine.test_plain import mostly_plain, without_codec
from tests.machine.world import as_log, bootstrapped, comparable, encode, opened, rows_of

native = pytest.importorskip("chainfire_native", reason="chainfire-native is not installed")

A, B = PutRequest(key=b"a", value=b"1"), PutRequest(key=b"b", value=b"2")


def log_of(*bodies: PutRequest | DeleteRangeRequest | TxnRequest) -> list[Entry]:
    return as_log([encode(body, number) for number, body in enumerate(bodies, 1)])


def with_one_put() -> tuple[Machine, list[Entry]]:
    """`a` is there at revision 2; the rest of a log."""
    machine = opened(bootstrapped())
    log = log_of(
        A, DeleteRangeRequest(key=b"a"), B, cas(b"a", 1, A), DeleteRangeRequest(key=b"c"), A
    )
    machine.apply(log[:1])
    return machine, log[1:]


def cas(key: bytes, version: int, put: PutRequest) -> TxnRequest:
    compare = Compare(result=Compare.EQUAL, target=Compare.VERSION, key=key, version=version)
    return TxnRequest(compare=[compare], success=[RequestOp(request_put=put)])


def test_deletes_and_transactions_of_untouched_keys_are_certain() -> None:
    machine, (delete, put, txn, nothing, last) = with_one_put()
    (foreseen,) = machine.foresee([delete])
    assert foreseen.result == DeleteResult(revision=3, deleted=1, prevs=[])
    (foreseen,) = machine.foresee([put])
    assert foreseen.result == PutResult(revision=4)
    assert machine.foresee([txn]) == []  # the delete has touched its key
    assert machine.foresee([nothing]) == []  # not right behind what was foreseen
    assert [one.index for one in machine.apply([delete, put, txn])] == [2, 3, 4]
    (foreseen,) = machine.foresee([nothing])
    assert foreseen.result == DeleteResult(revision=4, deleted=0, prevs=[])
    machine.apply([nothing, last])


@pytest.mark.parametrize(("version", "succeeded"), [(1, True), (2, False)])
def test_a_transaction_is_foreseen_with_the_branch_it_takes(version: int, succeeded: bool) -> None:
    machine, _ = with_one_put()
    (txn,) = as_log([encode(cas(b"a", version, B), 2)], first=2)
    results = [PutResult(revision=3)] if succeeded else []
    (foreseen,) = machine.foresee([txn])
    assert foreseen.result == TxnResult(3 if succeeded else 2, succeeded, results)
    assert machine.revision == 2
    assert machine.apply([txn]) == [foreseen]


def test_a_grant_is_certain_where_nobody_has_the_lease_and_nothing_is_wrong_with_it() -> None:
    machine, _ = with_one_put()
    grants = [
        LeaseGrant(id=5, ttl_ms=1000),
        LeaseGrant(id=5, ttl_ms=1000),
        LeaseGrant(id=6, ttl_ms=0),
        LeaseGrant(id=7, ttl_ms=1000),
    ]
    log = as_log([encode(body, 2 + at) for at, body in enumerate(grants)], first=2)
    (foreseen,) = machine.foresee(log[:2])
    assert foreseen.result == AckResult(2)
    assert not machine.leases.exists(0, 5)
    machine.apply(log[:2])
    assert machine.foresee(log[2:3]) == []
    machine.apply(log[2:3])
    assert len(machine.foresee(log[3:])) == 1
    machine.apply(log[3:])


def test_of_many_entries_only_puts_are_foreseen() -> None:
    machine, _ = with_one_put()
    bodies = [*[B] * EVALUATED_MAX, DeleteRangeRequest(key=b"a")]
    log = as_log([encode(body, 2 + at) for at, body in enumerate(bodies)], first=2)
    assert len(machine.foresee(log)) == EVALUATED_MAX
    machine.apply(log)


@settings(max_examples=200)
@given(st.one_of(mostly_plain(), mostly_plain(), logs()), st.data())
def test_whatever_was_foreseen_comes_true(log: list[Entry], data: st.DataObject) -> None:
    backends = bootstrapped(), bootstrapped()
    one, two = opened(backends[0]), without_codec(backends[1])
    foreseen, results, waiting = [], [], []
    for entry in log:
        waiting.append(entry)
        seen = one.foresee([entry])
        foreseen += seen
        if not seen or data.draw(st.booleans()):
            results += one.apply(waiting)
            waiting = []
    results += one.apply(waiting)
    truth = two.apply(log)
    assert comparable(results) == comparable(truth)
    by_index = {became.index: became for became in truth}
    assert comparable(foreseen) == comparable([by_index[told.index] for told in foreseen])
    assert rows_of(backends[0]) == rows_of(backends[1])
    report.count("results foreseen and come true", len(foreseen))
