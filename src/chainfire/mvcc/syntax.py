"""Checks of requests that need no state, in etcd's order, with etcd's errors.

The API makes them before anything is proposed. Applying a request that has
not passed them is defined all the same, and the same on every member.
"""

from __future__ import annotations

from collections.abc import Iterable

from chainfire.errors import (
    DuplicateKey,
    EmptyKey,
    InvalidArgument,
    InvalidSortOption,
    KeyNotFound,
    LeaseProvided,
    TooManyOps,
    Unimplemented,
    ValueProvided,
)
from chainfire.mvcc.intervals import KeySet
from chainfire.mvcc.ranges import FROM_KEY
from chainfire.proto.kv_pb2 import (
    Consistency,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
)

_SORT_ORDERS = frozenset(RangeRequest.SortOrder.values())
_SORT_TARGETS = frozenset(RangeRequest.SortTarget.values())
_CONSISTENCIES = frozenset(Consistency.values())


def check_range(request: RangeRequest) -> None:
    """Raises EmptyKey, InvalidSortOption, InvalidArgument."""
    if not request.key:
        raise EmptyKey
    if request.sort_order not in _SORT_ORDERS or request.sort_target not in _SORT_TARGETS:
        raise InvalidSortOption
    if request.consistency:
        if request.consistency not in _CONSISTENCIES:
            raise InvalidArgument(f"unknown consistency {request.consistency}")
        if request.serializable and request.consistency == Consistency.LOCAL:
            raise InvalidArgument("serializable and consistency LOCAL exclude each other")


def check_range_stream(request: RangeRequest) -> None:
    """Raises what `check_range` does, and Unimplemented for what cannot be cut into chunks."""
    check_range(request)
    if request.sort_target != RangeRequest.KEY or request.sort_order == RangeRequest.DESCEND:
        raise Unimplemented("RangeStream answers in key order only")
    if (
        request.min_mod_revision
        or request.max_mod_revision
        or request.min_create_revision
        or request.max_create_revision
    ):
        raise Unimplemented("RangeStream has no revision filters")


def check_put(request: PutRequest) -> None:
    """Raises EmptyKey, ValueProvided, LeaseProvided."""
    if not request.key:
        raise EmptyKey
    if request.ignore_value and request.value:
        raise ValueProvided
    if request.ignore_lease and request.lease:
        raise LeaseProvided


def check_delete(request: DeleteRangeRequest) -> None:
    """Raises EmptyKey."""
    if not request.key:
        raise EmptyKey


def check_txn(request: TxnRequest, max_ops: int) -> None:
    """Raises what the checks of its operations do, TooManyOps and DuplicateKey."""
    _check_ops(request, max_ops)
    for branch in (request.success, request.failure):
        if len(branch) > 1 or (branch and branch[0].HasField("request_txn")):
            _ensure_disjoint(branch)


def _check_ops(request: TxnRequest, max_ops: int) -> None:
    ops = max(len(request.compare), len(request.success), len(request.failure))
    if ops > max_ops:
        raise TooManyOps
    for compare in request.compare:
        if not compare.key:
            raise EmptyKey
    for branch in (request.success, request.failure):
        for op in branch:
            _check_op(op, max_ops - ops)  # nested ones get what this level leaves


def _check_op(op: RequestOp, max_ops: int) -> None:
    match op.WhichOneof("request"):
        case "request_range":
            check_range(op.request_range)
        case "request_put":
            check_put(op.request_put)
        case "request_delete_range":
            check_delete(op.request_delete_range)
        case "request_txn":
            _check_ops(op.request_txn, max_ops)
        case _:
            raise KeyNotFound


def _ensure_disjoint(branch: Iterable[RequestOp]) -> tuple[set[bytes], KeySet]:
    """Raise DuplicateKey where etcd does; return what the branch puts and deletes.

    Not everything that overlaps is found, as in etcd: a from-key delete
    covers nothing here, and a delete in a later nested transaction is not
    held against puts of an earlier one. Those run in list order.
    """
    deletes = KeySet()
    for op in branch:
        if op.HasField("request_delete_range"):
            key, range_end = op.request_delete_range.key, op.request_delete_range.range_end
            if range_end != FROM_KEY:
                deletes.add(key, range_end or key + b"\0")
    puts: set[bytes] = set()
    for op in branch:
        if not op.HasField("request_txn"):
            continue
        then_puts, then_deletes = _ensure_disjoint(op.request_txn.success)
        else_puts, else_deletes = _ensure_disjoint(op.request_txn.failure)
        # Only one of the two will run: both may put the same key.
        nested_puts = then_puts | else_puts
        if nested_puts & puts or any(key in deletes for key in nested_puts):
            raise DuplicateKey
        puts |= nested_puts
        deletes.update(then_deletes)
        deletes.update(else_deletes)
    for op in branch:
        if op.HasField("request_put"):
            key = op.request_put.key
            if key in puts or key in deletes:
                raise DuplicateKey
            puts.add(key)
    return puts, deletes
