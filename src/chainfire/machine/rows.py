"""The bytes of the machine's own rows: docs/formats.md, "machine", "members", "alarms".

`decode_x` raises UnknownFormat for a format number of another version and
Corrupt for bytes that cannot be such a row.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from chainfire.errors import Corrupt, Damaged, UnknownFormat
from chainfire.machine.sender import Sender
from chainfire.proto.cluster_pb2 import Member
from chainfire.storage.backend import Reader
from chainfire.types import Alarm, ConfState

FORMAT: Final = 1
_FORMAT: Final = b"\x01"

FAMILY: Final = "machine"
APPLIED: Final = b"applied"
CLUSTER_VERSION: Final = b"cluster_version"
CONF_STATE: Final = b"conf_state"
SENDER: Final = b"sender"  # ‖ u64 member id
REMOVED: Final = b"removed"  # ‖ u64 member id

_U64: Final = struct.Struct(">Q")
_PAIR: Final = struct.Struct(">QQ")
_COUNT: Final = struct.Struct(">I")
_APPLIED: Final = struct.Struct(">BQQQQQ")
_SENDER: Final = struct.Struct(">BQQI")
_ALARM_KEY: Final = struct.Struct(">QB")


@dataclass(slots=True, init=False)
class Position:
    """How far the machine is: the row that makes a batch an atom.

    Never changed once made; not frozen, as types.Entry: one is made for every batch.
    """

    index: int
    term: int
    revision: int  # main
    hash: int  # of the chain, up to and with `index`
    leader_clock_ms: int

    def __init__(
        self, index: int, term: int, revision: int, hash: int, leader_clock_ms: int
    ) -> None:
        self.index = index
        self.term = term
        self.revision = revision
        self.hash = hash
        self.leader_clock_ms = leader_clock_ms


def read_position(reader: Reader) -> Position:
    """Where a state directory stands. Raises Damaged when it was never bootstrapped."""
    return decode_position(required(reader, APPLIED))


def required(reader: Reader, key: bytes) -> bytes:
    value = reader.get(FAMILY, key)
    if value is None:
        raise Damaged(
            f"state/ lacks the row {key.decode()}: the directory was not made by this program, "
            "or files of it are gone"
        )
    return value


def encode_position(position: Position) -> bytes:
    p = position
    return _APPLIED.pack(FORMAT, p.index, p.term, p.revision, p.hash, p.leader_clock_ms)


def decode_position(value: bytes) -> Position:
    _check(value, APPLIED)
    try:
        return Position(*_APPLIED.unpack(value)[1:])
    except struct.error as exc:
        raise _corrupt(APPLIED, value) from exc


def encode_cluster_version(version: str) -> bytes:
    return _FORMAT + version.encode()


def decode_cluster_version(value: bytes) -> str:
    _check(value, CLUSTER_VERSION)
    try:
        return value[1:].decode()
    except UnicodeDecodeError as exc:
        raise _corrupt(CLUSTER_VERSION, value) from exc


def encode_conf_state(state: ConfState) -> bytes:
    lists = (state.voters, state.learners, state.voters_outgoing, state.learners_next)
    parts = [_COUNT.pack(len(ids)) + b"".join(map(_U64.pack, ids)) for ids in lists]
    return _FORMAT + b"".join(parts) + bytes([state.auto_leave])


def decode_conf_state(value: bytes) -> ConfState:
    _check(value, CONF_STATE)
    lists: list[tuple[int, ...]] = []
    at = 1
    try:
        for _ in range(4):
            (count,) = _COUNT.unpack_from(value, at)
            lists.append(struct.unpack_from(f">{count}Q", value, at + 4))
            at += 4 + 8 * count
    except struct.error as exc:
        raise _corrupt(CONF_STATE, value) from exc
    if value[at:] not in (b"\x00", b"\x01"):
        raise _corrupt(CONF_STATE, value)
    voters, learners, outgoing, learners_next = lists
    return ConfState(voters, learners, outgoing, learners_next, value[at] == 1)


def sender_key(member_id: int) -> bytes:
    return SENDER + _U64.pack(member_id)


def encode_sender(sender: Sender) -> bytes:
    firsts, lasts = sender.firsts, sender.lasts
    head = _SENDER.pack(FORMAT, sender.start_number, sender.lowest_unsettled, len(firsts))
    return head + b"".join([_PAIR.pack(*pair) for pair in zip(firsts, lasts, strict=True)])


def decode_sender(value: bytes) -> Sender:
    _check(value, SENDER)
    try:
        _, start_number, lowest_unsettled, count = _SENDER.unpack_from(value)
        bounds = struct.unpack(f">{2 * count}Q", value[_SENDER.size :])
    except struct.error as exc:
        raise _corrupt(SENDER, value) from exc
    sender = Sender(start_number, lowest_unsettled)
    sender.firsts, sender.lasts = list(bounds[::2]), list(bounds[1::2])
    return sender


def read_senders(reader: Reader) -> dict[int, Sender]:
    """All senders by member id."""
    return {id_: decode_sender(value) for id_, value in _by_member(reader, SENDER)}


def removed_key(member_id: int) -> bytes:
    return REMOVED + _U64.pack(member_id)


def encode_removed() -> bytes:
    return _FORMAT


def read_removed(reader: Reader) -> set[int]:
    """The ids that a membership change has removed, for good."""
    removed = set()
    for member_id, value in _by_member(reader, REMOVED):
        _check(value, REMOVED)
        removed.add(member_id)
    return removed


def _by_member(reader: Reader, prefix: bytes) -> Iterator[tuple[int, bytes]]:
    upper = prefix[:-1] + bytes([prefix[-1] + 1])
    for key, value in reader.iterate(FAMILY, prefix, upper):
        yield _U64.unpack(key[len(prefix) :])[0], value


def member_key(member_id: int) -> bytes:
    return _U64.pack(member_id)


def encode_member(member: Member) -> bytes:
    return member.SerializeToString(deterministic=True)


def read_members(reader: Reader) -> dict[int, Member]:
    """All members by id. Raises Damaged when there is none."""
    members = {}
    for key, value in reader.iterate("members"):
        try:
            member = Member.FromString(value)
        except DecodeError as exc:
            raise _corrupt(b"members/" + key, value) from exc
        if member_key(member.ID) != key:
            raise _corrupt(b"members/" + key, value)
        members[member.ID] = member
    if not members:
        raise Damaged("state/ names no members: files of it are gone")
    return members


def alarm_key(alarm: Alarm) -> bytes:
    return _ALARM_KEY.pack(alarm.member_id, alarm.type)


def encode_alarm() -> bytes:
    return _FORMAT


def read_alarms(reader: Reader) -> set[Alarm]:
    alarms = set()
    for key, value in reader.iterate("alarms"):
        _check(value, b"alarms")
        if len(key) != _ALARM_KEY.size:
            raise _corrupt(b"alarms/" + key, value)
        alarms.add(Alarm(*_ALARM_KEY.unpack(key)))
    return alarms


def _check(value: bytes, name: bytes) -> None:
    if value[:1] != _FORMAT:
        if not value:
            raise _corrupt(name, value)
        raise UnknownFormat(
            f"the row {name.decode()} has format {value[0]}, this version knows {FORMAT}: "
            "the directory was written by a newer version"
        )


def _corrupt(name: bytes, value: Sequence[int]) -> Corrupt:
    return Corrupt(f"the row {name!r} in state/ cannot be read ({len(value)} bytes)")
