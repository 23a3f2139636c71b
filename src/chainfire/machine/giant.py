"""Commands that delete very many keys: applied in slices, so that the loop comes round.

Each slice is a batch of its own. Besides its rows it writes the progress row,
so that a crash goes on from there; the last one removes that row and moves
revision, counters, hash chain and applied index, as any batch does. Meanwhile
readers keep the store as it was (mvcc.view), the row cache forgets what goes,
and later entries wait. After a crash the old state is gone: no reads until
the command is done (`bars_reads`).

What is giant depends on the rows alone, so that all members decide alike; the
digest is folded key by key, so that where the slices are cut does not show.
What each kind does is in `machine.slices`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from chainfire.errors import Damaged
from chainfire.lease import Lessor
from chainfire.machine import rows as machine_rows
from chainfire.machine.chain import HashChain
from chainfire.machine.leases import LeaseHandlers
from chainfire.machine.progress import KEY, Progress
from chainfire.machine.slices import Giant, deletion, lease_ends, transaction
from chainfire.mvcc import rows
from chainfire.mvcc.ranges import KEYS, Bounds
from chainfire.mvcc.store import Mvcc
from chainfire.mvcc.txn import Branch, bits_of, branch_of, check, operations
from chainfire.proto.command_pb2 import Command
from chainfire.proto.kv_pb2 import DeleteRangeRequest
from chainfire.storage.backend import Reader
from chainfire.storage.staged import Staged
from chainfire.types import Entry

GIANT_ROWS_MIN: Final = 1000
GIANT_BYTES_MIN: Final = 4 << 20  # of key_value rows


class GiantCommands:
    """Knows which commands are giant, and carries one of them on."""

    def __init__(
        self,
        backend: Reader,
        store: Mvcc,
        staged: Staged,
        lessor: Lessor,
        leases: LeaseHandlers,
        chain: HashChain,
    ) -> None:
        """Raises UnknownFormat, Corrupt."""
        self._store = store
        self._staged = staged
        self._lessor = lessor
        self._leases = leases
        self._chain = chain
        self.under_way: Giant | None = None
        row = backend.get(machine_rows.FAMILY, KEY)
        self._interrupted = None if row is None else Progress.decode(row)
        self.bars_reads = row is not None

    def ensure_next(self, entry: Entry) -> None:
        """What a crash has interrupted must come next. Raises Damaged."""
        found = self._interrupted
        if found is not None and (found.index, found.term) != (entry.index, entry.term):
            raise Damaged(
                f"state/ holds half of a delete, entry {found.index} of term {found.term}, which "
                f"the log has lost: it goes on with entry {entry.index} of term {entry.term}"
            )

    # ── which commands are ──────────────────────────────────────────────────

    def is_giant(self, command: Command, branch: Branch | None) -> bool:
        """Whether this command, to be applied next, must be applied in slices.

        `branch`: what it decides, if it is a transaction that was not interrupted.
        """
        if self._interrupted is not None:
            return True
        match command.WhichOneof("body"):
            case "delete_range":
                if command.delete_range.range_end:
                    return self._are_giant(command.keyspace, (command.delete_range,))
            case "txn":
                assert branch is not None
                deletes = [op.request_delete_range for op in operations(branch)]
                ranges = [delete for delete in deletes if delete.range_end]
                return bool(ranges) and self._are_giant(command.keyspace, ranges)
            case "lease_revoke":
                return self._have_giant(command.keyspace, (command.lease_revoke.ID,))
            case "lease_expire":
                return self._have_giant(command.keyspace, command.lease_expire.ids)
        return False

    def _are_giant(self, keyspace: int, deletes: Iterable[DeleteRangeRequest]) -> bool:
        """Together; what lies in two of the ranges counts twice."""
        prefix = rows.keyspace_prefix(keyspace)
        count = size = 0
        for delete in deletes:
            bounds = Bounds.of(prefix, delete.key, delete.range_end)
            if bounds is None:
                continue
            for row_key, row in self._staged.iterate(KEYS, bounds.lower, bounds.upper):
                count += 1
                size += len(row_key) + len(row)
                if count >= GIANT_ROWS_MIN or size >= GIANT_BYTES_MIN:
                    return True
        return False

    def _have_giant(self, keyspace: int, leases: Iterable[int]) -> bool:
        """Whether so many keys hang on these leases, overdue or not."""
        return self._leases.find_keys(keyspace, leases, GIANT_ROWS_MIN) >= GIANT_ROWS_MIN

    # ── one of them ─────────────────────────────────────────────────────────

    def begin(self, entry: Entry, command: Command, branch: Branch | None) -> None:
        """Its first slice may be staged; nothing else is. `branch` as for `is_giant`.

        Raises what the command is refused with, and is not begun then.
        """
        progress = self._interrupted or Progress(entry.index, entry.term)
        giant = Giant(
            entry, command, progress, self._store, self._staged, self._leases, self._lessor.exists
        )
        keyspace = command.keyspace
        match command.WhichOneof("body"):
            case "delete_range":
                giant.slices = deletion(giant)
            case "txn":
                if self._interrupted is not None:
                    branch = branch_of(command.txn, progress.branch)
                else:
                    assert branch is not None
                    check(branch, giant.writer)
                    progress.branch = bits_of(branch)
                giant.slices = transaction(giant, branch)
            case "lease_revoke":
                lease = command.lease_revoke.ID
                self._leases.ensure_exists(keyspace, lease)
                giant.slices = lease_ends(giant, self._lessor, (lease,), rows.BY_LEASE_REVOKE)
            case _:
                ids = dict.fromkeys(command.lease_expire.ids)
                overdue = [lease for lease in ids if self._lessor.is_overdue(keyspace, lease)]
                giant.slices = lease_ends(giant, self._lessor, overdue, rows.BY_LEASE_EXPIRY)
        if self._interrupted is None:
            self._store.view.hold()
        self._interrupted = None
        self.under_way = giant

    def stage(self, giant: Giant) -> None:
        """Stage the next slice; the last one with all that the command changes as a whole."""
        assert giant.slices is not None
        try:
            next(giant.slices)
        except StopIteration as end:
            giant.result = end.value
            self._finish(giant)
        else:
            progress, was, now = giant.progress, self._store.keyspace(giant.keyspace), giant.state
            progress.keys = now.keys - was.keys
            progress.live_bytes = now.live_bytes - was.live_bytes
            progress.history_bytes = now.history_bytes - was.history_bytes
            self._staged.put(machine_rows.FAMILY, KEY, progress.encode())
        self._staged.take_rows()  # the progress row's: not digested
        giant.empty()
        giant.is_staged = True

    def _finish(self, giant: Giant) -> None:
        store, entry, now = self._store, giant.entry, giant.state
        state = store.keyspace(giant.keyspace)
        state.keys, state.leases = now.keys, now.leases
        state.live_bytes, state.history_bytes = now.live_bytes, now.history_bytes
        store.changed_keyspaces.add(giant.keyspace)
        store.forget_live()
        store.revision = giant.apart.revision
        self._staged.delete(machine_rows.FAMILY, KEY)
        self._chain.link_folded(entry.index, entry.term, store.revision, giant.progress.digest)
        self.under_way = None

    def written(self) -> None:
        """All that was staged is on the backend."""
        if self.under_way is not None:
            self.under_way.is_staged = False
        else:
            self._store.view.release()
            self.bars_reads = self._interrupted is not None
