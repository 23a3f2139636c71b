"""Log records: golden bytes and every way in which foreign bytes can be wrong."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainfire.errors import Corrupt, UnknownFormat
from chainfire.node import records
from chainfire.types import Entry, EntryType

GOLDEN = bytes.fromhex(
    "01"  # format
    "00000002"  # count
    "0000000000000003 00 00000002 6869"
    "0000000000000004 01 00000000"
)
ENTRIES = [Entry(3, 7, EntryType.NORMAL, b"hi"), Entry(4, 8, EntryType.CONF_CHANGE, b"")]

entries_strategy = st.lists(
    st.tuples(st.integers(0, 2**64 - 1), st.sampled_from(EntryType), st.binary(max_size=40)),
    min_size=1,
    max_size=20,
).map(lambda rows: [Entry(term, 5 + i, type_, data) for i, (term, type_, data) in enumerate(rows)])


def test_record_bytes_are_those_of_the_formats_page() -> None:
    assert records.encode(ENTRIES) == GOLDEN
    assert records.decode(7, GOLDEN) == ENTRIES


@given(entries_strategy)
def test_decode_inverts_encode(entries: list[Entry]) -> None:
    assert records.decode(5, records.encode(entries)) == entries


def test_another_format_number_is_refused() -> None:
    with pytest.raises(UnknownFormat, match="format 02"):
        records.decode(7, b"\x02" + GOLDEN[1:])


@given(st.integers(1, len(GOLDEN) - 1))
def test_a_cut_record_is_corrupt(keep: int) -> None:
    with pytest.raises(Corrupt):
        records.decode(7, GOLDEN[:keep])


@given(st.binary(max_size=200))
def test_foreign_bytes_never_raise_anything_else(data: bytes) -> None:
    with contextlib.suppress(Corrupt, UnknownFormat):
        records.decode(1, b"\x01" + data)


def test_trailing_bytes_are_corrupt() -> None:
    with pytest.raises(Corrupt):
        records.decode(7, GOLDEN + b"x")
