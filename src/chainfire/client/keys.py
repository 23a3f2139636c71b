"""Keys and ranges as etcd's API writes them. Pure."""

from __future__ import annotations

Text = bytes | str

ALL = b"\0"  # as a range's end: everything from its key on; as its key: the smallest key


def to_bytes(text: Text) -> bytes:
    """str as UTF-8, bytes as they are."""
    return text.encode() if isinstance(text, str) else text


def prefix_end(prefix: bytes) -> bytes:
    """The first key behind all that start with the prefix; ALL where there is none."""
    stripped = prefix.rstrip(b"\xff")
    if not stripped:
        return ALL
    return stripped[:-1] + bytes([stripped[-1] + 1])


def prefix_range(prefix: Text) -> tuple[bytes, bytes]:
    """(key, range_end) of every key that starts with the prefix; the empty prefix is all keys."""
    key = to_bytes(prefix)
    return key or ALL, prefix_end(key)


def from_key_range(key: Text) -> tuple[bytes, bytes]:
    """(key, range_end) of every key from this one on."""
    return to_bytes(key) or ALL, ALL
