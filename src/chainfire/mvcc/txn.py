"""Transactions: decide, check, then execute; the order is etcd's and shows in results.

decide    all compares, nested ones in the taken branches too, against the
          state before any write: what will run is fixed up front; in slices,
          where they are of large ranges
check     what would fail later: revisions of ranges, leases, keys that
          ignore_value and ignore_lease need; the whole request fails here
          or not at all
execute   in list order; a range sees the writes before it (mvcc.later)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from chainfire.errors import Compacted, FutureRevision, KeyNotFound
from chainfire.mvcc.cache import RowCache
from chainfire.mvcc.changes import Changes
from chainfire.mvcc.compare import hold_steps
from chainfire.mvcc.intervals import KeySet
from chainfire.mvcc.ranges import FROM_KEY
from chainfire.mvcc.read import ROWS_PER_SLICE, Moment, Steps, range_at, run
from chainfire.mvcc.state import Apart, StoreState
from chainfire.proto.kv_pb2 import DeleteRangeRequest, PutRequest, RequestOp, TxnRequest
from chainfire.storage.backend import Freezable, Reader
from chainfire.types import OpResult, TxnResult


@dataclass(slots=True)
class Branch:
    """The branch that a transaction takes."""

    succeeded: bool
    steps: list[RequestOp | Branch] = field(default_factory=list)  # a Branch: a nested transaction


def decide(view: Reader, cache: RowCache, prefix: bytes, request: TxnRequest) -> Branch:
    return run(decide_steps(view, cache, prefix, request))


def decide_steps(
    view: Reader, cache: RowCache, prefix: bytes, request: TxnRequest
) -> Steps[Branch]:
    """The state may not change in between. No steps but for compares of ranges."""
    branch = Branch(True)
    for compare in request.compare:
        if not (yield from hold_steps(view, cache, prefix, compare)):
            branch.succeeded = False
            break
    for op in request.success if branch.succeeded else request.failure:
        if op.HasField("request_txn"):
            branch.steps.append((yield from decide_steps(view, cache, prefix, op.request_txn)))
        else:
            branch.steps.append(op)
    return branch


def bits_of(branch: Branch) -> bytes:
    """What was decided, for `branch_of`: a byte for each transaction, in the order of `decide`."""
    nested = [bits_of(step) for step in branch.steps if isinstance(step, Branch)]
    return bytes([branch.succeeded]) + b"".join(nested)


def branch_of(request: TxnRequest, bits: bytes) -> Branch:
    """What `decide` returned for the request then, whatever the state is now."""
    return _branch_of(request, iter(bits))


def _branch_of(request: TxnRequest, bits: Iterator[int]) -> Branch:
    branch = Branch(bool(next(bits)))
    for op in request.success if branch.succeeded else request.failure:
        nested = op.HasField("request_txn")
        branch.steps.append(_branch_of(op.request_txn, bits) if nested else op)
    return branch


# ── check ───────────────────────────────────────────────────────────────────


def check(branch: Branch, changes: Changes) -> None:
    """Raises LeaseNotFound, KeyNotFound, FutureRevision, Compacted.

    All puts first, then all ranges, each in list order: where two things are
    wrong, etcd names the put's (applierV3backend.Txn).

    An ignore_* asks for the key before the transaction; one that an earlier
    operation creates does not count (etcd). One that an earlier operation
    deletes is refused too: syntax lets that pass after a from-key delete, and
    there etcd itself crashes.
    """
    ops = list(operations(branch))
    for op in ops:
        if op.HasField("request_put"):
            _check_put(op.request_put, changes)
    for op in ops:
        if op.HasField("request_range"):
            check_revision(changes.store, changes.keyspace, op.request_range.revision)
    _check_rest(ops)


def operations(branch: Branch) -> Iterator[RequestOp]:
    """In the order in which they are executed."""
    for step in branch.steps:
        if isinstance(step, Branch):
            yield from operations(step)
        else:
            yield step


def _check_put(put: PutRequest, changes: Changes) -> None:
    if _needs_key(put) and not changes.exists(put.key):
        raise KeyNotFound
    changes.ensure_lease(put.lease)


def _check_rest(ops: Sequence[RequestOp]) -> None:
    gone = _Gone()
    for op in ops:
        match op.WhichOneof("request"):
            case "request_delete_range":
                gone.delete(op.request_delete_range)
            case "request_put":
                if _needs_key(op.request_put) and op.request_put.key in gone:
                    raise KeyNotFound
                gone.put(op.request_put.key)
            case None:
                raise KeyNotFound  # an empty operation; syntax refuses it


def _needs_key(put: PutRequest) -> bool:
    return put.ignore_value or put.ignore_lease


class _Gone:
    """Keys that a transaction has deleted and not put again, at a place in its list."""

    def __init__(self) -> None:
        self._ranges = KeySet()
        self._from: bytes | None = None
        self._put_again: set[bytes] = set()

    def delete(self, request: DeleteRangeRequest) -> None:
        key, range_end = request.key, request.range_end
        if range_end == FROM_KEY:
            self._from = key if self._from is None else min(key, self._from)
        else:
            self._ranges.add(key, range_end or key + b"\0")
        if self._put_again:
            end = range_end or key + b"\0"
            is_open = range_end == FROM_KEY
            self._put_again = {k for k in self._put_again if k < key or not (is_open or k < end)}

    def put(self, key: bytes) -> None:
        self._put_again.add(key)

    def __contains__(self, key: bytes) -> bool:
        if key in self._put_again:
            return False
        return key in self._ranges or (self._from is not None and key >= self._from)


# ── execute ─────────────────────────────────────────────────────────────────


def execute(branch: Branch, changes: Changes) -> TxnResult:
    """Cannot fail after `check`. Nested results have revision 0, as etcd's nested headers."""
    result = _execute_all(branch, changes)
    result.revision = changes.store.revision
    return result


def _execute_all(branch: Branch, changes: Changes) -> TxnResult:
    return gathered(branch, iter([execute_one(op, changes) for op in operations(branch)]))


def gathered(branch: Branch, results: Iterator[OpResult]) -> TxnResult:
    """The results of its operations, taken in their order, in its form; revisions still 0."""
    return TxnResult(
        0,
        branch.succeeded,
        [
            gathered(step, results) if isinstance(step, Branch) else next(results)
            for step in branch.steps
        ],
    )


def execute_one(op: RequestOp, changes: Changes) -> OpResult:
    match op.WhichOneof("request"):
        case "request_range":
            return changes.range(op.request_range)
        case "request_put":
            put = op.request_put
            return changes.put(
                put.key, put.value, put.lease, put.ignore_value, put.ignore_lease, put.prev_kv
            )
        case _:
            delete = op.request_delete_range
            return changes.delete_range(delete.key, delete.range_end, delete.prev_kv)


# ── transactions that only read ─────────────────────────────────────────────


def is_read_only(request: TxnRequest) -> bool:
    """Whether etcd answers it without the log: direct ranges only, in both branches."""
    return all(
        op.HasField("request_range")
        for branch in (request.success, request.failure)
        for op in branch
    )


def read_txn_steps(
    view: Freezable,
    store: StoreState,
    keyspace: int,
    request: TxnRequest,
    *,
    rows_per_slice: int = ROWS_PER_SLICE,
) -> Steps[TxnResult]:
    """A transaction that `is_read_only`, of the applied state at one moment.

    In slices as `read.range_steps`. Raises Compacted, FutureRevision.
    """
    assert is_read_only(request)
    now = Moment.of(store, keyspace, 0)
    reader: Reader = view
    deciding = decide_steps(view, store.cache, now.prefix, request)
    try:
        next(deciding)
    except StopIteration as end:
        branch: Branch = end.value
    else:  # the state changes while it goes on: again, and all of the state as it is now
        deciding.close()
        reader, store = view.snapshot(), Apart(store, keyspace)
        branch = yield from decide_steps(reader, store.cache, now.prefix, request)
    for step in branch.steps:
        assert isinstance(step, RequestOp)
        check_revision(store, keyspace, step.request_range.revision)
    result = TxnResult(now.revision, branch.succeeded)
    for step in branch.steps:
        assert isinstance(step, RequestOp)
        revision = step.request_range.revision
        at = Moment.of(store, keyspace, revision if revision > 0 else now.revision)
        at.header_revision = now.revision
        result.results.append(
            (yield from range_at(reader, store, step.request_range, at, rows_per_slice))
        )
    return result


def check_revision(store: StoreState, keyspace: int, revision: int) -> None:
    """The revision of a range in a transaction, before any write of it (etcd: checkRange).

    Stricter than outside: what is negative and below the compacted revision
    (which is -1 at first) is not "the newest" but Compacted.
    """
    if revision > store.revision:
        raise FutureRevision
    if revision != 0 and revision < store.keyspace(keyspace).compacted:
        raise Compacted
