"""The slow, obvious twin of mvcc: lists of versions in dicts, everything by linear search.

It states etcd's semantics in the plainest way (reference: etcd's own
behaviour, sections Store model to Compaction). Fast code is compared with it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field

from chainfire.errors import (
    Compacted,
    FutureRevision,
    KeyNotFound,
    LeaseNotFound,
    RequestError,
)
from chainfire.proto.kv_pb2 import (
    Compare,
    DeleteRangeRequest,
    KeyValue,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
)
from chainfire.types import DeleteResult, OpResult, PutResult, RangeResult, TxnResult

LEASES = frozenset({7, -3})  # that exist


@dataclass
class Version:
    main: int
    sub: int
    kv: KeyValue | None  # None: a tombstone


@dataclass
class TwinEvent:
    main: int
    sub: int
    key: bytes
    row: bytes | None
    prev: bytes | None


@dataclass
class Twin:
    revision: int = 1
    compacted: int = -1
    versions: dict[bytes, list[Version]] = field(default_factory=dict)  # oldest first
    changes: int = 0  # of the command under way

    # ── reads ───────────────────────────────────────────────────────────────

    def at(self, key: bytes, revision: int) -> KeyValue | None:
        found = None
        for version in self.versions.get(key, []):
            if version.main <= revision:
                found = version.kv
        return found

    def keys_between(self, key: bytes, range_end: bytes) -> list[bytes]:
        if not range_end:
            return [key]
        return [
            k for k in sorted(self.versions) if k >= key and (range_end == b"\0" or k < range_end)
        ]

    def kvs(self, key: bytes, range_end: bytes, revision: int) -> list[KeyValue]:
        found = (self.at(k, revision) for k in self.keys_between(key, range_end))
        return [kv for kv in found if kv is not None]

    def range(self, request: RangeRequest) -> RangeResult:
        revision = request.revision
        if revision > self.revision:
            raise FutureRevision
        if revision <= 0:
            revision = self.revision
        if revision < self.compacted:
            raise Compacted
        kvs = self.kvs(request.key, request.range_end, revision)
        count = len(kvs)
        if request.count_only:
            return RangeResult(self.revision, [], False, count)
        r = request
        filtered = (
            r.min_mod_revision or r.max_mod_revision or r.min_create_revision
        ) or r.max_create_revision
        by_key = r.sort_target == RangeRequest.KEY
        cut_first = r.sort_order == RangeRequest.NONE or (
            by_key and r.sort_order == RangeRequest.ASCEND
        )
        if r.limit > 0 and cut_first and not filtered:
            kvs = kvs[: r.limit + 1]
        kvs = [
            kv
            for kv in kvs
            if (not r.max_mod_revision or kv.mod_revision <= r.max_mod_revision)
            and (not r.min_mod_revision or kv.mod_revision >= r.min_mod_revision)
            and (not r.max_create_revision or kv.create_revision <= r.max_create_revision)
            and (not r.min_create_revision or kv.create_revision >= r.min_create_revision)
        ]
        name = RangeRequest.SortTarget.Name(r.sort_target).lower()
        name = {"create": "create_revision", "mod": "mod_revision"}.get(name, name)
        kvs.sort(key=lambda kv: getattr(kv, name), reverse=r.sort_order == RangeRequest.DESCEND)
        more = 0 < r.limit < len(kvs)
        if more:
            kvs = kvs[: r.limit]
        if r.keys_only:
            kvs = [KeyValue.FromString(kv.SerializeToString()) for kv in kvs]
            for kv in kvs:
                kv.value = b""
                kv.lease = 0
        return RangeResult(self.revision, [kv.SerializeToString() for kv in kvs], more, count)

    # ── writes ──────────────────────────────────────────────────────────────

    def _append(self, key: bytes, kv: KeyValue | None) -> None:
        if self.changes == 0:
            self.revision += 1
        if kv is not None:
            kv.mod_revision = self.revision
            kv.create_revision = kv.create_revision or self.revision
        self.versions.setdefault(key, []).append(Version(self.revision, self.changes, kv))
        self.changes += 1

    def put(self, request: PutRequest) -> PutResult:
        self.changes = 0
        self._check_lease(request)
        return self._put(request)

    def _check_lease(self, request: PutRequest) -> None:
        if request.lease and request.lease not in LEASES:
            raise LeaseNotFound

    def _check_key(self, request: PutRequest) -> None:
        ignores = request.ignore_value or request.ignore_lease
        if ignores and self.at(request.key, self.revision) is None:
            raise KeyNotFound

    def _put(self, request: PutRequest) -> PutResult:
        old = self.at(request.key, self.revision)
        if old is None and (request.ignore_value or request.ignore_lease):
            raise KeyNotFound
        kv = KeyValue(key=request.key, value=request.value, lease=request.lease, version=1)
        if old is not None:
            kv.create_revision = old.create_revision
            kv.version = old.version + 1
            if request.ignore_value:
                kv.value = old.value
            if request.ignore_lease:
                kv.lease = old.lease
        self._append(request.key, kv)
        prev = old.SerializeToString() if old is not None and request.prev_kv else None
        return PutResult(self.revision, prev)

    def delete_range(self, request: DeleteRangeRequest) -> DeleteResult:
        self.changes = 0
        return self._delete_range(request)

    def _delete_range(self, request: DeleteRangeRequest) -> DeleteResult:
        old = self.kvs(request.key, request.range_end, self.revision)
        for kv in old:
            self._append(kv.key, None)
        prevs = [kv.SerializeToString() for kv in old] if request.prev_kv else []
        return DeleteResult(self.revision, len(old), prevs)

    def txn(self, request: TxnRequest) -> TxnResult:
        before = copy.deepcopy(self)
        self.changes = 0
        try:
            branch = self._taken(request)
            self._check(branch)
            result = self._run(branch)
        except RequestError:
            self.revision, self.versions = before.revision, before.versions
            raise
        result.revision = self.revision
        return result

    def _taken(self, request: TxnRequest) -> tuple[bool, list[RequestOp | tuple[bool, list]]]:  # type: ignore[type-arg]
        succeeded = all(self._holds(compare) for compare in request.compare)
        ops = request.success if succeeded else request.failure
        return succeeded, [
            self._taken(op.request_txn) if op.HasField("request_txn") else op for op in ops
        ]

    def _holds(self, compare: Compare) -> bool:
        kvs = self.kvs(compare.key, compare.range_end, self.revision)
        if not kvs:
            if compare.target == Compare.VALUE:
                return False
            kvs = [KeyValue()]
        return all(self._holds_for(kv, compare) for kv in kvs)

    def _holds_for(self, kv: KeyValue, compare: Compare) -> bool:
        left, right = {
            Compare.VERSION: (kv.version, compare.version),
            Compare.CREATE: (kv.create_revision, compare.create_revision),
            Compare.MOD: (kv.mod_revision, compare.mod_revision),
            Compare.VALUE: (kv.value, compare.value),
            Compare.LEASE: (kv.lease, compare.lease),
        }[compare.target]
        return {
            Compare.EQUAL: left == right,
            Compare.NOT_EQUAL: left != right,
            Compare.GREATER: left > right,
            Compare.LESS: left < right,
        }[compare.result]

    def _ops(self, branch) -> list[RequestOp]:  # type: ignore[no-untyped-def]
        ops = []
        for op in branch[1]:
            ops += self._ops(op) if isinstance(op, tuple) else [op]
        return ops

    def _check(self, branch) -> None:  # type: ignore[no-untyped-def]
        for op in self._ops(branch):
            if op.HasField("request_put"):
                self._check_key(op.request_put)
                self._check_lease(op.request_put)
        for op in self._ops(branch):
            if op.HasField("request_range"):
                if op.request_range.revision > self.revision:
                    raise FutureRevision
                if op.request_range.revision != 0 and op.request_range.revision < self.compacted:
                    raise Compacted

    def _run(self, branch) -> TxnResult:  # type: ignore[no-untyped-def]
        results: list[OpResult] = []
        for op in branch[1]:
            if isinstance(op, tuple):
                results.append(self._run(op))
            elif op.HasField("request_range"):
                results.append(self.range(op.request_range))
            elif op.HasField("request_put"):
                results.append(self._put(op.request_put))
            else:
                results.append(self._delete_range(op.request_delete_range))
        return TxnResult(0, branch[0], results)

    # ── compaction, history ─────────────────────────────────────────────────

    def compact(self, revision: int) -> None:
        if revision <= self.compacted:
            raise Compacted
        if revision > self.revision:
            raise FutureRevision
        self.compacted = revision
        for key, versions in list(self.versions.items()):
            old = [version for version in versions if version.main <= revision]
            if old:
                survivor = old[-1]
                keep = survivor.kv is not None or survivor.main == revision
                self.versions[key] = ([survivor] if keep else []) + versions[len(old) :]
            if not self.versions[key]:
                del self.versions[key]

    def events(self, start: int) -> list[TwinEvent]:
        if start < self.compacted:
            raise Compacted
        found = []
        for key, versions in self.versions.items():
            for version in versions:
                if version.main < start:
                    continue
                prev = None
                created = version.kv is not None and version.kv.create_revision == version.main
                if not created and version.main - 1 >= self.compacted:
                    prev = self.at(key, version.main - 1)
                found.append(
                    TwinEvent(version.main, version.sub, key, _bytes(version.kv), _bytes(prev))
                )
        return sorted(found, key=lambda event: (event.main, event.sub))

    def live_keys(self) -> Iterable[bytes]:
        return [key for key in sorted(self.versions) if self.at(key, self.revision) is not None]


def _bytes(kv: KeyValue | None) -> bytes | None:
    return None if kv is None else kv.SerializeToString()
