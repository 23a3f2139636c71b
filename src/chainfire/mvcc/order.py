"""What the fields of a range say about its rows: which pass, and in which order they come."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Sequence
from operator import itemgetter

from chainfire.mvcc import rows
from chainfire.proto.kv_pb2 import KeyValue, RangeRequest

_SORT_KEYS: dict[int, Callable[[KeyValue], int | bytes]] = {
    RangeRequest.VERSION: lambda kv: kv.version,
    RangeRequest.CREATE: lambda kv: kv.create_revision,
    RangeRequest.MOD: lambda kv: kv.mod_revision,
    RangeRequest.VALUE: lambda kv: kv.value,
}


def has_filters(request: RangeRequest) -> bool:
    return bool(
        request.min_mod_revision
        or request.max_mod_revision
        or request.min_create_revision
        or request.max_create_revision
    )


def passes(row: bytes, request: RangeRequest) -> bool:
    kv = rows.decode(row)
    mod, create = kv.mod_revision, kv.create_revision
    return not (
        (request.max_mod_revision and mod > request.max_mod_revision)
        or (request.min_mod_revision and mod < request.min_mod_revision)
        or (request.max_create_revision and create > request.max_create_revision)
        or (request.min_create_revision and create < request.min_create_revision)
    )


def key_order(request: RangeRequest) -> int | None:
    """The order of keys that is asked for; None if something else is sorted by."""
    if request.sort_target != RangeRequest.KEY:
        return None
    if request.sort_order == RangeRequest.DESCEND:
        return RangeRequest.DESCEND
    return RangeRequest.ASCEND


def limit_before_sort(request: RangeRequest) -> bool:
    """Whether etcd cuts before it sorts."""
    return request.sort_order == RangeRequest.NONE or key_order(request) == RangeRequest.ASCEND


def sorted_steps(
    found: Sequence[bytes], request: RangeRequest, rows_per_slice: int
) -> Generator[None, None, list[bytes]]:
    """Runs of a slice each are sorted, and then merged; both keep the order of equal keys."""
    key_of = _SORT_KEYS[request.sort_target]
    descending = request.sort_order == RangeRequest.DESCEND
    by_key = itemgetter(0)
    runs = []
    for first in range(0, len(found), rows_per_slice):
        run = [(key_of(rows.decode(row)), row) for row in found[first : first + rows_per_slice]]
        run.sort(key=by_key, reverse=descending)
        runs.append(run)
        if len(run) == rows_per_slice:
            yield
    merged: list[bytes] = []
    for _, row in heapq.merge(*runs, key=by_key, reverse=descending):
        merged.append(row)
        if len(merged) % rows_per_slice == 0:
            yield
    return merged


def drop_values_steps(found: list[bytes], rows_per_slice: int) -> Generator[None, None, None]:
    """In place."""
    for first in range(0, len(found), rows_per_slice):
        part = slice(first, first + rows_per_slice)
        found[part] = map(rows.without_value, found[part])
        if len(found) > rows_per_slice:
            yield
