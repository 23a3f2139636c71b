"""The bytes of the family `leases` (docs/formats.md), and nothing else: no reads, no writes.

Three kinds of rows, each kind of a keyspace in one range: the leases and their
latest renewals, which are read at open, and the keys attached to them, which
are read when a lease ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from struct import Struct
from struct import error as struct_error
from typing import Final

from chainfire.errors import Corrupt, UnknownFormat

FAMILY: Final = "leases"
ATTACHED: Final = b"\x01"  # format

_FORMAT: Final = 1
_LEASE_KIND: Final = 0
_KEY_KIND: Final = 1
_RENEWALS_KIND: Final = 2
_HEAD: Final = Struct(">IB")  # keyspace, kind
_KEY: Final = Struct(">IBq")  # keyspace, kind, lease id
_RENEWALS_KEY: Final = Struct(">IBQ")  # keyspace, kind, number
_LEASE: Final = Struct(">BQQ")  # format, TTL, deadline
_TIMES: Final = Struct(">xQQ")  # of a _LEASE
_ID_BYTES: Final = 8

Numbers = tuple[int, ...]


def lease_key(keyspace: int, lease: int) -> bytes:
    return _KEY.pack(keyspace, _LEASE_KIND, lease)


def lease_bounds(keyspace: int) -> tuple[bytes, bytes]:
    """From the first to behind the last lease of the keyspace."""
    return _HEAD.pack(keyspace, _LEASE_KIND), _HEAD.pack(keyspace, _KEY_KIND)


def encode_lease(ttl_ms: int, deadline_ms: int) -> bytes:
    """A row: TTL, and deadline on the replicated clock."""
    return _LEASE.pack(_FORMAT, ttl_ms, deadline_ms)


def lease_times(row: bytes) -> tuple[int, int]:
    """TTL and deadline that a row says, in ms; a row whose format was looked at before."""
    return _TIMES.unpack_from(row)


def ids_and_deadlines(keys: Sequence[bytes], values: Sequence[bytes]) -> tuple[Numbers, Numbers]:
    """Ids, as 64 bits without a sign, and deadlines in ms of some rows, each in their order.

    Many at a time, in two calls: a start may have a million of them. Raises UnknownFormat, Corrupt.
    """
    count = len(keys)
    keys_of, rows_of = _columns(count)
    try:
        ids = keys_of.unpack(b"".join(keys))
        found = rows_of.unpack(b"".join(values))
    except struct_error as exc:
        raise Corrupt("rows of leases that are too long or too short") from exc
    formats = found[::2]
    if formats.count(_FORMAT) != count:
        raise UnknownFormat(
            f"a row of leases has format {max(formats)}, this version knows {_FORMAT}"
        )
    return ids, found[1::2]


@lru_cache(maxsize=2)
def _columns(count: int) -> tuple[Struct, Struct]:
    """The id of so many keys; format and deadline of so many rows."""
    return Struct(">" + "5xQ" * count), Struct(">" + "B8xQ" * count)


def renewals_key(keyspace: int, number: int) -> bytes:
    return _RENEWALS_KEY.pack(keyspace, _RENEWALS_KIND, number)


def renewals_number(row_key: bytes) -> int:
    return int.from_bytes(row_key[_HEAD.size :])


def renewals_bounds(keyspace: int) -> tuple[bytes, bytes]:
    """From the first to behind the last renewals of the keyspace."""
    return _HEAD.pack(keyspace, _RENEWALS_KIND), _HEAD.pack(keyspace, _RENEWALS_KIND + 1)


def encode_renewals(row: bytes, ids: Sequence[int]) -> bytes:
    """These leases are as `row` says."""
    return row + Struct(f">{len(ids)}q").pack(*ids)


def decode_renewals(value: bytes) -> tuple[bytes, Numbers]:
    """What `encode_renewals` was given. Raises UnknownFormat, Corrupt."""
    count, odd = divmod(len(value) - _LEASE.size, _ID_BYTES)
    if count < 0 or odd:
        raise Corrupt(f"a row of renewals has {len(value)} bytes")
    if value[0] != _FORMAT:
        raise UnknownFormat(
            f"a row of renewals has format {value[0]}, this version knows {_FORMAT}"
        )
    return value[: _LEASE.size], Struct(f">{count}q").unpack_from(value, _LEASE.size)


def attachment_key(keyspace: int, lease: int, key: bytes) -> bytes:
    return _KEY.pack(keyspace, _KEY_KIND, lease) + key


def attachment_bounds(keyspace: int, lease: int) -> tuple[bytes, bytes]:
    """From the first to behind the last key of the lease."""
    lower = _KEY.pack(keyspace, _KEY_KIND, lease)
    return lower, (int.from_bytes(lower) + 1).to_bytes(len(lower))


def attached_key(row_key: bytes) -> bytes:
    return row_key[_KEY.size :]
