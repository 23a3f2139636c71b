"""The compares of a transaction. Total: any message has an answer, as in etcd.

A missing key compares as one whose numbers are all 0; comparing its value is
always false, NOT_EQUAL too. A range holds if every key of it does; an empty
range is a missing key. A target_union of another type than the target reads
as zero. What an unknown result asks for is taken to hold, and an unknown
target to be equal (etcd's switch statements fall through).
"""

from __future__ import annotations

from collections.abc import Callable

from chainfire.mvcc import rows
from chainfire.mvcc.cache import RowCache
from chainfire.mvcc.ranges import KEYS, Bounds, current_rows
from chainfire.mvcc.read import BYTES_PER_SLICE, ROWS_PER_SLICE, Steps
from chainfire.proto.kv_pb2 import Compare, KeyValue
from chainfire.storage.backend import Reader

_MISSING = KeyValue()

_SIDES: dict[int, Callable[[KeyValue, Compare], tuple[int, int] | tuple[bytes, bytes]]] = {
    Compare.VERSION: lambda kv, compare: (kv.version, compare.version),
    Compare.CREATE: lambda kv, compare: (kv.create_revision, compare.create_revision),
    Compare.MOD: lambda kv, compare: (kv.mod_revision, compare.mod_revision),
    Compare.VALUE: lambda kv, compare: (kv.value, compare.value),
    Compare.LEASE: lambda kv, compare: (kv.lease, compare.lease),
}


def hold_steps(view: Reader, cache: RowCache, prefix: bytes, compare: Compare) -> Steps[bool]:
    """Whether the compare is true of the newest state, whose rows `cache` may hold.

    In slices where it is of a range; the state may not change in between.
    """
    if compare.range_end:
        bounds = Bounds.of(prefix, compare.key, compare.range_end)
        if bounds is not None:
            count = size = 0
            for row in current_rows(view, bounds):
                if not _holds_for(rows.decode(row), compare):
                    return False
                count += 1
                size += len(row)
                if count % ROWS_PER_SLICE == 0 or size > BYTES_PER_SLICE:
                    size = 0
                    yield
            if count:
                return True
    else:
        row_key = prefix + compare.key
        stored = cache.get(row_key) or view.get(KEYS, row_key)
        if stored is not None:
            return _holds_for(rows.decode(stored[rows.ROW_HEAD_BYTES :]), compare)
    return compare.target != Compare.VALUE and _holds_for(_MISSING, compare)


def _holds_for(kv: KeyValue, compare: Compare) -> bool:
    sides = _SIDES.get(compare.target)
    order = 0
    if sides is not None:
        ours, theirs = sides(kv, compare)
        order = (ours > theirs) - (ours < theirs)  # type: ignore[operator]  # of one type each
    match compare.result:
        case Compare.EQUAL:
            return order == 0
        case Compare.NOT_EQUAL:
            return order != 0
        case Compare.GREATER:
            return order > 0
        case Compare.LESS:
            return order < 0
    return True
