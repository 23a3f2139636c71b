"""The bytes of the family `leases` (docs/formats.md), and nothing else: no reads, no writes.

Two kinds of rows, each kind of a keyspace in one range: the leases, which are
read at open, and the keys attached to them, which are read when a lease ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from struct import error as struct_error
from typing import Final

from chainfire.errors import Corrupt, UnknownFormat

FAMILY: Final = "leases"
ATTACHED: Final = b"\x01"  # format

_FORMAT: Final = 1
_LEASE_KIND: Final = 0
_KEY_KIND: Final = 1
_HEAD: Final = Struct(">IB")  # keyspace, kind
_KEY: Final = Struct(">IBq")  # keyspace, kind, lease id
_ID_BITS: Final = Struct(">5xQ")  # of a _KEY
_LEASE: Final = Struct(">BQQ")  # format, TTL, deadline


def lease_key(keyspace: int, lease: int) -> bytes:
    return _KEY.pack(keyspace, _LEASE_KIND, lease)


def lease_bounds(keyspace: int) -> tuple[bytes, bytes]:
    """From the first to behind the last lease of the keyspace."""
    return _HEAD.pack(keyspace, _LEASE_KIND), _HEAD.pack(keyspace, _KEY_KIND)


def encode_lease(ttl_ms: int, deadline_ms: int) -> bytes:
    return _LEASE.pack(_FORMAT, ttl_ms, deadline_ms)


def decode_leases(
    found: Sequence[tuple[bytes, bytes]],
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Ids as 64 bits without a sign, TTLs and deadlines of some rows, each in their order.

    Several at a time, because a start may have a million of them. Raises UnknownFormat, Corrupt.
    """
    keys, values = zip(*found, strict=True)
    try:
        (ids,) = zip(*_ID_BITS.iter_unpack(b"".join(keys)), strict=True)
        formats, ttls, deadlines = zip(*_LEASE.iter_unpack(b"".join(values)), strict=True)
    except struct_error as exc:
        raise Corrupt("rows of leases that are too long or too short") from exc
    if len(ids) != len(found) or len(ttls) != len(found):
        raise Corrupt("rows of leases that are too long or too short")
    if formats.count(_FORMAT) != len(found):
        raise UnknownFormat(
            f"a row of leases has format {max(formats)}, this version knows {_FORMAT}"
        )
    return ids, ttls, deadlines


def attachment_key(keyspace: int, lease: int, key: bytes) -> bytes:
    return _KEY.pack(keyspace, _KEY_KIND, lease) + key


def attachment_bounds(keyspace: int, lease: int) -> tuple[bytes, bytes]:
    """From the first to behind the last key of the lease."""
    lower = _KEY.pack(keyspace, _KEY_KIND, lease)
    return lower, (int.from_bytes(lower) + 1).to_bytes(len(lower))


def attached_key(row_key: bytes) -> bytes:
    return row_key[_KEY.size :]
