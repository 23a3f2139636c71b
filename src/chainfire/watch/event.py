"""One event: a change of a key, encoded once for all who are told of it alike.

The bytes are field 11 of a WatchResponse, ready to be joined.
"""

from __future__ import annotations

from typing import Final

from chainfire.mvcc import rows
from chainfire.mvcc.rows import varint

_EVENT: Final = b"\x5a"  # WatchResponse.events
_KV: Final = b"\x12"
_PREV_KV: Final = b"\x1a"
_DELETED: Final = b"\x08\x01"
_REASON: Final = b"\xc0\x3e"  # Event.reason, field 1000


class Flags:
    """What a watcher wants; bits of an int, because enums are slow."""

    PREV_KV: Final = 1
    KEYS_ONLY: Final = 2
    REASONS: Final = 4
    NO_PUT: Final = 8
    NO_DELETE: Final = 16
    FRAGMENT: Final = 32
    PROGRESS: Final = 64  # now and then, when there is nothing else to tell


_SHAPES: Final = Flags.PREV_KV | Flags.KEYS_ONLY | Flags.REASONS


class Event:
    """One change of one key."""

    __slots__ = ("_encoded", "key", "main", "prev", "reason", "row", "type")

    def __init__(
        self,
        main: int,
        type_: int,
        reason: int,
        key: bytes,
        row: bytes | None,
        prev: bytes | None,
    ) -> None:
        self.main = main
        self.type = type_  # rows.PUT or rows.DELETE
        self.reason = reason
        self.key = key
        self.row = row  # the encoded KeyValue; None for a delete
        self.prev = prev  # the key's KeyValue before this main revision
        self._encoded: dict[int, bytes] = {}

    def encoded(self, flags: int) -> bytes:
        """The field of a response, for watchers with these flags."""
        shape = flags & _SHAPES
        field = self._encoded.get(shape)
        if field is None:
            field = self._encoded[shape] = self._encode(shape)
        return field

    def _encode(self, shape: int) -> bytes:
        keys_only = shape & Flags.KEYS_ONLY
        if self.row is None:
            kv = b"".join((b"\x0a", varint(len(self.key)), self.key, rows.mod_field(self.main)))
            event = b"".join((_DELETED, _KV, varint(len(kv)), kv))
        else:
            kv = rows.without_value(self.row) if keys_only else self.row
            event = b"".join((_KV, varint(len(kv)), kv))
        if shape & Flags.PREV_KV and self.prev is not None:
            prev = rows.without_value(self.prev) if keys_only else self.prev
            event = b"".join((event, _PREV_KV, varint(len(prev)), prev))
        if shape & Flags.REASONS and self.reason:
            event += _REASON + varint(self.reason)
        return b"".join((_EVENT, varint(len(event)), event))


def prefix(watch_id: int) -> bytes:
    """The field of a response that differs between the watchers of a group."""
    return b"\x10" + varint(watch_id) if watch_id else b""
