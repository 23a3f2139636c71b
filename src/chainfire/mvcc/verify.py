"""Recount from the rows what the counters say. For tests and for looking into a directory."""

from __future__ import annotations

from chainfire.mvcc import rows
from chainfire.mvcc.compact import Compaction
from chainfire.mvcc.ranges import HISTORY, KEYS, REVISIONS, after_keyspace
from chainfire.mvcc.state import KeyspaceState, StoreState
from chainfire.storage.backend import StorageBackend


def recount(backend: StorageBackend, store: StoreState, keyspace: int) -> KeyspaceState:
    """The keyspace's numbers, its three sums taken from the rows.

    What this member's compaction has removed is not off `history_bytes`
    before it is booked, nor is what is booked gone before it is removed.
    """
    prefix = rows.keyspace_prefix(keyspace)
    upper = after_keyspace(prefix)
    state = store.keyspace(keyspace)
    sizes = {
        family: [len(key) + len(value) for key, value in backend.iterate(family, prefix, upper)]
        for family in (KEYS, HISTORY, REVISIONS)
    }
    removed = Compaction(backend, store, keyspace).freed_bytes
    written = sum(sizes[HISTORY]) + sum(sizes[REVISIONS]) + removed
    return KeyspaceState(
        compacted=state.compacted,
        finished=state.finished,
        keys=len(sizes[KEYS]),
        live_bytes=sum(sizes[KEYS]),
        history_bytes=written - state.freed_bytes,
        leases=state.leases,
        freed_bytes=state.freed_bytes,
    )
