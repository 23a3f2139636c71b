"""What each kind of command does: one short function per kind, effects into the staged rows.

A handler returns the result that the caller is told, or raises a RequestError
with nothing staged. The order of checks around it is `machine.machine`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from chainfire import quota
from chainfire.errors import InvalidArgument
from chainfire.lease import Lessor
from chainfire.machine.cluster import Cluster
from chainfire.machine.leases import LeaseHandlers
from chainfire.mvcc.store import Mvcc
from chainfire.mvcc.txn import Branch
from chainfire.mvcc.writer import Writer
from chainfire.proto.command_pb2 import Command
from chainfire.storage.staged import Staged
from chainfire.types import (
    AckResult,
    AlarmResult,
    DeleteResult,
    LongRange,
    PutResult,
    RangeResult,
    Result,
    TxnResult,
)

Handler = Callable[[Command], Result]

_DATA_COMMANDS: Final = frozenset(
    {"put", "delete_range", "txn", "compact", "lease_grant", "lease_revoke", "lease_expire"}
)
_GROWING: Final = frozenset({"put", "lease_grant"})


class Handlers:
    """The handlers over one member's parts. `by_name` is keyed by the body's field name."""

    def __init__(self, store: Mvcc, staged: Staged, cluster: Cluster, lessor: Lessor) -> None:
        self._store = store
        self._staged = staged
        self._cluster = cluster
        self._lease_exists = lessor.exists
        self.leases = LeaseHandlers(store, staged, lessor)
        self.by_name: Final[dict[str, Handler]] = {
            "put": self._put,
            "delete_range": self._delete_range,
            "txn": self._txn,
            "compact": self._compact,
            "compaction_finished": self._compaction_finished,
            "alarm": self._alarm,
            "cluster_version_set": self._cluster_version_set,
            "member_attributes_set": self._member_attributes_set,
            **self.leases.by_name,
        }
        self.puts = 0
        self.deletes = 0
        self.txns = 0
        self.txn_ranges = 0
        self.compactions = 0

    def check_alarms(self, command: Command) -> None:
        """Raise what a command of this kind is refused with while alarms are on."""
        name = command.WhichOneof("body")
        if name in _DATA_COMMANDS:
            grows = name in _GROWING or (name == "txn" and quota.has_put(command.txn))
            self._cluster.ensure_allowed(grows=grows)

    # ── data ────────────────────────────────────────────────────────────────

    def _begin(self, command: Command) -> Writer:
        return self._store.begin(self._staged, command.keyspace, self._lease_exists)

    def _put(self, command: Command) -> Result:
        request = command.put
        writer = self._store.begin(self._staged, command.keyspace, self._lease_exists)
        result = writer.put(
            request.key,
            request.value,
            request.lease,
            request.ignore_value,
            request.ignore_lease,
            request.prev_kv,
        )
        if writer.lease_moves is not None:
            self.leases.keys_moved(writer)
        self.puts += 1
        return result

    def _delete_range(self, command: Command) -> Result:
        request, writer = command.delete_range, self._begin(command)
        result = writer.delete_range(request.key, request.range_end, request.prev_kv)
        if writer.lease_moves is not None:
            self.leases.keys_moved(writer)
        self.deletes += 1
        return result

    def txn_taking(self, branch: Branch) -> Handler:
        """The handler of a transaction that is decided already."""

        def txn(command: Command) -> Result:
            return self._txn(command, branch)

        return txn

    def _txn(self, command: Command, branch: Branch | None = None) -> Result:
        writer = self._begin(command)
        result = writer.txn(command.txn, branch)
        if writer.lease_moves is not None:
            self.leases.keys_moved(writer)
        self.count_txn(result)
        return result

    def _compact(self, command: Command) -> Result:
        result = self._begin(command).compact(command.compact.revision)
        self.compactions += 1
        return result

    def _compaction_finished(self, command: Command) -> Result:
        done = command.compaction_finished
        state = self._store.keyspace(command.keyspace)
        newly_freed = done.freed_bytes - state.freed_bytes
        if done.revision > state.finished and not 0 <= newly_freed <= state.history_bytes:
            raise InvalidArgument(f"{done.freed_bytes} bytes cannot have been freed: {state}")
        self._store.finish_compaction(command.keyspace, done.revision, done.freed_bytes)
        return AckResult(self._store.revision)

    def count(self, result: Result) -> None:
        """A command that was applied in slices."""
        if isinstance(result, DeleteResult):
            self.deletes += 1
        elif isinstance(result, TxnResult):
            self.count_txn(result)

    def count_txn(self, result: TxnResult) -> None:
        self.txns += 1
        self._count_operations(result)

    def _count_operations(self, txn: TxnResult) -> None:
        for result in txn.results:
            if isinstance(result, PutResult):
                self.puts += 1
            elif isinstance(result, DeleteResult):
                self.deletes += 1
            elif isinstance(result, RangeResult | LongRange):
                self.txn_ranges += 1
            else:
                self._count_operations(result)

    # ── the cluster ─────────────────────────────────────────────────────────

    def _alarm(self, command: Command) -> Result:
        alarms = self._cluster.apply_alarm(command.alarm, self._staged)
        return AlarmResult(self._store.revision, alarms)

    def _cluster_version_set(self, command: Command) -> Result:
        self._cluster.set_version(command.cluster_version_set.version, self._staged)
        return AckResult(self._store.revision)

    def _member_attributes_set(self, command: Command) -> Result:
        self._cluster.set_attributes(command.member_attributes_set, self._staged)
        return AckResult(self._store.revision)
