"""One command against the store: the face that the machine calls."""

from __future__ import annotations

from chainfire.errors import Compacted, FutureRevision
from chainfire.mvcc.changes import Changes
from chainfire.mvcc.txn import Branch, check, decide, execute
from chainfire.proto.kv_pb2 import TxnRequest
from chainfire.types import CompactResult, TxnResult


class Writer(Changes):
    """Call one of `put`, `delete_range`, `txn` and `compact`, once.

    It consumes one main revision if it changed a key (`changed`). What it
    raises is a RequestError, with nothing staged and nothing counted.
    """

    __slots__ = ()

    def txn(self, request: TxnRequest, branch: Branch | None = None) -> TxnResult:
        """`branch`: what it decides, if that is known already."""
        if branch is None:
            branch = decide(self._staged, self.store.cache, self._prefix, request)
        check(branch, self)
        return execute(branch, self)

    def compact(self, revision: int) -> CompactResult:
        """Refuse reads below `revision` from now on; rows go later (mvcc.compact)."""
        if revision <= self._state.compacted:
            raise Compacted
        if revision > self.store.revision:
            raise FutureRevision
        self._state.compacted = revision
        self.store.changed_keyspaces.add(self.keyspace)
        return CompactResult(self.store.revision)
