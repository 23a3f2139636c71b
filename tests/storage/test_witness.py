"""The witness: its bytes, and what it says after every kind of damage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from chainfire.errors import Corrupt, UnknownFormat
from chainfire.storage.witness import SLOT_BYTES, Promise, Witness

PROMISE = Promise(
    cluster_id=0x1111,
    member_id=0x2222,
    incarnation=0x3333,
    start_number=1,
    last_index=0,
    last_term=0,
    term=0,
    vote=0,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "witness"


def test_the_bytes_are_those_of_the_formats_page(path: Path) -> None:
    witness = Witness.create(path, PROMISE)
    witness.note(last_index=0x44, last_term=0x5, term=0x6, vote=0x2222)
    data = path.read_bytes()
    assert len(data) == 8192
    assert data[4096 : 4096 + 80].hex(" ", 8) == (
        "4346573103d0f0c4 0000000000000003 0000000000001111 0000000000002222 0000000000003333 "
        "0000000000000001 0000000000000044 0000000000000005 0000000000000006 0000000000002222"
    )
    assert data[:80].hex(" ", 8) == (
        "4346573136cce1e2 0000000000000002 0000000000001111 0000000000002222 0000000000003333 "
        "0000000000000001 0000000000000000 0000000000000000 0000000000000000 0000000000000000"
    )


def test_open_finds_the_last_note(path: Path) -> None:
    witness = Witness.create(path, PROMISE)
    for index in range(1, 6):
        witness.note(index, 2, 3, 0x2222)
        expected = replace(PROMISE, last_index=index, last_term=2, term=3, vote=0x2222)
        reopened = Witness.open(path)
        assert reopened.promise == witness.promise == expected
        reopened.close()


def test_an_opened_witness_goes_on_where_it_was(path: Path) -> None:
    witness = Witness.create(path, PROMISE)
    witness.note(10, 1, 1, 0)
    witness.close()
    witness = Witness.open(path)
    witness.begin(2)
    witness.note(11, 1, 1, 0)
    witness.lower(7, 1)
    assert Witness.open(path).promise == replace(
        PROMISE, start_number=2, last_index=7, last_term=1, term=1
    )


def test_lowering_never_promises_more_than_before(path: Path) -> None:
    """What will remain of the log may end behind what is durable of it."""
    witness = Witness.create(path, PROMISE)
    witness.note(5, 1, 1, 0)
    witness.lower(7, 1)
    assert Witness.open(path).promise.last_index == 5
    witness.close()


@pytest.mark.parametrize("slot", [0, 1])
@pytest.mark.parametrize("at", [4, 8, 47, 79])
def test_a_torn_slot_leaves_the_other_one(path: Path, slot: int, at: int) -> None:
    witness = Witness.create(path, PROMISE)
    witness.note(1, 1, 1, 0)  # sequence 3, slot 1
    witness.note(2, 1, 1, 0)  # sequence 4, slot 0
    data = bytearray(path.read_bytes())
    start = slot * SLOT_BYTES
    data[start + at : start + 80] = b"\xff" * (80 - at)
    path.write_bytes(data)
    assert Witness.open(path).promise.last_index == (1 if slot == 0 else 2)


def test_any_flipped_bit_of_a_slot_is_noticed(path: Path) -> None:
    witness = Witness.create(path, PROMISE)
    witness.note(1, 1, 1, 0)
    data = path.read_bytes()
    for bit in range(SLOT_BYTES * 8, (SLOT_BYTES + 80) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            found = Witness.open(path)
        except UnknownFormat:
            assert bit // 8 == SLOT_BYTES + 3  # the digit of the format
            continue
        assert found.promise.last_index == 0
        found.close()


@pytest.mark.parametrize("damage", [bytes(8192), b"", b"CFW1", b"\xff" * 8192])
def test_two_bad_slots_are_corrupt(path: Path, damage: bytes) -> None:
    path.write_bytes(damage)
    with pytest.raises(Corrupt, match="neither slot"):
        Witness.open(path)


def test_a_newer_format_is_refused_even_beside_an_old_slot(path: Path) -> None:
    Witness.create(path, PROMISE).close()
    data = bytearray(path.read_bytes())
    data[SLOT_BYTES : SLOT_BYTES + 4] = b"CFW2"
    path.write_bytes(data)
    with pytest.raises(UnknownFormat, match="CFW2"):
        Witness.open(path)


def test_a_missing_file_is_said_to_be_missing(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Witness.open(path)


def test_a_start_number_is_never_taken_back(path: Path) -> None:
    witness = Witness.create(path, PROMISE)
    with pytest.raises(AssertionError):
        witness.begin(1)
