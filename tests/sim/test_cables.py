"""Bytes between simulated members: what is garbled closes its connection, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from chainfire.node.frames import Chain, Clock, Forward, Frame, encode
from chainfire.node.records import RecordCache
from chainfire.raft.messages import Message, MessageType
from chainfire.sim.cables import Cables, Packet
from chainfire.sim.history import Violation
from chainfire.types import Entry

PAIR = (1, 2)
FRAMES = (
    Forward([b"one", b"two"]),
    Message(MessageType.APPEND, 2, 1, 3, 3, 6, (Entry(3, 7, data=b"x"),), commit=6),
    Chain(7, 1 << 60),
    Clock(3, 1 << 40),
)


def test_what_is_whole_arrives_as_it_was_said() -> None:
    cables = cables_of(1)
    packet = packed(cables, FRAMES)
    assert len(cables.unpack(PAIR, packet, RecordCache())) == len(FRAMES)
    assert not cables.counts


def test_a_flipped_bit_closes_the_connection_and_says_nothing() -> None:
    data = bytes_of(FRAMES)
    for at in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[at // 8] ^= 1 << at % 8
        cables = cables_of(1)
        packet = Packet(0, bytes(flipped), FRAMES, is_flipped=True)
        assert len(cables.unpack(PAIR, packet, RecordCache())) < len(FRAMES)
        assert cables.counts["connections closed"] == 1


def test_of_a_cut_write_whole_frames_count() -> None:
    first = len(encode(FRAMES[0], RecordCache()))
    data = bytes_of(FRAMES)
    for cut, frames in ((0, 0), (first - 1, 0), (first, 1), (first + 9, 1)):
        packet = Packet(0, data[:cut], FRAMES, is_cut=True)
        assert len(cables_of(1).unpack(PAIR, packet, RecordCache())) == frames


def test_what_was_under_way_behind_it_is_lost() -> None:
    cables = cables_of(1)
    cables.garble(PAIR, 1)
    garbled, behind = (packed(cables, FRAMES) for _ in range(2))
    cables.unpack(PAIR, garbled, RecordCache())
    assert not cables.unpack(PAIR, behind, RecordCache())
    again = packed(cables, FRAMES)
    assert len(cables.unpack(PAIR, again, RecordCache())) == len(FRAMES)
    assert cables.counts == {"writes garbled": 1, "connections closed": 1}


def test_where_no_bytes_are_asked_for_only_what_is_garbled_is_made_of_them() -> None:
    cables = Cables(Random(1), carries_bytes=False)
    assert cables.pack(PAIR, FRAMES, RecordCache()) is FRAMES
    cables.garble(PAIR, 1)
    garbled = packed(cables, FRAMES)
    assert garbled.data is not None
    behind = packed(cables, FRAMES)
    assert len(cables.unpack(PAIR, garbled, RecordCache())) < len(FRAMES)
    assert behind.data is None
    assert not cables.unpack(PAIR, behind, RecordCache())
    assert cables.unpack(PAIR, packed(cables, FRAMES), RecordCache()) is FRAMES


def test_a_flip_that_is_understood_is_a_violation() -> None:
    data = bytes_of(FRAMES)
    with pytest.raises(Violation, match="a bit was flipped"):
        cables_of(1).unpack(PAIR, Packet(0, data, FRAMES, is_flipped=True), RecordCache())


def test_a_frame_that_becomes_another_is_a_violation() -> None:
    packet = packed(cables_of(1), FRAMES[:1])
    with pytest.raises(Violation, match="has become"):
        cables_of(1).unpack(PAIR, packet._replace(said=FRAMES[1:2]), RecordCache())


def packed(cables: Cables, frames: Sequence[Frame]) -> Packet:
    packet = cables.pack(PAIR, frames, RecordCache())
    assert isinstance(packet, Packet)
    return packet


def bytes_of(frames: Sequence[Frame]) -> bytes:
    data = packed(cables_of(1), frames).data
    assert data is not None
    return data


def cables_of(seed: int) -> Cables:
    return Cables(Random(seed), carries_bytes=True)
