"""Checks without state: what etcd refuses, in which order, and what it accepts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainfire.errors import (
    DuplicateKey,
    EmptyKey,
    InvalidArgument,
    InvalidSortOption,
    KeyNotFound,
    LeaseProvided,
    RequestError,
    TooManyOps,
    Unimplemented,
    ValueProvided,
)
from chainfire.mvcc.intervals import KeySet
from chainfire.mvcc.syntax import (
    check_delete,
    check_put,
    check_range,
    check_range_stream,
    check_txn,
)
from chainfire.proto.kv_pb2 import (
    Compare,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
)
from tests.mvcc.strategies import KEYS, txns

MAX_OPS = 128


def refused(check: Callable[..., None], *args: Any) -> type[RequestError] | None:
    try:
        check(*args)
    except RequestError as error:
        return type(error)
    return None


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"key": b"a"}, None),
        ({}, EmptyKey),
        ({"sort_order": 9}, EmptyKey),
        ({"key": b"a", "sort_order": 3}, InvalidSortOption),
        ({"key": b"a", "sort_target": 5}, InvalidSortOption),
        ({"key": b"a", "sort_target": -1}, InvalidSortOption),
        ({"key": b"a", "limit": -1, "revision": -1}, None),
        ({"key": b"a", "serializable": True, "consistency": 1}, None),
        ({"key": b"a", "serializable": True, "consistency": 2}, InvalidArgument),
        ({"key": b"a", "consistency": 2}, None),
        ({"key": b"a", "consistency": 3}, InvalidArgument),
    ],
)
def test_ranges(fields: dict[str, Any], error: type[RequestError] | None) -> None:
    assert refused(check_range, RangeRequest(**fields)) is error


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"key": b"a", "limit": 3, "keys_only": True}, None),
        ({"key": b"a", "sort_order": RangeRequest.ASCEND}, None),
        ({}, EmptyKey),
        ({"key": b"a", "sort_target": 7}, InvalidSortOption),
        ({"key": b"a", "sort_order": RangeRequest.DESCEND}, Unimplemented),
        ({"key": b"a", "sort_target": RangeRequest.MOD}, Unimplemented),
        ({"key": b"a", "min_mod_revision": 1}, Unimplemented),
        ({"key": b"a", "max_mod_revision": 1}, Unimplemented),
        ({"key": b"a", "min_create_revision": 1}, Unimplemented),
        ({"key": b"a", "max_create_revision": 1}, Unimplemented),
    ],
)
def test_range_streams(fields: dict[str, Any], error: type[RequestError] | None) -> None:
    assert refused(check_range_stream, RangeRequest(**fields)) is error


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"key": b"a"}, None),
        ({"value": b"v"}, EmptyKey),
        ({"ignore_value": True, "value": b"v"}, EmptyKey),
        ({"key": b"a", "ignore_value": True, "value": b"v"}, ValueProvided),
        ({"key": b"a", "ignore_value": True}, None),
        ({"key": b"a", "ignore_lease": True, "lease": 1}, LeaseProvided),
        ({"key": b"a", "ignore_lease": True}, None),
        (
            {"key": b"a", "ignore_value": True, "value": b"v", "ignore_lease": True, "lease": 1},
            ValueProvided,
        ),
    ],
)
def test_puts(fields: dict[str, Any], error: type[RequestError] | None) -> None:
    assert refused(check_put, PutRequest(**fields)) is error


def test_deletes() -> None:
    assert refused(check_delete, DeleteRangeRequest(range_end=b"b")) is EmptyKey
    assert refused(check_delete, DeleteRangeRequest(key=b"a")) is None


# ── transactions ────────────────────────────────────────────────────────────


def put(key: bytes) -> RequestOp:
    return RequestOp(request_put=PutRequest(key=key))


def delete(key: bytes, range_end: bytes = b"") -> RequestOp:
    return RequestOp(request_delete_range=DeleteRangeRequest(key=key, range_end=range_end))


def nested(then: list[RequestOp], otherwise: list[RequestOp] | None = None) -> RequestOp:
    return RequestOp(request_txn=TxnRequest(success=then, failure=otherwise or []))


READ = RequestOp(request_range=RangeRequest(key=b"r"))


@pytest.mark.parametrize(
    ("ops", "error"),
    [
        ([put(b"a"), put(b"b")], None),
        ([put(b"a"), put(b"a")], DuplicateKey),
        ([put(b"b"), delete(b"a", b"c")], DuplicateKey),
        ([delete(b"a", b"c"), put(b"b")], DuplicateKey),
        ([delete(b"a", b"c"), put(b"c")], None),
        ([delete(b"a"), put(b"a")], DuplicateKey),
        ([delete(b"a"), put(b"a\0")], None),
        ([delete(b"a", b"c"), delete(b"b", b"d")], None),
        ([delete(b"c", b"a"), put(b"b")], None),  # an empty range
        ([delete(b"a", b"\0"), put(b"b")], None),  # from-key: not seen, as in etcd
        ([nested([put(b"a")]), put(b"a")], DuplicateKey),
        ([nested([put(b"a")], [put(b"a")])], None),
        ([nested([put(b"a")], [put(b"a")]), put(b"a")], DuplicateKey),
        ([nested([put(b"a")]), nested([put(b"a")])], DuplicateKey),
        ([nested([], [put(b"a")]), nested([put(b"a")])], DuplicateKey),
        ([nested([put(b"b")]), delete(b"a", b"c")], DuplicateKey),
        ([nested([delete(b"a", b"c")]), put(b"b")], DuplicateKey),
        ([nested([delete(b"a", b"c")]), nested([put(b"b")])], DuplicateKey),
        ([nested([put(b"b")]), nested([delete(b"a", b"c")])], None),  # not seen, as in etcd
        ([nested([put(b"b")], [delete(b"b")])], None),
        ([nested([nested([put(b"a")])]), nested([nested([put(b"a")])])], DuplicateKey),
        ([RequestOp()], KeyNotFound),
        ([nested([RequestOp()])], KeyNotFound),
        ([put(b"")], EmptyKey),
        ([READ, delete(b"")], EmptyKey),
        ([RequestOp(request_range=RangeRequest(key=b"r", sort_order=7))], InvalidSortOption),
        # Operations come before duplicates.
        ([put(b"a"), put(b"a"), put(b"")], EmptyKey),
        ([put(b"a"), put(b"a"), nested([READ] * 200)], TooManyOps),
    ],
)
def test_operations_of_a_transaction(
    ops: list[RequestOp], error: type[RequestError] | None
) -> None:
    assert refused(check_txn, TxnRequest(success=ops), MAX_OPS) is error
    assert refused(check_txn, TxnRequest(failure=ops), MAX_OPS) is error


def test_each_branch_may_put_the_same_key() -> None:
    txn = TxnRequest(success=[put(b"a")], failure=[put(b"a")])
    assert refused(check_txn, txn, MAX_OPS) is None


def test_compares_come_before_operations() -> None:
    txn = TxnRequest(compare=[Compare()], success=[RequestOp()])
    assert refused(check_txn, txn, MAX_OPS) is EmptyKey


@pytest.mark.parametrize("field", ["compare", "success", "failure"])
def test_the_longest_list_counts(field: str) -> None:
    def txn(count: int) -> TxnRequest:
        item = Compare(key=b"c") if field == "compare" else READ
        return TxnRequest(**{field: [item] * count})

    assert refused(check_txn, txn(128), MAX_OPS) is None
    assert refused(check_txn, txn(129), MAX_OPS) is TooManyOps


def test_a_nested_transaction_gets_what_the_outer_level_leaves() -> None:
    outer = [READ] * 99
    assert refused(check_txn, TxnRequest(success=[*outer, nested([READ] * 28)]), MAX_OPS) is None
    too_many = TxnRequest(success=[*outer, nested([READ] * 29)])
    assert refused(check_txn, too_many, MAX_OPS) is TooManyOps


def twin_overlaps(branch: Any) -> tuple[list[bytes], list[tuple[bytes, bytes]]] | None:
    """etcd's checkIntervals by linear search; None = a duplicate."""
    deletes = []
    for op in branch:
        if op.HasField("request_delete_range"):
            request = op.request_delete_range
            deletes.append((request.key, request.range_end or request.key + b"\0"))
    puts: list[bytes] = []

    def covered(key: bytes) -> bool:
        # b"\0" as an end sorts before every key: a from-key delete covers nothing.
        return any(start <= key < end for start, end in deletes)

    for op in branch:
        if op.HasField("request_txn"):
            then, other = (
                twin_overlaps(op.request_txn.success),
                twin_overlaps(op.request_txn.failure),
            )
            if then is None or other is None:
                return None
            for key in then[0]:
                if key in puts or covered(key):
                    return None
                puts.append(key)
            for key in other[0]:
                if (key in puts and key not in then[0]) or covered(key):
                    return None
                puts.append(key)
            deletes += then[1] + other[1]
    for op in branch:
        if op.HasField("request_put"):
            if op.request_put.key in puts or covered(op.request_put.key):
                return None
            puts.append(op.request_put.key)
    return puts, deletes


@given(txns)
@settings(max_examples=300)
def test_duplicates_are_found_where_etcd_finds_them(txn: TxnRequest) -> None:
    found = refused(check_txn, txn, 10_000)
    if found in (None, DuplicateKey):
        overlaps = twin_overlaps(txn.success) is None or twin_overlaps(txn.failure) is None
        assert (found is DuplicateKey) == overlaps


@given(st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(KEYS))), st.sampled_from(KEYS))
def test_a_key_set_is_the_union_of_its_ranges(
    ranges: list[tuple[bytes, bytes]], key: bytes
) -> None:
    keys = KeySet()
    for start, end in ranges:
        keys.add(start, end)
    assert (key in keys) == any(start <= key < end for start, end in ranges)
