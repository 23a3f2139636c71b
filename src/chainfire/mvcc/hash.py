"""One number for the content of a keyspace, comparable between members (HashKV).

Hashed are the versions that a reader could still ask for: all after the
compacted revision, and of each key the newest at it. What physical compaction
has not removed yet is left out, so that its pace does not show. Two members
must agree if they hashed at the same revision and were compacted to the same.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from zlib import crc32

from chainfire.errors import Compacted, FutureRevision
from chainfire.mvcc import rows
from chainfire.mvcc.ranges import HISTORY, KEYS, after_keyspace
from chainfire.mvcc.read import ROWS_PER_SLICE
from chainfire.mvcc.state import StoreState
from chainfire.storage.backend import Reader


@dataclass(slots=True, frozen=True)
class HashResult:
    hash: int  # 32 bits
    compact_revision: int
    hash_revision: int


def hash_kv(
    view: Reader,
    store: StoreState,
    keyspace: int,
    revision: int,
    *,
    rows_per_slice: int = ROWS_PER_SLICE,
) -> Generator[None, None, HashResult]:
    """The hash at `revision`, 0 and less meaning the newest. Raises Compacted, FutureRevision.

    Yields where the loop may be given back; the state is that of the first step.
    """
    compacted = store.keyspace(keyspace).compacted
    if revision > store.revision:
        raise FutureRevision
    if revision <= 0:
        revision = store.revision
    if revision < compacted:
        raise Compacted
    digest = 0
    versions, has_survivor = b"", False  # of the key under way; a version at or before compacted
    walk = _versions(view, rows.keyspace_prefix(keyspace))
    for walked, (row_key, value) in enumerate(walk, start=1):
        if walked % rows_per_slice == 0:
            yield
        main, _ = rows.history_revision(row_key)
        if rows.history_row_prefix(row_key) != versions:
            versions, has_survivor = rows.history_row_prefix(row_key), False
        if main > revision or has_survivor:
            continue
        if main <= compacted:
            has_survivor = True
            if main < compacted and rows.version_in(value) is None:
                continue
        digest = crc32(value, crc32(row_key, digest))
    return HashResult(digest, compacted, revision)


def _versions(view: Reader, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    """All versions as rows of key_history, current ones too. Pinned by the first step."""
    upper = after_keyspace(prefix)
    history = view.iterate(HISTORY, prefix, upper)
    current = view.iterate(KEYS, prefix, upper)
    old = next(history, None)
    for row_key, row in current:
        kv = row[rows.ROW_HEAD_BYTES :]
        key = row_key[len(prefix) :]
        mod = rows.decode(kv).mod_revision
        as_history = rows.history_key(prefix, key, mod, rows.row_sub(row))
        while old is not None and old[0] < as_history:
            yield old
            old = next(history, None)
        yield as_history, rows.superseded(kv)
    while old is not None:
        yield old
        old = next(history, None)
