"""The words of a snapshot transfer: golden bytes, and what broken ones lead to."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainfire.node import transfer
from chainfire.node.frames import BadFrame
from chainfire.node.transfer import Chunk, File, FileEnd, Offer, Outcome, Part
from chainfire.raft.messages import Message, MessageType, Snapshot
from chainfire.types import ConfState

MESSAGE = Message(
    MessageType.SNAPSHOT, to=2, sender=1, term=3, snapshot=Snapshot(9, 8, ConfState((1,)))
)
OFFER = Offer(MESSAGE, [File("000012.sst", 5), File("CURRENT", 2**40)])


def golden(text: str) -> bytes:
    return bytes.fromhex(text)


def test_offer_is_pinned() -> None:
    body = transfer.encode_offer(OFFER)
    assert body[:5] == golden("50 0000007c")
    assert body[5:7] == golden("05 00")
    assert body[5 + 0x7C :] == golden(
        "00000002000a 3030303031322e737374 00000000000000050007 43555252454e54 0000010000000000"
    )
    assert transfer.decode_offer(body) == OFFER


def test_the_rest_is_pinned() -> None:
    have = golden("51 00000001 00000007 0000000000000008 0000000000000009")
    assert transfer.encode_have([Part(7, 8, 9)]) == have
    assert transfer.decode_have(have) == [Part(7, 8, 9)]
    chunk = golden("52 00000001 0000000000000002 6162")
    assert transfer.encode_chunk(Chunk(1, 2, b"ab")) == chunk
    assert transfer.decode_content(chunk) == Chunk(1, 2, b"ab")
    end = golden("53 00000001 0000000000000002 0000000000000003")
    assert transfer.encode_file_end(FileEnd(1, 2, 3)) == end
    assert transfer.decode_content(end) == FileEnd(1, 2, 3)
    outcome = golden("54 00 6e6f")
    assert transfer.encode_outcome(Outcome(arrived=False, text="no")) == outcome
    assert transfer.decode_outcome(outcome) == Outcome(arrived=False, text="no")


@pytest.mark.parametrize("name", ["../CURRENT", "a/b", "", ".hidden", "x" * 101, "a\0b", "/etc"])
def test_a_file_name_that_leads_elsewhere_is_a_bad_frame(name: str) -> None:
    body = transfer.encode_offer(replace(OFFER, files=[File(name, 1)]))
    with pytest.raises(BadFrame):
        transfer.decode_offer(body)


def test_a_file_that_is_named_twice_is_a_bad_frame() -> None:
    body = transfer.encode_offer(replace(OFFER, files=[File("a", 1), File("a", 2)]))
    with pytest.raises(BadFrame, match="twice"):
        transfer.decode_offer(body)


@given(st.integers(80, 84), st.binary(max_size=80), st.integers(0, 200))
def test_any_bytes_are_read_or_refused(kind: int, noise: bytes, cut: int) -> None:
    for body in (bytes([kind]) + noise, transfer.encode_offer(OFFER)[: 1 + cut] + noise):
        for read in (
            transfer.decode_offer,
            transfer.decode_have,
            transfer.decode_content,
            transfer.decode_outcome,
        ):
            with contextlib.suppress(BadFrame):
                read(body)
