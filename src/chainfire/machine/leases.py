"""What commands about leases do, and what leases mean for keys: here the two meet.

`lease` knows who holds what until when, `mvcc` the keys; neither knows the
other. A lease that ends takes its keys along: one main revision, keys in
order, as if deleted by one request (etcd: lessor.Revoke). Where one command ends several
leases, each has a revision of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Final

from chainfire.errors import LeaseNotFound
from chainfire.lease import Lessor
from chainfire.mvcc import rows
from chainfire.mvcc.store import Mvcc
from chainfire.mvcc.writer import Writer
from chainfire.proto.command_pb2 import Command
from chainfire.storage.staged import Staged
from chainfire.types import AckResult, RenewResult, Result

TTL_DOUBLINGS: Final = 24  # etcd_debugging_lease_ttl_total: 1 s x 2^n, 24 buckets


class LeaseHandlers:
    def __init__(self, store: Mvcc, staged: Staged, lessor: Lessor) -> None:
        self._store = store
        self._staged = staged
        self._lessor = lessor
        self.by_name: Final = {
            "lease_grant": self._grant,
            "lease_revoke": self._revoke,
            "lease_renew": self._renew,
            "lease_expire": self._expire,
        }
        self._found: dict[int, list[bytes]] = {}  # by `find_keys`, for the command that comes next
        self.granted = 0
        self.granted_seconds = 0
        self.granted_by_ttl = [0] * (TTL_DOUBLINGS + 1)  # TTL up to 2^n seconds; then the rest
        self.revoked = 0
        self.renewed = 0
        self.expired = 0

    def keys_moved(self, writer: Writer) -> None:
        """Bring the leases up to what a command has done to keys; `writer.lease_moves` is set."""
        assert writer.lease_moves is not None
        self._lessor.move(self._staged, writer.keyspace, writer.lease_moves)

    def find_keys(self, keyspace: int, leases: Iterable[int], count_max: int) -> int:
        """How many keys hang on these leases, or `count_max`; to be asked before they end."""
        found = self._found
        found.clear()
        count = 0
        for lease in dict.fromkeys(leases):
            keys = self._lessor.iterate_keys(self._staged, keyspace, lease)
            found[lease] = list(islice(keys, count_max - count))
            count += len(found[lease])
            if count >= count_max:
                found.clear()
                return count_max
        return count

    def ensure_exists(self, keyspace: int, lease: int) -> None:
        """Raises LeaseNotFound."""
        if not self._lessor.exists(keyspace, lease):
            raise LeaseNotFound(f"lease {lease:x}")

    def _grant(self, command: Command) -> Result:
        request, keyspace = command.lease_grant, command.keyspace
        self._lessor.grant(self._staged, keyspace, request.id, request.ttl_ms)
        self._count(keyspace, 1)
        self.granted += 1
        seconds = -(-request.ttl_ms // 1000)
        self.granted_seconds += seconds
        self.granted_by_ttl[min((seconds - 1).bit_length(), TTL_DOUBLINGS)] += 1
        return AckResult(self._store.revision)

    def _revoke(self, command: Command) -> Result:
        keyspace, lease = command.keyspace, command.lease_revoke.ID
        self.ensure_exists(keyspace, lease)
        self._end(keyspace, lease, rows.BY_LEASE_REVOKE)
        self.count_ended(rows.BY_LEASE_REVOKE)
        return AckResult(self._store.revision)

    def _renew(self, command: Command) -> Result:
        ttls = self._lessor.renew(self._staged, command.keyspace, command.lease_renew.ids)
        self.renewed += len(ttls) - ttls.count(0)
        return RenewResult(self._store.revision, ttls)

    def _expire(self, command: Command) -> Result:
        """Of the leases that the leader took for expired, end those that are.

        Renewals that came first in the log count, whatever the leader knew; so nobody can
        end a lease early, a leader least that has not noticed its own end (etcd#15247).
        """
        keyspace = command.keyspace
        for lease in command.lease_expire.ids:
            if self._lessor.is_overdue(keyspace, lease):
                self._end(keyspace, lease, rows.BY_LEASE_EXPIRY)
                self.count_ended(rows.BY_LEASE_EXPIRY)
        return AckResult(self._store.revision)

    def _end(self, keyspace: int, lease: int, reason: int) -> None:
        keys = self._found.pop(lease)
        if keys:
            writer = self._store.begin(self._staged, keyspace)
            writer.delete_keys(keys, reason)
            self.keys_moved(writer)
        self._lessor.remove(self._staged, keyspace, lease)
        self._count(keyspace, -1)

    def count_ended(self, reason: int) -> None:
        if reason == rows.BY_LEASE_REVOKE:
            self.revoked += 1
        else:
            self.expired += 1

    def _count(self, keyspace: int, change: int) -> None:
        self._store.keyspace(keyspace).leases += change
        self._store.changed_keyspaces.add(keyspace)
