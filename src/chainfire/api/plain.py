"""The commonest requests, recognised by their bytes without building a message.

A get of one key or of a range with nothing else set, and a put of a key and a
value with nothing else set, are most of what a store is asked. Whatever is not surely
one of them is left to protobuf (tests/api/test_plain.py holds both against
each other).
"""

from __future__ import annotations

from chainfire.wheel import FAULT

if FAULT is None:
    from chainfire_native import is_plain_txn
else:

    def is_plain_txn(request: bytes, operations_max: int) -> bool:
        return False


_KEY = 0x0A  # field 1, length-delimited
_VALUE = 0x12  # field 2 of PutRequest
_RANGE_END = 0x12  # field 2 of RangeRequest
# Of RangeRequest: field 7, true; and the same with field 1000, consistency.
_SERIALIZABLE = (b"\x38\x01", b"\x38\x01\xc0\x3e\x01")


def get_key(body: bytes) -> bytes | None:
    """The key of a RangeRequest that holds a key and nothing else."""
    size = len(body) - 2
    if 0 < size < 128 and body[0] == _KEY and body[1] == size:
        return body[2:]
    return None


def serializable_get_key(body: bytes) -> bytes | None:
    """The key of a RangeRequest that holds a key and is serializable, as etcd says it or as our
    own client does."""
    size = len(body)
    if size > 4 and body[0] == _KEY and 0 < body[1] < 128:
        end = 2 + body[1]
        if body[end:] in _SERIALIZABLE:
            return body[2:end]
    return None


def range_bounds(body: bytes) -> tuple[bytes, bytes, bool] | None:
    """Key, range end and whether it is serializable, of a RangeRequest with nothing else."""
    size = len(body)
    if size < 6 or body[0] != _KEY:
        return None
    key_size = body[1]
    key_end = 2 + key_size
    if not 0 < key_size < 128 or key_end + 2 >= size or body[key_end] != _RANGE_END:
        return None
    end_size = body[key_end + 1]
    end = key_end + 2 + end_size
    if not 0 < end_size < 128 or end > size:
        return None
    if end != size and body[end:] not in _SERIALIZABLE:
        return None
    return body[2:key_end], body[key_end + 2 : end], end != size


def is_delete(body: bytes) -> bool:
    """Whether it is a DeleteRangeRequest with a key and nothing else: the same bytes."""
    return get_key(body) is not None


def is_txn(body: bytes, max_ops: int) -> bool:
    """Whether it is a TxnRequest of single keys that passes every check that needs no state, and
    is one for the log: as the machine's codec tells it, where that is installed."""
    return is_plain_txn(body, max_ops)


def is_put(body: bytes) -> bool:
    """Whether it is a PutRequest with a key, a value or none, and nothing else.

    Such a request passes every check that needs no state.
    """
    size = len(body)
    if size < 3 or body[0] != _KEY:
        return False
    key_size = body[1]
    at = 2 + key_size
    if not 0 < key_size < 128 or at > size:
        return False
    if at == size:
        return True
    if at + 2 > size or body[at] != _VALUE:
        return False
    value_size = body[at + 1]
    at += 2
    if value_size >= 128:
        if at == size or body[at] >= 128:
            return False  # 16 KiB and more: decoding is not what it costs
        value_size += (body[at] << 7) - 128
        at += 1
    return at + value_size == size
