"""A giant command, slice by slice: what each of the four kinds does.

    delete_range   its keys, in order
    txn            operation after operation; range deletes in slices, the others whole
    lease_revoke   the lease's keys, then the lease
    lease_expire   the same for each lease, each with a revision of its own; at last the leases,
                   for their number stands in a row that only the last slice writes

Generators of a Giant: they yield where the slice is full, with `progress` saying
all that another life needs to go on from there; the return value is the
command's result. What comes before a crash is in no result after it: nobody
waits for it any more.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from itertools import islice
from typing import Final, TypeVar

from chainfire.lease import Lessor
from chainfire.machine.chain import fold
from chainfire.machine.leases import LeaseHandlers
from chainfire.machine.progress import Progress
from chainfire.mvcc import rows
from chainfire.mvcc.changes import LeaseExists
from chainfire.mvcc.ranges import KEYS, Bounds
from chainfire.mvcc.state import Apart, KeyspaceState
from chainfire.mvcc.store import Mvcc
from chainfire.mvcc.txn import Branch, execute_one, gathered, operations
from chainfire.mvcc.writer import Writer
from chainfire.proto.command_pb2 import Command
from chainfire.proto.kv_pb2 import DeleteRangeRequest
from chainfire.storage.staged import Staged
from chainfire.types import AckResult, DeleteResult, Entry, OpResult, RangeResult, Result, TxnResult

SLICE_ROWS: Final = 100  # 2 to 5 ms
SLICE_BYTES: Final = 1 << 20

_T = TypeVar("_T")
Slices = Generator[None, None, _T]


def _apart(store: Mvcc, keyspace: int, progress: Progress) -> Apart:
    """The store's numbers as the command changes them, for nobody else until all of it is done."""
    apart = Apart(store, keyspace)
    apart.revision += progress.revisions + (1 if progress.sub else 0)
    state = apart.keyspace(keyspace)
    state.keys += progress.keys
    state.live_bytes += progress.live_bytes
    state.history_bytes += progress.history_bytes
    return apart


class Giant:
    """One under way."""

    def __init__(
        self,
        entry: Entry,
        command: Command,
        progress: Progress,
        store: Mvcc,
        staged: Staged,
        leases: LeaseHandlers,
        lease_exists: LeaseExists,
    ) -> None:
        self.entry = entry
        self.command = command
        self.progress = progress
        self.keyspace = command.keyspace
        self.staged = staged
        self.apart = _apart(store, self.keyspace, progress)
        self.slices: Slices[Result] | None = None
        self.result: Result | None = None  # it is there when the last slice is staged
        self.is_staged = False  # a slice that is not written yet
        self._store = store
        self.leases = leases
        self._lease_exists = lease_exists
        self.begin_revision(progress.sub)
        self._rows = self._bytes = 0  # of this slice

    @property
    def state(self) -> KeyspaceState:
        return self.apart.keyspace(self.keyspace)

    def begin_revision(self, next_sub: int = 0) -> None:
        self.writer = Writer(
            self.apart, self.staged, self.keyspace, self._lease_exists, next_sub=next_sub
        )
        self.progress.sub = next_sub

    @property
    def is_full(self) -> bool:
        return self._rows >= SLICE_ROWS or self._bytes >= SLICE_BYTES

    def empty(self) -> None:
        self._rows = self._bytes = 0

    def changed(self, size: int) -> None:
        """Owed after each key that the writer has changed, of about that many bytes."""
        if self.writer.lease_moves is not None:
            self.leases.keys_moved(self.writer)
            self.writer.lease_moves = None
        changes = self.staged.take_rows()
        if not changes:
            return
        for family, key, _ in changes:
            if family == KEYS:
                self._store.cache.drop(key)
        self.progress.digest = fold(self.progress.digest, changes)
        self.progress.sub = self.writer.next_sub
        self._rows += 1
        self._bytes += size


def deletion(giant: Giant) -> Slices[Result]:
    prevs = yield from _delete(giant, giant.command.delete_range)
    return DeleteResult(giant.apart.revision, giant.progress.sub, prevs)


def _delete(giant: Giant, request: DeleteRangeRequest) -> Slices[list[bytes]]:
    """The range's keys; returns what they were, if that is wanted."""
    prevs: list[bytes] = []
    progress = giant.progress
    prefix = rows.keyspace_prefix(giant.keyspace)
    bounds = Bounds.of(prefix, request.key, request.range_end)
    if bounds is None:
        return prevs
    lower = progress.cursor or bounds.lower
    while lower:
        found = giant.staged.iterate(KEYS, lower, bounds.upper)
        lower = b""
        for row_key, row in found:
            if giant.is_full:
                progress.cursor = lower = row_key
                yield
                break
            giant.writer.delete_row(row_key, row)
            giant.changed(len(row))
            if request.prev_kv:
                prevs.append(row[rows.ROW_HEAD_BYTES :])
    progress.cursor = b""
    return prevs


def transaction(giant: Giant, branch: Branch) -> Slices[Result]:
    progress, writer = giant.progress, giant.writer
    results: list[OpResult] = []
    for number, op in enumerate(operations(branch)):
        if number < progress.step:  # in an earlier life
            results.append(RangeResult(giant.apart.revision, [], False, 0))
            continue
        delete = op.request_delete_range
        if delete.range_end:
            subs = progress.sub
            prevs = yield from _delete(giant, delete)
            results.append(DeleteResult(giant.apart.revision, progress.sub - subs, prevs))
        else:
            results.append(execute_one(op, writer))
            giant.changed(op.ByteSize())
        progress.step += 1
        if giant.is_full:
            yield
    result: TxnResult = gathered(branch, iter(results))
    result.revision = giant.apart.revision
    return result


def lease_ends(giant: Giant, lessor: Lessor, leases: Sequence[int], reason: int) -> Slices[Result]:
    """Of leases that exist."""
    progress, staged, keyspace = giant.progress, giant.staged, giant.keyspace
    prefix = rows.keyspace_prefix(keyspace)
    for lease in leases[progress.step :]:
        while keys := list(islice(lessor.iterate_keys(staged, keyspace, lease), SLICE_ROWS)):
            for key in keys:
                if giant.is_full:
                    yield
                    break
                row = staged.get(KEYS, prefix + key)
                assert row is not None, key
                giant.writer.delete_row(prefix + key, row, reason)
                giant.changed(len(row))
        progress.step += 1
        if progress.sub:
            progress.revisions += 1
            giant.begin_revision()
    for lease in leases:
        lessor.remove(staged, keyspace, lease)
        giant.changed(0)
        giant.leases.count_ended(reason)
    giant.state.leases -= len(leases)
    return AckResult(giant.apart.revision)
