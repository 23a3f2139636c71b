"""The hash chain: one number that tells whether two members applied the same to the same effect.

    h(0) = 0
    h(i) = XXH3-64(h(i-1), i, term, revision, result code, logical rows that entry i wrote)

(docs/formats.md, "Hash chain"). The last 10,000 links are kept, so that
members can compare at an index that both have applied.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from xxhash import xxh3_64_intdigest

from chainfire.storage.staged import Change

LINKS_KEPT: Final = 10_000

_HEAD: Final = struct.Struct(">QQQQI").pack
_ROW: Final = struct.Struct(">BBI").pack
_LENGTH: Final = struct.Struct(">I").pack
_FOLDED: Final = struct.Struct(">BQ").pack
_NUMBER_OF_FAMILY: Final = {"key_value": 1, "key_history": 2, "revisions": 3, "leases": 4}


class HashChain:
    """The chain's end, and the links before it."""

    __slots__ = ("_links", "_start", "hash", "index")

    def __init__(self, index: int, hash: int) -> None:
        self.index = index
        self.hash = hash
        self._start = index  # links before it were made by an earlier run
        self._links = [0] * LINKS_KEPT  # of index i at i % LINKS_KEPT
        self._links[index % LINKS_KEPT] = hash

    def link(
        self, index: int, term: int, revision: int, code: int, changes: Sequence[Change]
    ) -> int:
        """Add one entry; return the number of bytes that were digested."""
        data = _with_rows(_HEAD(self.hash, index, term, revision, code), changes)
        self.add(index, xxh3_64_intdigest(data))
        return len(data)

    def link_folded(self, index: int, term: int, revision: int, digest: int) -> None:
        """Add an entry that was applied in slices; `digest` is the last `fold` of its rows."""
        data = _HEAD(self.hash, index, term, revision, 0) + _FOLDED(255, digest)
        self.add(index, xxh3_64_intdigest(data))

    def add(self, index: int, hash: int) -> None:
        """Add one entry whose link was computed elsewhere."""
        assert index == self.index + 1, (index, self.index)
        self.index = index
        self.hash = self._links[index % LINKS_KEPT] = hash

    def at(self, index: int) -> int | None:
        """h(index); None when it is not kept: too old, before this start, or not applied yet."""
        if max(self._start, self.index - LINKS_KEPT + 1) <= index <= self.index:
            return self._links[index % LINKS_KEPT]
        return None


def fold(digest: int, changes: Sequence[Change]) -> int:
    """The digest of some rows behind the digest of all before them; 0 is that of none."""
    return xxh3_64_intdigest(_with_rows(digest.to_bytes(8), changes))


def _with_rows(data: bytes | bytearray, changes: Sequence[Change]) -> bytes | bytearray:
    if len(changes) > 8:
        data = bytearray(data)  # grows in place; for few rows bytes are faster
    for family, key, value in changes:
        number = _NUMBER_OF_FAMILY.get(family)
        if number is None:
            continue
        if value is None:
            data += _ROW(number, 1, len(key)) + key + b"\0\0\0\0"
        else:
            data += _ROW(number, 0, len(key)) + key + _LENGTH(len(value)) + value
    return data
