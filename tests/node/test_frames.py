"""Frames between members: golden bytes of docs/formats.md, and what broken bytes lead to."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainfire.node import frames, records
from chainfire.node.frames import (
    BadFrame,
    Chain,
    Change,
    Clock,
    Forward,
    Frame,
    Refused,
    Report,
    Splitter,
)
from chainfire.node.records import RecordCache
from chainfire.raft.messages import Message, MessageType, Snapshot
from chainfire.types import ConfState, Entry, EntryType

LIMIT = 1 << 20


def golden(text: str) -> bytes:
    """Hexadecimal with spaces between fields."""
    return bytes.fromhex(text)


def body_of(frame: Frame) -> bytes:
    return frames.encode(frame, RecordCache())[frames.HEAD_BYTES :]


def through(*sent: Frame) -> list[Frame]:
    stream = b"".join(frames.encode(frame, RecordCache()) for frame in sent)
    return [frames.decode(body, RecordCache()) for body in Splitter(LIMIT).feed(stream)]


APPEND = Message(
    MessageType.APPEND,
    to=2,
    sender=1,
    term=3,
    log_term=4,
    index=5,
    entries=[Entry(6, 6, EntryType.NORMAL, b"ab"), Entry(6, 7, EntryType.CONF_CHANGE, b"")],
    commit=7,
)
APPEND_BODY = golden(
    "01 00"
    "0000000000000002 0000000000000001 0000000000000003 0000000000000004"
    "0000000000000005 0000000000000007 0000000000000000"
    "0000000000000000 0000000000000000"
    "00000000"
    "00000021"
    "01 00000002"
    "0000000000000006 00 00000002 6162"
    "0000000000000006 01 00000000"
)


def test_a_quiet_append_is_pinned() -> None:
    quiet = Message(MessageType.APPEND, 2, 1, term=3, entries=[], commit=7, quiet=True)
    assert body_of(quiet)[:2] == golden("01 02")
    assert through(quiet) == [quiet]


def test_append_is_pinned() -> None:
    assert body_of(APPEND) == APPEND_BODY
    assert through(APPEND) == [APPEND]


def test_reply_is_pinned() -> None:
    reply = Message(
        MessageType.VOTE_REPLY,
        to=1,
        sender=2,
        term=3,
        reject=True,
        reject_hint=4,
        context=b"xy",
        settled=(5, 6),
    )
    assert body_of(reply) == golden(
        "0a 01"
        "0000000000000001 0000000000000002 0000000000000003 0000000000000000"
        "0000000000000000 0000000000000000 0000000000000004"
        "0000000000000005 0000000000000006"
        "00000002 7879"
    )
    assert through(reply) == [reply]


def test_snapshot_is_pinned() -> None:
    snapshot = Snapshot(9, 8, ConfState((1,)), b"z")
    message = Message(MessageType.SNAPSHOT, to=2, sender=1, term=3, snapshot=snapshot)
    assert body_of(message) == golden(
        "05 00"
        "0000000000000002 0000000000000001 0000000000000003 0000000000000000"
        "0000000000000000 0000000000000000 0000000000000000"
        "0000000000000000 0000000000000000"
        "00000000"
        "0000000000000009 0000000000000008 0000001a"
        "01 00000001 0000000000000001 00000000 00000000 00000000 00"
        "7a"
    )
    assert through(message) == [message]


@pytest.mark.parametrize(
    ("frame", "body"),
    [
        (Forward([b"abc", b""]), "20 00000002 00000003 00000000 616263"),
        (Refused(1, (2, 3), 14), "21 0000000000000001 0000000e 00000002"
         "0000000000000002 0000000000000003"),
        (Chain(1, 2**64 - 1), "22 0000000000000001 ffffffffffffffff"),
        (Change(b"\x01\x00"), "23 0100"),
        (Clock(2, 3000), "25 0000000000000002 0000000000000bb8"),
        (
            Report(term=1, leader=2, commit_index=3, applied_index=4, revision=5, in_use_bytes=6,
                   version="3.7", matches=((7, 8),)),
            "24 0000000000000001 0000000000000002 0000000000000003 0000000000000004"
            "0000000000000005 0000000000000006 03 00000001 332e37"
            "0000000000000007 0000000000000008",
        ),
    ],
)  # fmt: skip
def test_other_frames_are_pinned(frame: Frame, body: str) -> None:
    assert body_of(frame) == golden(body)
    assert through(frame) == [frame]


def test_length_and_checksum_are_pinned() -> None:
    assert frames.encode(Chain(1, 2), RecordCache())[: frames.HEAD_BYTES] == golden(
        "00000011 a1ce546d"
    )


def test_a_large_forward_travels_in_several_frames() -> None:
    commands = [bytes([number]) * 400_000 for number in range(7)]
    arrived = through(Forward(commands))
    assert len(arrived) > 1
    assert [c for frame in arrived for c in frame.commands] == commands  # type: ignore[union-attr]


def test_entries_are_encoded_once_for_the_log_and_every_follower() -> None:
    cache = RecordCache()
    (record,) = cache.encode(APPEND.entries)
    again = Message(MessageType.APPEND, 3, 1, index=5, entries=list(APPEND.entries))
    assert cache.encode(again.entries)[0] is record
    assert record in frames.encode(again, cache)


def test_a_follower_stores_the_bytes_that_came() -> None:
    cache = RecordCache()
    (body,) = Splitter(LIMIT).feed(frames.encode(APPEND, RecordCache()))
    message = frames.decode(body, cache)
    assert isinstance(message, Message)
    held = cache._held[6].record
    assert cache.encode(message.entries)[0] is held
    assert held == records.encode(APPEND.entries)


# ── broken bytes ────────────────────────────────────────────────────────────


@given(cuts=st.lists(st.integers(0, 400), max_size=6))
def test_frames_come_out_whole_wherever_the_stream_is_cut(cuts: list[int]) -> None:
    sent = [Chain(1, 2), APPEND, Forward([b"x" * 100]), Chain(3, 4)]
    stream = b"".join(frames.encode(frame, RecordCache()) for frame in sent)
    splitter, bodies = Splitter(LIMIT), []
    bounds = [0, *sorted(cut % len(stream) for cut in cuts), len(stream)]
    for start, end in itertools.pairwise(bounds):
        bodies += splitter.feed(stream[start:end])
    assert [frames.decode(body, RecordCache()) for body in bodies] == sent


@given(at=st.integers(0, 2**16), bit=st.integers(0, 7))
def test_a_flipped_bit_is_a_bad_frame(at: int, bit: int) -> None:
    stream = bytearray(frames.encode(APPEND, RecordCache()))
    stream[at % len(stream)] ^= 1 << bit
    splitter = Splitter(LIMIT)
    try:
        bodies = splitter.feed(bytes(stream))
    except BadFrame:
        return
    assert bodies == []  # a greater length: it waits for what never comes


@given(st.binary(min_size=1, max_size=200))
def test_any_bytes_are_a_frame_or_a_bad_frame(noise: bytes) -> None:
    decode_or_refuse(noise)


@given(
    kind=st.sampled_from([1, 2, 5, 9, 32, 33, 34]),
    cut=st.integers(1, 200),
    noise=st.binary(max_size=30),
)
def test_a_mangled_body_is_a_frame_or_a_bad_frame(kind: int, cut: int, noise: bytes) -> None:
    decode_or_refuse(bytes([kind]) + APPEND_BODY[1:cut] + noise)


def decode_or_refuse(body: bytes) -> None:
    with contextlib.suppress(BadFrame):
        frames.decode(body, RecordCache())


@pytest.mark.parametrize("body", ["0b", "0f", "12", "00", "ff", "40"])
def test_kinds_that_do_not_travel_are_bad_frames(body: str) -> None:
    with pytest.raises(BadFrame, match="unknown kind"):
        frames.decode(golden(body), RecordCache())


def test_a_frame_over_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(BadFrame, match="allowed are 1 to 100"):
        Splitter(100).feed(golden("00000065 00000000"))


def test_an_http_request_is_a_bad_frame() -> None:
    with pytest.raises(BadFrame):
        Splitter(LIMIT).feed(b"GET / HTTP/1.1\r\n\r\n")


def entries_of(*parts: tuple[int, int]) -> list[Sequence[Entry]]:
    return [[Entry(1, index, data=b"x") for index in range(low, high)] for low, high in parts]


def test_the_cache_joins_neighbouring_records_and_encodes_the_rest() -> None:
    cache = RecordCache()
    first, second, third = entries_of((1, 4), (4, 6), (6, 9))
    known = cache.encode(first) + cache.encode(second)
    found = cache.encode([*first, *second, *third])
    assert [found[0], found[1]] == known
    assert records.decode(6, found[2]) == list(third)


def test_the_cache_knows_entries_by_identity() -> None:
    cache = RecordCache()
    (old,) = cache.encode([Entry(1, 1, data=b"a"), Entry(1, 2, data=b"b")])
    (new,) = cache.encode([Entry(2, 1, data=b"c"), Entry(2, 2, data=b"d")])
    assert new != old
    assert records.decode(1, new)[0].data == b"c"


def test_the_cache_is_bounded() -> None:
    cache = RecordCache(bytes_max=1000)
    for index in range(1, 50):
        cache.encode([Entry(1, index, data=bytes(300))])
    assert cache._bytes <= 1000
    assert list(cache._held) == [47, 48, 49]
