"""The store as one would write it first: a dict, one revision after the other.

It is the twin that histories are held against. It knows no compaction, no
leases' ends and no members: those are the checkers' business.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable
from typing import Any

from chainfire.sim.history import (
    Change,
    Compact,
    Compare,
    Delete,
    DeleteDone,
    Kv,
    Put,
    PutDone,
    Range,
    RangeDone,
    Revision,
    Txn,
    TxnDone,
    Violation,
    covers,
)

_SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: a == b,
    "!": lambda a, b: a != b,
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
}
Done = PutDone | DeleteDone | RangeDone | TxnDone


class Model:
    """The state after `revision`; an empty store has revision 1."""

    def __init__(self) -> None:
        self.revision = 1
        self.kvs: dict[bytes, Kv] = {}
        self._keys: list[bytes] = []  # sorted
        self._versions: dict[bytes, list[tuple[int, Kv | None]]] = {}  # each key's, oldest first

    # ── reads ───────────────────────────────────────────────────────────────

    def range(self, request: Range) -> RangeDone:
        """At this very revision, whatever the request names."""
        if not request.end:
            kv = self.kvs.get(request.key)
            return RangeDone(self.revision, (kv,) if kv else (), False, 1 if kv else 0)
        keys, limit = self.between(request.key, request.end), request.limit
        more = 0 < limit < len(keys)
        rows = tuple(self.kvs[key] for key in (keys[:limit] if more else keys))
        return RangeDone(self.revision, rows, more, len(keys))

    def between(self, key: bytes, end: bytes) -> list[bytes]:
        if not end:
            return [key] if key in self.kvs else []
        keys = self._keys
        low = bisect_left(keys, key)
        return keys[low:] if end == b"\0" else keys[low : bisect_left(keys, end)]

    def past(self, request: Range) -> RangeDone:
        """At the revision that the request names."""
        rows: list[Kv] = []
        for key in sorted(self._versions):
            if covers(request.key, request.end, key):
                versions = self._versions[key]
                at = bisect_right(versions, request.revision, key=lambda version: version[0])
                kv = versions[at - 1][1] if at else None
                if kv is not None:
                    rows.append(kv)
        more = 0 < request.limit < len(rows)
        shown = rows[: request.limit] if more else rows
        return RangeDone(self.revision, tuple(shown), more, len(rows))

    def holds(self, compare: Compare) -> bool:
        kv = self.kvs.get(compare.key)
        if compare.target == "value":
            return kv is not None and _SIGNS[compare.sign](kv.value, compare.operand)
        ours = getattr(kv, compare.target) if kv is not None else 0
        return _SIGNS[compare.sign](ours, compare.operand)

    # ── what a request would do ─────────────────────────────────────────────

    def carry_out(self, request: Put | Delete | Range | Txn) -> tuple[Done, tuple[Change, ...]]:
        """What the caller is told and what changes; the model itself stays as it is."""
        assert not isinstance(request, Compact)
        scratch = _Scratch(self)
        done = scratch.run(request)
        if scratch.changes:
            done = done._replace(revision=self.revision + 1)
        return done, tuple(scratch.changes)

    def apply(self, revision: Revision) -> None:
        """Take over what happened; raises Violation when it cannot have happened so."""
        if revision.main != self.revision + 1:
            raise Violation(f"revision {revision.main} follows {self.revision}")
        self.revision = revision.main
        for change in revision.changes:
            kv = change.kv
            old = self.kvs.get(kv.key)
            self._versions.setdefault(kv.key, []).append(
                (revision.main, None if change.deleted else kv)
            )
            if change.deleted:
                if old is None:
                    raise Violation(f"{kv.key!r} was deleted at {kv.mod} and was not there")
                del self.kvs[kv.key]
                del self._keys[bisect_left(self._keys, kv.key)]
                continue
            create, version = (old.create, old.version + 1) if old else (self.revision, 1)
            if (kv.create, kv.mod, kv.version) != (create, self.revision, version):
                raise Violation(f"{kv} follows {old} at revision {self.revision}")
            if old is None:
                insort(self._keys, kv.key)
            self.kvs[kv.key] = kv


class _Scratch:
    """A request under way: the model with the request's own writes over it."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.changes: list[Change] = []
        self._over: dict[bytes, Kv | None] = {}

    def run(self, request: Put | Delete | Range | Txn) -> Done:
        if isinstance(request, Put):
            return self._put(request)
        if isinstance(request, Delete):
            return self._delete(request)
        if isinstance(request, Range):
            return self._range(request)
        succeeded = all(self.model.holds(compare) for compare in request.compares)
        branch = request.success if succeeded else request.failure
        results = tuple(self.run(op) for op in branch)
        return TxnDone(self._revision, succeeded, results)  # type: ignore[arg-type]  # none nested

    @property
    def _revision(self) -> int:
        return self.model.revision + bool(self.changes)

    def _get(self, key: bytes) -> Kv | None:
        return self._over[key] if key in self._over else self.model.kvs.get(key)

    def _put(self, put: Put) -> PutDone:
        old, main = self._get(put.key), self.model.revision + 1
        create, version = (old.create, old.version + 1) if old else (main, 1)
        kv = Kv(put.key, put.value, create, main, version, put.lease)
        self._over[put.key] = kv
        self.changes.append(Change(kv))
        return PutDone(main, old if put.want_prev else None)

    def _delete(self, delete: Delete) -> DeleteDone:
        prevs = self._rows(delete.key, delete.end)
        for kv in prevs:
            self._over[kv.key] = None
            gone = Kv(kv.key, b"", 0, self.model.revision + 1, 0)
            self.changes.append(Change(gone, deleted=True))
        return DeleteDone(self._revision, len(prevs), tuple(prevs) if delete.want_prev else ())

    def _range(self, request: Range) -> RangeDone:
        if request.revision:
            return self.model.past(request)._replace(revision=self._revision)
        rows, limit = self._rows(request.key, request.end), request.limit
        more = 0 < limit < len(rows)
        shown = rows[:limit] if more else rows
        return RangeDone(self._revision, tuple(shown), more, len(rows))

    def _rows(self, key: bytes, end: bytes) -> list[Kv]:
        if not end:
            kv = self._get(key)
            return [kv] if kv else []
        keys = set(self.model.between(key, end))
        keys.update(k for k in self._over if k >= key and (end == b"\0" or k < end))
        found = [self._get(k) for k in sorted(keys)]
        return [kv for kv in found if kv is not None]
