"""Connections between members that may be garbled; in some seeds all that is sent goes as bytes.

What one turn sends to a member is one write to a connection. Where it is
garbled on its way (a bit flips, its end is missing), the connection must be
closed and nothing else may happen: frames that were whole before count, the
rest, and what was under way behind it, is lost. Where no seed asks for bytes,
only what is garbled goes through the product's codec.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from operator import attrgetter
from random import Random
from typing import NamedTuple

from chainfire.node.frames import (
    FRAME_BYTES_MAX,
    HEAD_BYTES,
    BadFrame,
    Forward,
    Frame,
    Refused,
    Splitter,
    decode,
    encode,
)
from chainfire.node.records import RecordCache
from chainfire.raft.messages import Message
from chainfire.sim.history import Violation

Pair = tuple[int, int]  # from, to


class Packet(NamedTuple):
    """One write, as it arrives."""

    connection: int  # of this pair: so many were closed before it
    data: bytes | None  # None: if it arrives, then as it was said
    said: Sequence[Frame]
    is_cut: bool = False
    is_flipped: bool = False

    @property
    def is_garbled(self) -> bool:
        return self.is_cut or self.is_flipped


class Cables:
    def __init__(self, dice: Random, *, carries_bytes: bool) -> None:
        """`carries_bytes`: whatever is sent goes through the codec, and is compared."""
        self._dice = dice
        self._carries_bytes = carries_bytes
        self._closed: dict[Pair, int] = {}
        self._to_garble: dict[Pair, int] = {}  # where any ever were: how many of the next ones
        self.counts: Counter[str] = Counter()

    def garble(self, pair: Pair, writes: int) -> None:
        """So many of the next ones."""
        self._to_garble[pair] = writes

    def heal(self) -> None:
        """Nothing more is garbled."""
        self._to_garble = dict.fromkeys(self._to_garble, 0)

    def pack(
        self, pair: Pair, frames: Sequence[Frame], cache: RecordCache
    ) -> Packet | Sequence[Frame]:
        """What is under way then; frames, where nothing can happen to them."""
        if not self._carries_bytes and pair not in self._to_garble:
            return frames
        connection, left = self._closed.get(pair, 0), self._to_garble.get(pair, 0)
        if not left:
            data = _bytes_of(frames, cache) if self._carries_bytes else None
            return Packet(connection, data, frames)
        data = _bytes_of(frames, cache)
        self._to_garble[pair] = left - 1
        self.counts["writes garbled"] += 1
        if self._dice.random() < 0.3:
            cut = data[: self._dice.randrange(len(data))]
            return Packet(connection, cut, frames, is_cut=True)
        flipped = bytearray(data)
        flipped[self._dice.randrange(len(data))] ^= 1 << self._dice.randrange(8)
        return Packet(connection, bytes(flipped), frames, is_flipped=True)

    def unpack(self, pair: Pair, packet: Packet, cache: RecordCache) -> Sequence[Frame]:
        """What the receiver makes of it. Raises Violation; a garbled one closes the connection."""
        if packet.connection != self._closed.get(pair, 0):
            return ()
        if packet.data is None:
            return packet.said
        frames, used = _frames_of(packet, packet.data, cache)
        if packet.is_garbled:
            self._closed[pair] = packet.connection + 1
            self.counts["connections closed"] += 1
            if packet.is_flipped and used == len(packet.data):
                raise Violation(f"from, to {pair}: a bit was flipped, and {frames} understood")
        elif [*map(_plain, frames)] != [*map(_plain, packet.said)]:
            raise Violation(f"from, to {pair}: {packet.said} has become {frames}")
        return frames

    def carry(self, message: Message, cache: RecordCache) -> Message:
        """One that has a connection of its own: a snapshot's."""
        if not self._carries_bytes:
            return message
        data = encode(message, cache)
        frames, _ = _frames_of(Packet(0, data, [message]), data, RecordCache())
        if frames != [message]:
            raise Violation(f"{message} has become {frames}")
        return message


def _bytes_of(frames: Sequence[Frame], cache: RecordCache) -> bytes:
    return b"".join([encode(frame, cache) for frame in frames])


_SAID = attrgetter(*[field.name for field in fields(Message) if field.name != "entries"])


def _plain(frame: Frame) -> object:
    """To be compared: which kind of sequence holds its parts is all the same."""
    if isinstance(frame, Message):
        return (*_SAID(frame), *frame.entries)
    if isinstance(frame, Forward):
        return tuple(frame.commands)
    if isinstance(frame, Refused):
        return frame.start_number, tuple(frame.sequences), frame.code
    return frame


def _frames_of(packet: Packet, data: bytes, cache: RecordCache) -> tuple[Sequence[Frame], int]:
    """The frames, and how many of the bytes they were; what is left waits for more, for ever."""
    try:
        bodies = Splitter(FRAME_BYTES_MAX).feed(data)
        frames = [decode(body, cache) for body in bodies]
    except BadFrame as exc:
        if packet.is_garbled:
            return (), 0
        raise Violation(f"bytes that a member has made are refused: {exc}") from exc
    return frames, sum(HEAD_BYTES + len(body) for body in bodies)
