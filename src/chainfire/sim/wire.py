"""Between the history's plain data and the product's: requests to commands, results to answers."""

from __future__ import annotations

from typing import Final

from chainfire.command import CommandKind
from chainfire.mvcc import rows
from chainfire.mvcc.ranges import HISTORY, KEYS, REVISIONS
from chainfire.mvcc.read import run
from chainfire.proto import kv_pb2 as pb
from chainfire.sim.history import (
    Change,
    Compact,
    CompactDone,
    Compare,
    Delete,
    DeleteDone,
    Kv,
    Level,
    Put,
    PutDone,
    Range,
    RangeDone,
    Response,
    Revision,
    Txn,
    TxnDone,
)
from chainfire.storage.backend import Reader
from chainfire.types import (
    CompactResult,
    DeleteResult,
    LongRange,
    OpResult,
    PutResult,
    RangeResult,
    Result,
    TxnResult,
)

LEVELS: Final = {
    Level.LINEARIZABLE: pb.LINEARIZABLE,
    Level.SERIALIZABLE: pb.SERIALIZABLE,
    Level.LOCAL: pb.LOCAL,
}
_TARGETS: Final = {
    "mod": (pb.Compare.MOD, "mod_revision"),
    "create": (pb.Compare.CREATE, "create_revision"),
    "version": (pb.Compare.VERSION, "version"),
    "value": (pb.Compare.VALUE, "value"),
}
_SIGNS: Final = {
    "=": pb.Compare.EQUAL,
    "!": pb.Compare.NOT_EQUAL,
    ">": pb.Compare.GREATER,
    "<": pb.Compare.LESS,
}
_PREFIX: Final = rows.keyspace_prefix(0)


def command_of(request: Put | Delete | Txn | Compact) -> tuple[int, bytes]:
    """Kind and body of the command that carries the request."""
    if isinstance(request, Put):
        return CommandKind.PUT, _put(request).SerializeToString()
    if isinstance(request, Delete):
        return CommandKind.DELETE_RANGE, _delete(request).SerializeToString()
    if isinstance(request, Txn):
        return CommandKind.TXN, _txn(request).SerializeToString()
    return CommandKind.COMPACT, pb.CompactionRequest(revision=request.revision).SerializeToString()


def range_of(request: Range) -> pb.RangeRequest:
    return pb.RangeRequest(
        key=request.key, range_end=request.end, revision=request.revision, limit=request.limit
    )


def response_of(result: Result) -> Response:
    if isinstance(result, CompactResult):
        return CompactDone(result.revision)
    assert isinstance(result, PutResult | DeleteResult | RangeResult | TxnResult), result
    return _done(result)


def changes_between(view: Reader, low: int, high: int) -> list[Revision]:
    """Every revision after `low` up to `high`, from rows that compaction has not reached."""
    lower, upper = rows.change_key(_PREFIX, low + 1, 0), rows.change_key(_PREFIX, high + 1, 0)
    found: dict[int, list[Change]] = {}
    by_lease: set[int] = set()
    for row_key, value in view.iterate(REVISIONS, lower, upper):
        change = rows.decode_change(row_key, value)
        found.setdefault(change.main, []).append(_change(view, change))
        if change.reason != rows.BY_REQUEST:
            by_lease.add(change.main)
    return [Revision(main, tuple(changes), main in by_lease) for main, changes in found.items()]


def current(view: Reader) -> list[Kv]:
    """All keys with their newest versions."""
    upper = (int.from_bytes(_PREFIX) + 1).to_bytes(4)
    found = view.iterate(KEYS, _PREFIX, upper)
    return [_kv(row[rows.ROW_HEAD_BYTES :]) for _, row in found]


# ── inside ──────────────────────────────────────────────────────────────────


def _put(put: Put) -> pb.PutRequest:
    return pb.PutRequest(key=put.key, value=put.value, lease=put.lease, prev_kv=put.want_prev)


def _delete(delete: Delete) -> pb.DeleteRangeRequest:
    return pb.DeleteRangeRequest(key=delete.key, range_end=delete.end, prev_kv=delete.want_prev)


def _txn(txn: Txn) -> pb.TxnRequest:
    return pb.TxnRequest(
        compare=[_compare(compare) for compare in txn.compares],
        success=[_op(op) for op in txn.success],
        failure=[_op(op) for op in txn.failure],
    )


def _op(op: Put | Delete | Range) -> pb.RequestOp:
    if isinstance(op, Put):
        return pb.RequestOp(request_put=_put(op))
    if isinstance(op, Delete):
        return pb.RequestOp(request_delete_range=_delete(op))
    return pb.RequestOp(request_range=range_of(op))


def _compare(compare: Compare) -> pb.Compare:
    target, field = _TARGETS[compare.target]
    made = pb.Compare(key=compare.key, target=target, result=_SIGNS[compare.sign])
    setattr(made, field, compare.operand)
    return made


def _done(op_result: OpResult) -> PutDone | DeleteDone | RangeDone | TxnDone:
    result = run(op_result.read()) if isinstance(op_result, LongRange) else op_result
    if isinstance(result, PutResult):
        return PutDone(result.revision, _kv(result.prev) if result.prev else None)
    if isinstance(result, DeleteResult):
        return DeleteDone(result.revision, result.deleted, tuple(map(_kv, result.prevs)))
    if isinstance(result, RangeResult):
        found = tuple(map(_kv, result.rows))
        return RangeDone(result.revision, found, result.more, result.count)
    results = tuple(map(_done, result.results))
    return TxnDone(result.revision, result.succeeded, results)  # type: ignore[arg-type]


def _kv(row: bytes) -> Kv:
    kv = rows.decode(row)
    return Kv(kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease)


def _change(view: Reader, change: rows.Change) -> Change:
    key = change.key
    if change.type == rows.DELETE:
        return Change(Kv(key, b"", 0, change.main, 0), deleted=True)
    old = view.get(HISTORY, rows.history_key(_PREFIX, key, change.main, change.sub))
    kv = rows.version_in(old) if old is not None else None
    if kv is None:
        row = view.get(KEYS, _PREFIX + key)
        assert row is not None, change
        kv = row[rows.ROW_HEAD_BYTES :]
    return Change(_kv(kv))
