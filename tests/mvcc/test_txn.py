"""The rules of transactions, one by one (reference: Txn)."""

from __future__ import annotations

from typing import Any

import pytest

from chainfire.errors import Compacted, FutureRevision, KeyNotFound, LeaseNotFound
from chainfire.mvcc import compare
from chainfire.mvcc.read import run
from chainfire.mvcc.txn import is_read_only, read_txn_steps
from chainfire.proto.kv_pb2 import (
    Compare,
    DeleteRangeRequest,
    KeyValue,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
)
from chainfire.types import DeleteResult, PutResult, RangeResult, TxnResult
from tests.mvcc.world import World


def put(key: bytes, value: bytes = b"", **fields: Any) -> RequestOp:
    return RequestOp(request_put=PutRequest(key=key, value=value, **fields))


def delete(key: bytes, range_end: bytes = b"", **fields: Any) -> RequestOp:
    return RequestOp(
        request_delete_range=DeleteRangeRequest(key=key, range_end=range_end, **fields)
    )


def read(key: bytes, range_end: bytes = b"", **fields: Any) -> RequestOp:
    return RequestOp(request_range=RangeRequest(key=key, range_end=range_end, **fields))


def nested(*then: RequestOp, compare: tuple[Compare, ...] = (), failure: Any = ()) -> RequestOp:
    return RequestOp(request_txn=TxnRequest(compare=compare, success=then, failure=failure))


def is_true(world: World, **compare: Any) -> bool:
    return world.txn(TxnRequest(compare=[Compare(**compare)])).succeeded


EQUAL, GREATER, LESS, NOT_EQUAL = range(4)
VERSION, CREATE, MOD, VALUE, LEASE = range(5)


@pytest.fixture
def world() -> World:
    """a: version 2, created 2, mod 3, value "m", lease 7. b: version 1 at 4, value ""."""
    world = World()
    world.put(b"a", b"l")
    world.put(b"a", b"m", lease=7)
    world.put(b"b")
    return world


@pytest.mark.parametrize(
    ("target", "field", "smaller", "same", "larger"),
    [
        (VERSION, "version", 1, 2, 3),
        (CREATE, "create_revision", 1, 2, 3),
        (MOD, "mod_revision", 2, 3, 4),
        (VALUE, "value", b"", b"m", b"m\0"),
        (LEASE, "lease", -1, 7, 8),
    ],
)
def test_every_target_and_operator(
    world: World, target: int, field: str, smaller: Any, same: Any, larger: Any
) -> None:
    table = {
        EQUAL: (False, True, False),
        NOT_EQUAL: (True, False, True),
        GREATER: (True, False, False),
        LESS: (False, False, True),
    }
    for result, expected in table.items():
        found = tuple(
            is_true(world, result=result, target=target, key=b"a", **{field: operand})
            for operand in (smaller, same, larger)
        )
        assert found == expected


@pytest.mark.parametrize("result", [EQUAL, NOT_EQUAL, GREATER, LESS])
@pytest.mark.parametrize("range_end", [b"", b"z", b"\0", b"c"])
def test_a_missing_key_has_no_value_and_numbers_of_zero(
    world: World, result: int, range_end: bytes
) -> None:
    compare = {"result": result, "key": b"x", "range_end": range_end}
    assert not is_true(world, target=VALUE, value=b"", **compare)
    for target in (VERSION, CREATE, MOD, LEASE):
        assert is_true(world, target=target, **compare) == (result == EQUAL)


def test_an_unset_union_is_zero_and_so_is_one_of_another_target(world: World) -> None:
    assert is_true(world, result=GREATER, target=VERSION, key=b"a")
    assert is_true(world, result=GREATER, target=VERSION, key=b"a", value=b"zzz")
    assert is_true(world, result=EQUAL, target=VALUE, key=b"b", version=5)


def test_unknown_enums_fall_through_as_in_etcd(world: World) -> None:
    assert is_true(world, result=9, target=VERSION, key=b"a", version=77)
    assert is_true(world, result=EQUAL, target=9, key=b"a", version=77)
    assert not is_true(world, result=LESS, target=9, key=b"a", version=77)


def test_a_range_compares_every_key(world: World) -> None:
    everything = {"key": b"\0", "range_end": b"\0"}
    assert is_true(world, result=GREATER, target=VERSION, version=0, **everything)
    assert not is_true(world, result=GREATER, target=VERSION, version=1, **everything)
    assert not is_true(world, result=EQUAL, target=VERSION, version=0, **everything)
    assert is_true(world, result=EQUAL, target=VERSION, version=0, key=b"x", range_end=b"y")
    assert is_true(world, result=LESS, target=MOD, mod_revision=4, key=b"a", range_end=b"b")


def test_compares_are_anded_and_none_is_success(world: World) -> None:
    good = Compare(key=b"a", target=VERSION, version=2)
    bad = Compare(key=b"a", target=VERSION, version=3)
    assert world.txn(TxnRequest()).succeeded
    assert world.txn(TxnRequest(compare=[good, good])).succeeded
    assert not world.txn(TxnRequest(compare=[good, bad])).succeeded
    assert world.store.revision == 4


def test_nested_compares_see_the_state_before_any_write(world: World) -> None:
    absent = Compare(key=b"new", target=VERSION, version=0)
    result = world.txn(
        TxnRequest(
            success=[
                put(b"new"),
                nested(put(b"then"), compare=(absent,), failure=[put(b"else")]),
            ]
        )
    )
    assert isinstance(result.results[1], TxnResult)
    assert result.results[1].succeeded
    assert world.range(b"then").count == 1


def test_results_in_list_order_with_their_revisions(world: World) -> None:
    result = world.txn(
        TxnRequest(
            success=[
                read(b"a"),
                delete(b"x"),
                put(b"c", b"1"),
                read(b"c"),
                nested(put(b"d"), read(b"c", b"e", count_only=True)),
                delete(b"x"),
            ]
        )
    )
    a = world.store.get_row(0, b"a")
    c = KeyValue(key=b"c", create_revision=5, mod_revision=5, version=1, value=b"1")
    assert a is not None
    assert result == TxnResult(
        5,
        True,
        [
            RangeResult(4, [a], False, 1),
            DeleteResult(4, 0, []),
            PutResult(5),
            RangeResult(5, [c.SerializeToString()], False, 1),
            TxnResult(0, True, [PutResult(5), RangeResult(5, [], False, 2)]),
            DeleteResult(5, 0, []),
        ],
    )


def test_a_transaction_without_changes_consumes_no_revision(world: World) -> None:
    assert world.txn(TxnRequest(success=[read(b"a"), delete(b"x", b"z")])).revision == 4
    assert world.store.revision == 4


def test_all_changes_share_the_main_revision_and_count_subs(world: World) -> None:
    world.txn(TxnRequest(success=[put(b"x"), put(b"y"), delete(b"a", b"c")]))
    subs = [int.from_bytes(key[12:]) for family, key, _ in world.changes if family == "revisions"]
    assert subs == [0, 1, 2, 3]
    assert world.store.revision == 5


def test_a_range_at_an_old_revision_does_not_see_the_transaction(world: World) -> None:
    result = world.txn(
        TxnRequest(success=[put(b"a", b"new"), read(b"a", revision=4), read(b"a", revision=2)])
    )
    values = [KeyValue.FromString(r.rows[0]).value for r in result.results[1:]]  # type: ignore[union-attr]
    assert values == [b"m", b"l"]


@pytest.mark.parametrize(
    ("op", "error"),
    [
        (read(b"a", revision=5), FutureRevision),  # current + 1, even after a put
        (read(b"a", revision=-2), Compacted),  # below -1, the compacted revision of a new store
        (put(b"x", lease=99), LeaseNotFound),
        (put(b"x", ignore_value=True), KeyNotFound),
        (put(b"x", ignore_lease=True), KeyNotFound),
        (nested(put(b"x", lease=99)), LeaseNotFound),
        (nested(nested(read(b"a", revision=9))), FutureRevision),
    ],
)
def test_what_would_fail_later_fails_the_whole_transaction_first(
    world: World, op: RequestOp, error: type[Exception]
) -> None:
    with pytest.raises(error):
        world.txn(TxnRequest(success=[put(b"c"), delete(b"a"), op]))
    assert world.store.revision == 4
    assert world.range(b"\0", b"\0").count == 2
    # The branch that is not taken is not looked at.
    assert world.txn(TxnRequest(success=[put(b"c")], failure=[op])).succeeded


def test_a_range_s_revision_is_held_against_the_compacted_one(world: World) -> None:
    world.compact(3)
    assert world.txn(TxnRequest(success=[read(b"a", revision=3)])).results
    for revision in (2, -1, -5):
        with pytest.raises(Compacted):
            world.txn(TxnRequest(success=[read(b"a", revision=revision)]))


def test_ignoring_something_needs_the_key_before_the_transaction(world: World) -> None:
    with pytest.raises(KeyNotFound):
        world.txn(TxnRequest(success=[put(b"x"), nested(put(b"x", ignore_value=True))]))


@pytest.mark.parametrize(
    ("before", "gone"),
    [
        ([delete(b"a", b"\0")], True),
        ([delete(b"\0", b"\0")], True),
        ([delete(b"b", b"\0")], False),
        ([delete(b"\0", b"\0"), put(b"a", b"again")], False),
        ([delete(b"a", b"\0"), put(b"a"), delete(b"a", b"\0")], True),
        ([put(b"a"), delete(b"a", b"\0")], True),
        ([nested(delete(b"a", b"b"))], True),
    ],
)
def test_ignoring_something_fails_if_the_transaction_has_deleted_the_key(
    world: World, before: list[RequestOp], gone: bool
) -> None:
    """etcd accepts these and crashes on the first kind."""
    txn = TxnRequest(success=[*before, put(b"a", ignore_value=True)])
    if gone:
        with pytest.raises(KeyNotFound):
            world.txn(txn)
        assert world.range(b"a", revision=world.store.revision).count == 1
    else:
        world.txn(txn)
        assert world.range(b"a").count == 1


def test_a_key_changes_more_than_once_in_list_order(world: World) -> None:
    result = world.txn(
        TxnRequest(
            success=[
                delete(b"a", b"\0", prev_kv=True),
                put(b"a", b"1", prev_kv=True),
                delete(b"a", b"\0", prev_kv=True),
                put(b"a", b"2", prev_kv=True),
                read(b"a"),
            ]
        )
    )
    first, one, second, two, found = result.results
    assert isinstance(first, DeleteResult) and first.deleted == 2
    assert isinstance(second, DeleteResult)
    assert [KeyValue.FromString(prev).value for prev in second.prevs] == [b"1"]
    assert one == two == PutResult(5)
    assert isinstance(found, RangeResult)
    assert KeyValue.FromString(found.rows[0]) == KeyValue(
        key=b"a", create_revision=5, mod_revision=5, version=1, value=b"2"
    )
    assert world.range(b"a", revision=4).count == 1
    world.put(b"a", b"3")
    (row,) = world.range(b"a", revision=5).rows
    assert KeyValue.FromString(row).value == b"2"


def test_an_operation_that_syntax_would_refuse_fails_the_same_on_every_member(
    world: World,
) -> None:
    with pytest.raises(KeyNotFound):
        world.txn(TxnRequest(success=[put(b"c"), RequestOp()]))


# ── transactions that only read ─────────────────────────────────────────────


def test_only_direct_ranges_make_a_transaction_read_only() -> None:
    assert is_read_only(TxnRequest())
    assert is_read_only(TxnRequest(success=[read(b"a")], failure=[read(b"b")]))
    assert not is_read_only(TxnRequest(success=[read(b"a")], failure=[put(b"b")]))
    assert not is_read_only(TxnRequest(success=[nested(read(b"a"))]))


def test_a_read_only_transaction_answers_as_through_the_log(world: World) -> None:
    txn = TxnRequest(
        compare=[Compare(key=b"a", target=VERSION, version=2)],
        success=[read(b"a", b"\0"), read(b"a", revision=2), read(b"a", b"c", count_only=True)],
    )
    assert run(read_txn_steps(world.backend, world.store, 0, txn)) == world.txn(txn)
    for revision, error in ((5, FutureRevision), (-2, Compacted)):
        bad = TxnRequest(success=[read(b"a", revision=revision)])
        with pytest.raises(error):
            run(read_txn_steps(world.backend, world.store, 0, bad))


def test_a_read_only_transaction_compares_a_large_range_in_slices_at_one_moment(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "ROWS_PER_SLICE", 1)
    is_there = Compare(key=b"a", range_end=b"\0", target=VERSION, result=Compare.GREATER)
    txn = TxnRequest(compare=[is_there, is_there], success=[read(b"a", b"\0"), read(b"a")])
    expected = run(read_txn_steps(world.backend, world.store, 0, txn))
    steps = read_txn_steps(world.backend, world.store, 0, txn)
    next(steps)
    world.delete(b"a", b"\0")
    assert run(steps) == expected
    assert (
        expected.succeeded and not run(read_txn_steps(world.backend, world.store, 0, txn)).succeeded
    )


def test_a_read_only_transaction_in_slices_sees_one_moment(world: World) -> None:
    txn = TxnRequest(success=[read(b"a", b"\0"), read(b"a", b"\0")])
    expected = run(read_txn_steps(world.backend, world.store, 0, txn))
    steps = read_txn_steps(world.backend, world.store, 0, txn, rows_per_slice=1)
    next(steps)
    world.delete(b"a")
    world.put(b"c")
    assert run(steps) == expected
