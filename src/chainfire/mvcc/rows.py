"""The bytes of mvcc's rows (docs/formats.md), and nothing else: no reads, no writes.

Rows are made by joining bytes with precomputed varints: a message object per
row costs more than the row itself. Decoding a KeyValue takes the message
class, which is faster than a loop in Python. The encoders here write exactly
what the message class would, so that stored bytes are joined into replies.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from chainfire.errors import UnknownFormat
from chainfire.proto.kv_pb2 import KeyValue

FORMAT = 1
PUT, DELETE = 0, 1  # type in a revisions row; also etcd's EventType
BY_REQUEST, BY_LEASE_EXPIRY, BY_LEASE_REVOKE = 0, 1, 2  # reason of a delete

KEYSPACE_BYTES = 4  # at the beginning of every row key
ROW_HEAD_BYTES = 5  # of a key_value row, before the KeyValue
HISTORY_HEAD_BYTES = 2  # of a key_history row, before the KeyValue
TOMBSTONE = b"\x01\x01"
_VERSION_HEAD = b"\x01\x00"

_MASK_64 = (1 << 64) - 1
_MASK_32 = (1 << 32) - 1
_KEYSPACE = Struct(">I")
_REVISION = Struct(">QI")
_ROW_HEAD = Struct(">BI")  # format, sub
_CHANGE = Struct(">BBBQIq")  # format, type, reason, predecessor main and sub, lease
CHANGE_HEAD_BYTES = _CHANGE.size
CHANGE_KEY_BYTES = 4 + _REVISION.size

# ── varints ─────────────────────────────────────────────────────────────────


def _slow_varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


_TABLE_SIZE = 1 << 14
_VARINTS = [_slow_varint(number) for number in range(_TABLE_SIZE)]
# The low 14 bits of a longer number: two bytes, both saying that more follow.
_LOW_VARINTS = [bytes((number & 127 | 128, number >> 7 | 128)) for number in range(_TABLE_SIZE)]
# Fields as they mostly are: tag and number, or tag and length.
_KEY_FIELDS = [b"\x0a" + _slow_varint(size) for size in range(1024)]
_VERSION_FIELDS = [b"\x20" + _slow_varint(version) for version in range(1024)]
_VALUE_FIELDS = [b"", *[b"\x2a" + _slow_varint(size) for size in range(1, 1024)]]
_SUB_HEADS = [b"\x01" + sub.to_bytes(4) for sub in range(256)]


def varint(number: int) -> bytes:
    """Protobuf's encoding of an int64."""
    if 0 <= number < _TABLE_SIZE:
        return _VARINTS[number]
    if 0 <= number < _TABLE_SIZE * _TABLE_SIZE:
        return _LOW_VARINTS[number & 16383] + _VARINTS[number >> 14]
    if number < 0:
        number += 1 << 64
    head = b""
    while number >= _TABLE_SIZE:
        head += _LOW_VARINTS[number & 16383]
        number >>= 14
    return head + _VARINTS[number]


# ── KeyValue, key_value ─────────────────────────────────────────────────────


def mod_field(main: int) -> bytes:
    """The field mod_revision: the same for all that one command writes."""
    return b"\x18" + varint(main)


def key_value_row(
    sub: int, key: bytes, create_revision: int, mod: bytes, version: int, value: bytes, lease: int
) -> bytes:
    """The row of a version; `mod` is a `mod_field`."""
    size, value_bytes = len(key), len(value)
    return b"".join(
        (
            _SUB_HEADS[sub] if sub < 256 else b"\x01" + sub.to_bytes(4),
            _KEY_FIELDS[size] if size < 1024 else b"\x0a" + varint(size),
            key,
            b"\x10",
            varint(create_revision),
            mod,
            _VERSION_FIELDS[version] if version < 1024 else b"\x20" + varint(version),
            _VALUE_FIELDS[value_bytes] if value_bytes < 1024 else b"\x2a" + varint(value_bytes),
            value,
            b"\x30" + varint(lease) if lease else b"",
        )
    )


decode = KeyValue.FromString


def without_value(row: bytes) -> bytes:
    """A keys-only KeyValue: from 3.7 on etcd's index answers, which knows no lease either."""
    kv = decode(row)
    value_bytes = len(kv.value)
    cut = 0
    if value_bytes:
        cut = 1 + len(varint(value_bytes)) + value_bytes
    if kv.lease:
        cut += 1 + len(varint(kv.lease))
    return row[: len(row) - cut]


def keyspace_prefix(keyspace: int) -> bytes:
    """What every data row of the keyspace begins with."""
    assert 0 <= keyspace < _MASK_32, keyspace  # the next prefix must exist: it is the upper bound
    return _KEYSPACE.pack(keyspace)


def row_sub(row: bytes) -> int:
    """The sub revision of a key_value row. Raises UnknownFormat."""
    format_, sub = _ROW_HEAD.unpack_from(row)
    if format_ != FORMAT:
        raise UnknownFormat(f"key_value row of format {format_}")
    return sub  # type: ignore[no-any-return]


# ── key_history ─────────────────────────────────────────────────────────────


def history_prefix(prefix: bytes, key: bytes) -> bytes:
    """What all versions of the key begin with, and no other key's."""
    return prefix + key.replace(b"\0", b"\0\xff") + b"\0\0"


def history_key(prefix: bytes, key: bytes, main: int, sub: int) -> bytes:
    suffix = _REVISION.pack(main ^ _MASK_64, sub ^ _MASK_32)
    return prefix + key.replace(b"\0", b"\0\xff") + b"\0\0" + suffix


def history_newest(main: int) -> bytes:
    """The suffix to seek: the first row from there is the newest version with main or before."""
    return _REVISION.pack(main ^ _MASK_64, 0)


def after_history(versions: bytes) -> bytes:
    """The first possible row of another key; `versions` is a `history_prefix`."""
    return versions[:-1] + b"\x01"


def history_revision(row_key: bytes) -> tuple[int, int]:
    main, sub = _REVISION.unpack_from(row_key, len(row_key) - _REVISION.size)
    return main ^ _MASK_64, sub ^ _MASK_32


def history_row_prefix(row_key: bytes) -> bytes:
    """The `history_prefix` that a key_history row begins with."""
    return row_key[: -_REVISION.size]


def superseded(kv: bytes) -> bytes:
    return _VERSION_HEAD + kv


def version_in(value: bytes) -> bytes | None:
    """The KeyValue of a key_history row; None for a tombstone. Raises UnknownFormat."""
    if value[0] != FORMAT:
        raise UnknownFormat(f"key_history row of format {value[0]}")
    return None if value[1] else value[HISTORY_HEAD_BYTES:]


# ── revisions ───────────────────────────────────────────────────────────────


@dataclass(slots=True, init=False)
class Change:
    """A row of `revisions`. Never changed; not frozen, as types.Entry."""

    main: int
    sub: int
    type: int  # PUT or DELETE
    reason: int
    predecessor_main: int  # 0: the key was absent
    predecessor_sub: int
    lease: int
    key: bytes

    def __init__(
        self,
        main: int,
        sub: int,
        type: int,
        reason: int,
        predecessor_main: int,
        predecessor_sub: int,
        lease: int,
        key: bytes,
    ) -> None:
        self.main = main
        self.sub = sub
        self.type = type
        self.reason = reason
        self.predecessor_main = predecessor_main
        self.predecessor_sub = predecessor_sub
        self.lease = lease
        self.key = key


def change_key(prefix: bytes, main: int, sub: int) -> bytes:
    return prefix + _REVISION.pack(main, sub)


def change_value(
    type_: int, reason: int, predecessor_main: int, predecessor_sub: int, lease: int, key: bytes
) -> bytes:
    return _CHANGE.pack(FORMAT, type_, reason, predecessor_main, predecessor_sub, lease) + key


def change_main(row_key: bytes) -> int:
    return int.from_bytes(row_key[4:12])


def decode_change(row_key: bytes, value: bytes) -> Change:
    """Raises UnknownFormat."""
    format_, type_, reason, predecessor_main, predecessor_sub, lease = _CHANGE.unpack_from(value)
    if format_ != FORMAT:
        raise UnknownFormat(f"revisions row of format {format_}")
    main, sub = _REVISION.unpack_from(row_key, 4)
    key = value[CHANGE_HEAD_BYTES:]
    return Change(main, sub, type_, reason, predecessor_main, predecessor_sub, lease, key)
