"""What members say to each other once they know each other, and its bytes. Pure.

docs/formats.md, "Between members". `encode` gives whole frames, length and
checksum included; a Splitter gives bodies back, `decode` reads them. Whatever
is wrong with bytes from outside raises BadFrame, and nothing else.

Entries travel as log records: `encode` and `decode` share a RecordCache with
the log store, so that a batch is encoded once in the cluster.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from xxhash import xxh3_64_intdigest

from chainfire.errors import ChainfireError, FatalError
from chainfire.machine.rows import decode_conf_state, encode_conf_state
from chainfire.node import records
from chainfire.node.records import RecordCache
from chainfire.raft.messages import Message, MessageType, Snapshot
from chainfire.types import Entry

FORWARD: Final = 32
REFUSED: Final = 33
CHAIN: Final = 34
CHANGE: Final = 35
REPORT: Final = 36
CLOCK: Final = 37

HEAD_BYTES: Final = 8
FRAME_BYTES_MAX: Final = 64 << 20  # of one body; an entry larger than that cannot travel
FORWARD_BYTES_MAX: Final = 1 << 20  # more commands than that go into several frames

_HEAD = struct.Struct(">II")
_MESSAGE = struct.Struct(">BB9QI")
_SNAPSHOT = struct.Struct(">QQI")
_COUNT = struct.Struct(">BI")
_REFUSED = struct.Struct(">BQII")
_CHAIN = struct.Struct(">BQQ")
_CLOCK = struct.Struct(">BQQ")
_REPORT = struct.Struct(">BQQQQQQBI")
_MATCH = struct.Struct(">QQ")
_SIZE = struct.Struct(">I")

# PROPOSE: commands are forwarded. STORAGE_…: between a member and its own disk.
_TRAVELLING: Final = tuple(
    type_ for type_ in MessageType if type_ <= 14 and type_ is not MessageType.PROPOSE
)
_TYPES: Final = {int(type_): type_ for type_ in _TRAVELLING}


class BadFrame(ChainfireError):
    """Bytes from a peer that cannot be what they claim to be; its connection is closed."""

    text = "bad frame from a peer"


@dataclass(slots=True, frozen=True)
class Forward:
    """Commands for the leader, enveloped as they will stand in the log."""

    commands: Sequence[bytes]


@dataclass(slots=True, frozen=True)
class Change:
    """A membership change for the leader, as it will stand in the log."""

    data: bytes


@dataclass(slots=True, frozen=True)
class Refused:
    """The leader's answer to forwarded commands that it did not propose."""

    start_number: int  # of the member that forwarded them
    sequences: Sequence[int]
    code: int  # gRPC


@dataclass(slots=True, frozen=True)
class Chain:
    """Where a member's hash chain stood after an entry; members compare at equal indexes."""

    index: int
    hash: int


@dataclass(slots=True, frozen=True)
class Clock:
    """What the leader of a term reads of the lease clock (`node/leaseclock.py`)."""

    term: int
    reading_ms: int


@dataclass(slots=True, frozen=True, kw_only=True)
class Report:
    """What a member tells of itself (`node/reports.py`)."""

    term: int
    leader: int  # 0: none known
    commit_index: int
    applied_index: int
    revision: int
    in_use_bytes: int
    version: str
    matches: tuple[tuple[int, int], ...] = ()  # member, end of its log; a leader's report only


Frame = Message | Forward | Change | Refused | Chain | Clock | Report


# ── out ─────────────────────────────────────────────────────────────────────


def framed(body: bytes) -> bytes:
    """The body as it travels."""
    return _HEAD.pack(len(body), xxh3_64_intdigest(body) & 0xFFFFFFFF) + body


def encode(frame: Frame, cache: RecordCache) -> bytes:
    """One whole frame; several where a Forward is large."""
    if type(frame) is Message:
        return framed(encode_message(frame, cache))
    match frame:
        case Forward(commands):
            return b"".join(framed(_forward(part)) for part in _parts(commands))
        case Change(data):
            return framed(bytes([CHANGE]) + data)
        case Refused(start_number, sequences, code):
            head = _REFUSED.pack(REFUSED, start_number, code, len(sequences))
            return framed(head + struct.pack(f">{len(sequences)}Q", *sequences))
        case Chain(index, hash_):
            return framed(_CHAIN.pack(CHAIN, index, hash_))
        case Clock(term, reading_ms):
            return framed(_CLOCK.pack(CLOCK, term, reading_ms))
        case Report():
            return framed(_report(frame))
        case _:
            raise AssertionError(frame)


def encode_message(message: Message, cache: RecordCache) -> bytes:
    """The body of a Raft message."""
    assert message.type in _TRAVELLING, message.type
    settled_index, settled_term = message.settled
    head = _MESSAGE.pack(
        message.type,
        message.reject | message.quiet << 1,
        message.to,
        message.sender,
        message.term,
        message.log_term,
        message.index,
        message.commit,
        message.reject_hint,
        settled_index,
        settled_term,
        len(message.context),
    )
    parts = [head, message.context]
    if message.entries:
        assert message.type is MessageType.APPEND, message.type
        assert message.entries[0].index == message.index + 1, message.index
        for record in cache.encode(message.entries):
            parts += _SIZE.pack(len(record)), record
    elif message.type is MessageType.SNAPSHOT:
        parts.append(_encode_snapshot(message.snapshot))
    return b"".join(parts)


def _encode_snapshot(snapshot: Snapshot | None) -> bytes:
    assert snapshot is not None
    conf_state = encode_conf_state(snapshot.conf_state)
    head = _SNAPSHOT.pack(snapshot.index, snapshot.term, len(conf_state))
    return head + conf_state + snapshot.data


def _forward(commands: Sequence[bytes]) -> bytes:
    sizes = struct.pack(f">{len(commands)}I", *map(len, commands))
    return b"".join((_COUNT.pack(FORWARD, len(commands)), sizes, *commands))


def _parts(commands: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    if sum(map(len, commands)) <= FORWARD_BYTES_MAX:
        yield commands
        return
    start, weight = 0, 0
    for at, command in enumerate(commands):
        weight += len(command)
        if weight > FORWARD_BYTES_MAX and at > start:
            yield commands[start:at]
            start, weight = at, len(command)
    yield commands[start:]


# ── in ──────────────────────────────────────────────────────────────────────


class Splitter:
    """Cuts what a connection brings into bodies. After BadFrame it is of no more use."""

    __slots__ = ("_rest", "body_bytes_max")

    def __init__(self, body_bytes_max: int) -> None:
        self.body_bytes_max = body_bytes_max
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The bodies that are complete by now, in order."""
        if self._rest:
            self._rest += data
            if len(self._rest) < HEAD_BYTES + self._size(self._rest, 0):
                return []
            data = bytes(self._rest)
        bodies, at, end = [], 0, len(data)
        while end - at >= HEAD_BYTES:
            size, checksum = _HEAD.unpack_from(data, at)
            if not 0 < size <= self.body_bytes_max:
                self._ensure_size(size)
            start = at + HEAD_BYTES
            if end - start < size:
                break
            at = start + size
            body = data[start:at]
            if xxh3_64_intdigest(body) & 0xFFFFFFFF != checksum:
                raise BadFrame(f"the checksum of a frame of {size} bytes is wrong")
            bodies.append(body)
        if self._rest or at < end:
            self._rest = bytearray(data[at:])
        return bodies

    def _size(self, data: bytearray, at: int) -> int:
        if len(data) < HEAD_BYTES:
            return 1  # more than is there
        size: int = _SIZE.unpack_from(data, at)[0]
        self._ensure_size(size)
        return size

    def _ensure_size(self, size: int) -> None:
        if not 0 < size <= self.body_bytes_max:
            raise BadFrame(f"a frame of {size} bytes, allowed are 1 to {self.body_bytes_max}")


def decode(body: bytes, cache: RecordCache) -> Frame:
    """Raises BadFrame."""
    read = _READERS.get(body[0]) if body else None
    if read is None:
        raise BadFrame(f"a frame of the unknown kind {body[:1].hex() or 'nothing'}")
    try:
        return read(body, cache)
    except (struct.error, ValueError, FatalError) as exc:
        raise BadFrame(f"a frame of kind {body[0]} and {len(body)} bytes: {exc}") from exc


def _read_message(body: bytes, cache: RecordCache) -> Message:
    (
        kind,
        flags,
        to,
        sender,
        term,
        log_term,
        index,
        commit,
        reject_hint,
        settled_index,
        settled_term,
        context_bytes,
    ) = _MESSAGE.unpack_from(body)
    at = _MESSAGE.size + context_bytes
    if at > len(body) or flags > 3:
        raise BadFrame(f"a message with {context_bytes} bytes of context and flags {flags}")
    type_ = _TYPES[kind]
    entries: Sequence[Entry] = ()
    snapshot = None
    if type_ is MessageType.APPEND:
        entries = _read_entries(body, at, index + 1, cache)
    elif type_ is MessageType.SNAPSHOT:
        snapshot = _read_snapshot(body, at)
    elif at != len(body):
        raise BadFrame(f"{len(body) - at} bytes too many in a {type_.name}")
    return Message(
        type_,
        to,
        sender,
        term,
        log_term,
        index,
        entries,
        commit,
        0,  # vote: only between a member and its own disk
        flags & 1 > 0,
        reject_hint,
        body[_MESSAGE.size : _MESSAGE.size + context_bytes],
        snapshot,
        settled=(settled_index, settled_term),
        quiet=flags & 2 > 0,
    )


def _read_entries(body: bytes, at: int, first_index: int, cache: RecordCache) -> list[Entry]:
    entries: list[Entry] = []
    while at < len(body):
        (size,) = _SIZE.unpack_from(body, at)
        at += _SIZE.size
        record = body[at : at + size]
        if len(record) != size:
            raise BadFrame(f"a record of {size} bytes, {len(record)} are there")
        read = records.decode(first_index + len(entries), record)
        cache.remember(read, record)
        entries += read
        at += size
    return entries


def _read_snapshot(body: bytes, at: int) -> Snapshot:
    index, term, size = _SNAPSHOT.unpack_from(body, at)
    at += _SNAPSHOT.size
    return Snapshot(index, term, decode_conf_state(body[at : at + size]), body[at + size :])


def _read_forward(body: bytes, _cache: RecordCache) -> Forward:
    (_, count) = _COUNT.unpack_from(body)
    sizes = struct.unpack_from(f">{count}I", body, _COUNT.size)
    at = _COUNT.size + _SIZE.size * count
    if at + sum(sizes) != len(body):
        raise BadFrame(f"{count} commands of {sum(sizes)} bytes, {len(body) - at} are there")
    commands = []
    for size in sizes:
        commands.append(body[at : at + size])
        at += size
    return Forward(commands)


def _read_refused(body: bytes, _cache: RecordCache) -> Refused:
    _, start_number, code, count = _REFUSED.unpack_from(body)
    return Refused(start_number, struct.unpack(f">{count}Q", body[_REFUSED.size :]), code)


def _read_change(body: bytes, _cache: RecordCache) -> Change:
    return Change(body[1:])


def _report(report: Report) -> bytes:
    version = report.version.encode()
    head = _REPORT.pack(
        REPORT,
        report.term,
        report.leader,
        report.commit_index,
        report.applied_index,
        report.revision,
        report.in_use_bytes,
        len(version),
        len(report.matches),
    )
    return head + version + b"".join(_MATCH.pack(*match) for match in report.matches)


def _read_report(body: bytes, _cache: RecordCache) -> Report:
    _, term, leader, commit, applied, revision, in_use, size, count = _REPORT.unpack_from(body)
    end = _REPORT.size + size
    matches = tuple(_MATCH.iter_unpack(body[end:]))
    if len(matches) != count:
        raise BadFrame(f"a report with {len(matches)} matches, not {count}")
    return Report(
        term=term,
        leader=leader,
        commit_index=commit,
        applied_index=applied,
        revision=revision,
        in_use_bytes=in_use,
        version=body[_REPORT.size : end].decode(),
        matches=matches,
    )


def _read_chain(body: bytes, _cache: RecordCache) -> Chain:
    return Chain(*_CHAIN.unpack(body)[1:])


def _read_clock(body: bytes, _cache: RecordCache) -> Clock:
    return Clock(*_CLOCK.unpack(body)[1:])


_READERS: Final[dict[int, Callable[[bytes, RecordCache], Frame]]] = {
    **dict.fromkeys(map(int, _TRAVELLING), _read_message),
    FORWARD: _read_forward,
    REFUSED: _read_refused,
    CHAIN: _read_chain,
    CLOCK: _read_clock,
    CHANGE: _read_change,
    REPORT: _read_report,
}
