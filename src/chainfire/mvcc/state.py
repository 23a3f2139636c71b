"""What the store keeps in memory: one counter, a few numbers per keyspace, the caches.

It is read from the `keyspaces` rows at open and changed by Writers; it is
ahead of the backend from a Writer's first change until the batch is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from struct import Struct

from chainfire.errors import Corrupt, UnknownFormat
from chainfire.mvcc import rows
from chainfire.mvcc.cache import RowCache
from chainfire.mvcc.count import Counts
from chainfire.mvcc.lines import Lines
from chainfire.mvcc.ranges import Bounds, after_keyspace
from chainfire.mvcc.spans import Spans
from chainfire.storage.backend import Reader

FAMILY = "keyspaces"
NEVER = -1  # compacted revision of a keyspace that never was
SPANS_SHARE = 8  # one part in that many of the cache is for keys, the rest for rows

_FORMAT = 1
_ROW = Struct(">BqqQQQQQ")
_KEY = Struct(">I")


@dataclass(slots=True)
class KeyspaceState:
    """The numbers of one keyspace; the same on every member."""

    compacted: int = NEVER  # reads below it are refused
    finished: int = NEVER  # invariant: finished <= compacted; booked in history_bytes up to here
    keys: int = 0
    live_bytes: int = 0  # keys and values of its key_value rows
    history_bytes: int = 0  # of its key_history and revisions rows that `finished` leaves
    leases: int = 0
    freed_bytes: int = 0  # all that finished compactions took off history_bytes, ever

    def encode(self) -> bytes:
        return _ROW.pack(
            _FORMAT,
            self.compacted,
            self.finished,
            self.keys,
            self.live_bytes,
            self.history_bytes,
            self.leases,
            self.freed_bytes,
        )

    @classmethod
    def decode(cls, row: bytes) -> KeyspaceState:
        """Raises UnknownFormat, Corrupt."""
        if row[0] != _FORMAT:
            raise UnknownFormat(f"keyspaces row of format {row[0]}")
        if len(row) != _ROW.size:
            raise Corrupt(f"keyspaces row of {len(row)} bytes, not {_ROW.size}")
        return cls(*_ROW.unpack(row)[1:])


def keyspace_key(keyspace: int) -> bytes:
    return _KEY.pack(keyspace)


class StoreState:
    """What readers and Writers share."""

    __slots__ = ("cache", "changed_keyspaces", "counts", "keyspaces", "lines", "revision", "spans")

    def __init__(self, backend: Reader, cache_bytes: int, revision: int) -> None:
        """Raises UnknownFormat, Corrupt."""
        self.revision = revision  # main, of the last change of any keyspace; never goes back
        self.keyspaces = {
            _KEY.unpack(key)[0]: KeyspaceState.decode(row) for key, row in backend.iterate(FAMILY)
        }
        self.changed_keyspaces: set[int] = set()  # their rows are to be written
        self.spans = Spans(cache_bytes // SPANS_SHARE)
        self.cache = RowCache(cache_bytes - cache_bytes // SPANS_SHARE)
        self.counts = Counts()
        self.lines = Lines()

    def keyspace(self, keyspace: int) -> KeyspaceState:
        """The keyspace's numbers, those of an empty one if it never was written."""
        state = self.keyspaces.get(keyspace)
        if state is None:
            state = self.keyspaces[keyspace] = KeyspaceState()
            prefix = rows.keyspace_prefix(keyspace)
            self.spans.learn(prefix, after_keyspace(prefix), ())
        return state

    def created(self, row_key: bytes, row: bytes) -> None:
        """Owed for every key that was not there before, with its row."""
        self.counts.created(row_key)
        self.spans.created(row_key)
        self.lines.created(row_key, row)

    def deleted(self, row_key: bytes) -> None:
        """Owed for every key that goes."""
        self.counts.deleted(row_key)
        self.spans.deleted(row_key)
        self.lines.deleted(row_key)

    def forget_live(self) -> None:
        """Very many keys went: nothing that is known of the newest state's keys holds."""
        self.counts.forget_live()
        self.spans.clear()
        self.lines.clear()

    def note_rows(self, bounds: Bounds, found: Sequence[tuple[bytes, bytes]]) -> None:
        """All rows that readers see in these bounds, just read, in order."""
        self.spans.learn(bounds.lower, bounds.upper, [row_key for row_key, _ in found])


class Apart(StoreState):
    """The numbers of one keyspace as they are now, for one reader or writer alone."""

    __slots__ = ()

    def __init__(self, store: StoreState, keyspace: int) -> None:
        self.revision = store.revision
        self.keyspaces = {keyspace: replace(store.keyspace(keyspace))}
        self.changed_keyspaces = set()
        self.cache = RowCache(0)
        self.counts = Counts()
        self.lines = Lines()
        self.spans = Spans(0)
