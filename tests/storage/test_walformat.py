"""The bytes of a log's file, and the rows that it holds in memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainfire.errors import Corrupt, UnknownFormat
from chainfire.storage import walformat
from chainfire.storage.walformat import (
    DELETE,
    DELETE_RANGE,
    HEADER_BYTES,
    MARK,
    PUT,
    RECORD_BYTES,
    Header,
    Row,
    check_record,
    decode_header,
    decode_rows,
    encode_header,
    encode_record,
    encode_row,
)
from chainfire.storage.walrows import Rows

HEADER = Header(number=3, previous=2, previous_end=4000, oldest=1, salt=0x0102030405060708)
HEADER_HEX = (
    "636861696e666972652d6c6f670a0000"  # the magic
    "00000001"
    "0000000000000003"
    "0000000000000002"
    "0000000000000fa0"
    "0000000000000001"
    "0102030405060708"
)

# ── headers ─────────────────────────────────────────────────────────────────


def test_a_header_is_these_bytes_and_its_crc() -> None:
    data = encode_header(HEADER)
    assert data[:60].hex() == HEADER_HEX
    assert len(data) == HEADER_BYTES
    found = decode_header(data)
    assert found is not None
    assert (found.number, found.previous, found.previous_end, found.oldest, found.salt) == (
        HEADER.number,
        HEADER.previous,
        HEADER.previous_end,
        HEADER.oldest,
        HEADER.salt,
    )


@pytest.mark.parametrize("data", [b"", bytes(10), bytes(HEADER_BYTES), bytes(1000)])
def test_a_file_that_was_never_used_has_no_header(data: bytes) -> None:
    assert decode_header(data) is None


@pytest.mark.parametrize("byte", range(64))
def test_each_byte_of_a_header_counts(byte: int) -> None:
    data = bytearray(encode_header(HEADER))
    data[byte] ^= 0x40
    with pytest.raises(Corrupt):
        decode_header(bytes(data))


def test_a_header_that_is_cut_off_is_corrupt() -> None:
    with pytest.raises(Corrupt, match="cut off"):
        decode_header(encode_header(HEADER)[:40])


@pytest.mark.interpreted
def test_a_header_of_a_newer_format_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walformat, "FORMAT", 2)
    data = encode_header(HEADER)
    monkeypatch.undo()
    with pytest.raises(UnknownFormat, match="format 2, this version knows format 1"):
        decode_header(data)


# ── records ─────────────────────────────────────────────────────────────────


@given(st.lists(st.tuples(st.binary(max_size=20), st.binary(min_size=1, max_size=20)), max_size=5))
def test_records_are_found_one_behind_the_other(payloads: list[tuple[bytes, bytes]]) -> None:
    data, crc = b"", 7
    for head, value in payloads:
        start, crc = encode_record(crc, head, value)
        data += start + head + value
    at, before = 0, 7
    for head, value in payloads:
        found = check_record(before, data, at)
        assert found is not None
        assert data[at + RECORD_BYTES : found[0]] == head + value
        at, before = found
    assert (at, before) == (len(data), crc)
    assert check_record(before, data, at) is None


def test_a_record_does_not_go_on_with_another_chain_nor_when_it_is_cut() -> None:
    start, _ = encode_record(7, b"head", b"value")
    data = start + b"headvalue"
    assert check_record(7, data, 0) is not None
    assert check_record(8, data, 0) is None
    for length in range(len(data)):
        assert check_record(7, data[:length], 0) is None


def test_zeros_are_no_record() -> None:
    assert check_record(0, bytes(1000), 0) is None


# ── rows ────────────────────────────────────────────────────────────────────

ROWS = st.lists(
    st.tuples(
        st.sampled_from([PUT, DELETE, DELETE_RANGE, MARK]),
        st.integers(0, 255),
        st.binary(max_size=10),
        st.binary(max_size=10),
    )
)


@given(ROWS)
def test_rows_are_read_as_they_were_written(rows: list[tuple[int, int, bytes, bytes]]) -> None:
    payload = b"".join(
        encode_row(kind, family, key, value) + value for kind, family, key, value in rows
    )
    found = [
        (row.kind, row.family, row.key, payload[row.start : row.end])
        for row in decode_rows(payload)
    ]
    assert found == rows


def test_a_row_is_these_bytes() -> None:
    payload = encode_row(PUT, 1, b"key", b"value") + b"value"
    assert payload.hex() == "01010003000000056b657976616c7565"
    assert list(decode_rows(payload)) == [Row(PUT, 1, b"key", 11, 16)]


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"\x01\x00\x00", id="cut in its begin"),
        pytest.param(encode_row(PUT, 0, b"k", b"value") + b"valu", id="cut in its value"),
        pytest.param(encode_row(9, 0, b"k", b"") + b"", id="of no known kind"),
    ],
)
def test_what_is_no_row_is_corrupt(payload: bytes) -> None:
    with pytest.raises(Corrupt):
        list(decode_rows(payload))


# ── in memory ───────────────────────────────────────────────────────────────

KEYS = st.binary(max_size=2)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, st.integers()),
        st.tuples(st.just("delete"), KEYS, st.none()),
        st.tuples(st.just("delete_range"), KEYS, KEYS),
    )
)


@given(STEPS, KEYS, st.none() | KEYS)
def test_rows_are_a_sorted_dict(
    steps: list[tuple[str, bytes, object]], lower: bytes, upper: bytes | None
) -> None:
    rows: Rows[int] = Rows()
    table: dict[bytes, int] = {}
    for what, key, argument in steps:
        if isinstance(argument, int):
            assert rows.put(key, argument) == table.get(key)
            table[key] = argument
        elif isinstance(argument, bytes):
            gone = sorted(each for each in table if key <= each < argument)
            assert rows.delete_range(key, argument) == [table.pop(each) for each in gone]
        else:
            assert what == "delete"
            assert rows.delete(key) == table.pop(key, None)
    assert len(rows) == len(table)
    assert rows.items() == sorted(table.items())
    within = [
        (key, row)
        for key, row in sorted(table.items())
        if lower <= key and (upper is None or key < upper)
    ]
    assert rows.items(lower, upper) == within
    assert rows.keys(lower, upper) == [key for key, _ in within]
    assert rows.get(lower) == table.get(lower)
