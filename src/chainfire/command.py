"""The envelope of replicated commands: made by joining bytes, read by protobuf.

`Envelope.encode` puts a prefix in front of the client's own request bytes; no
message is built. The result equals what protobuf would write for the same
`chainfire.v1.Command`, byte for byte (docs/formats.md, "Command"); a command
that was forwarded has the leader's `stamp` behind it.

Three rules:

1. What is proposed must decode at apply, on every member. A body sits one
   level deeper in the envelope than at the door, and protobuf has a depth
   limit: a request at the very limit would pass the door and then stop every
   member. So a door reads a request with `decode_request`, as apply will.
2. A command's effect is defined by the fields that its format number has.
   Body fields that a member does not know stay in the log as they came and
   are ignored. A later version that gives a new field an effect proposes it
   under a new format number, once `cluster_version` says that all members
   know that one, and ignores the field in commands of the older formats. So
   members of different versions apply the same bytes to the same effect.
3. An unknown format, an unknown or missing body or bytes that do not decode
   raise UnknownFormat: the member stops, it never guesses.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from typing import Any, Final

from google.protobuf.message import DecodeError, Message

from chainfire.errors import Malformed, UnknownFormat
from chainfire.proto.command_pb2 import Command, ConfChangeContext

FORMAT: Final = 1
_parse = Command.FromString  # bound once: it is called for every entry


class CommandKind(IntEnum):
    """What the body is: its field number in `Command`."""

    PUT = 16
    DELETE_RANGE = 17
    TXN = 18
    COMPACT = 19
    COMPACTION_FINISHED = 20
    ALARM = 21
    CLUSTER_VERSION_SET = 22
    MEMBER_ATTRIBUTES_SET = 23
    LEASE_GRANT = 24
    LEASE_REVOKE = 25
    LEASE_RENEW = 26
    LEASE_EXPIRE = 27


BODY_NAMES: Final = {field.number: field.name for field in Command.DESCRIPTOR.oneofs[0].fields}
KIND_OF_BODY: Final = {name: CommandKind(number) for number, name in BODY_NAMES.items()}


class Envelope:
    """What the commands that a member proposes in one turn have in common.

    Cheap enough to be made anew each turn (about 1.5 µs).
    """

    __slots__ = ("_head", "_tail")

    def __init__(
        self,
        *,
        member_id: int,
        start_number: int,
        lowest_unsettled: int,
        proposing_term: int = 0,
        leader_clock_ms: int = 0,
    ) -> None:
        self._head = _head(member_id, start_number)
        self._tail = (
            _number(5, lowest_unsettled) + _number(6, proposing_term) + _number(7, leader_clock_ms)
        )

    def encode(
        self,
        sequence: int,
        kind: int,
        body: bytes,
        *,
        keyspace: int = 0,
        user: str = "",
        auth_revision: int = 0,
    ) -> bytes:
        """The bytes of one command. `body` has passed `decode_request`; sequences start at 1."""
        assert sequence > 0, sequence
        tail = self._tail
        if user or auth_revision or keyspace:
            name = user.encode()
            tail += b"\x42" + _varint(len(name)) + name if name else b""
            tail += _number(9, auth_revision) + _number(10, keyspace)
        parts = (
            self._head,
            _varint(sequence),
            tail,
            BODY_TAGS[kind],
            _varint(len(body)),
            body,
        )
        return b"".join(parts)


@lru_cache(maxsize=16)
def _head(member_id: int, start_number: int) -> bytes:
    """Up to the tag of `sequence`."""
    return _number(1, FORMAT) + _number(2, member_id) + _number(3, start_number) + b"\x20"


def stamp(proposing_term: int, leader_clock_ms: int) -> bytes:
    """What a leader appends to a command that another member has forwarded to it.

    Both fields stand at the end then; of a field that is there twice the last one counts.
    """
    return _number(6, proposing_term) + _number(7, leader_clock_ms)


def decode(data: bytes) -> Command:
    """The command of a log entry. Raises UnknownFormat for one that this version cannot apply."""
    try:
        command = _parse(data)
    except DecodeError as exc:
        raise UnknownFormat(f"a log entry is not a command ({len(data)} bytes: {exc})") from exc
    if command.format != FORMAT:
        raise UnknownFormat(
            f"a log entry is a command of format {command.format}, this version knows {FORMAT}"
        )
    return command


def decode_conf_change(context: bytes) -> ConfChangeContext:
    """What belongs to a membership change beside its steps. Raises UnknownFormat."""
    try:
        return ConfChangeContext.FromString(context)
    except DecodeError as exc:
        raise UnknownFormat(f"a configuration entry's context cannot be read: {exc}") from exc


def decode_request(kind: int, body: bytes) -> Any:
    """A client's request, read as apply will read it. Raises Malformed.

    For kinds that go through the log; the result is the body's message.
    """
    try:
        command = _parse(BODY_TAGS[kind] + _varint(len(body)) + body)
    except DecodeError as exc:
        raise Malformed.of(exc) from exc
    request: Message = getattr(command, BODY_NAMES[kind])
    return request


# ── protobuf's wire format, as much as a prefix needs ───────────────────────

_LAST: Final = tuple(bytes([low]) for low in range(128))
_MORE: Final = tuple(bytes([low | 128]) for low in range(128))


def _varint(number: int) -> bytes:
    if number < 0x80:
        return _LAST[number]
    if number < 0x4000:
        return _MORE[number & 0x7F] + _LAST[number >> 7]
    if number < 0x200000:
        return _MORE[number & 0x7F] + _MORE[number >> 7 & 0x7F] + _LAST[number >> 14]
    return (
        _MORE[number & 0x7F]
        + _MORE[number >> 7 & 0x7F]
        + _MORE[number >> 14 & 0x7F]
        + _varint(number >> 21)
    )


def _number(field: int, value: int) -> bytes:
    """A varint field; proto3 leaves zeros out. `value` >= 0."""
    return _LAST[field << 3] + _varint(value) if value else b""


BODY_TAGS: Final = {kind.value: _varint(kind << 3 | 2) for kind in CommandKind}
