"""Requests recognised by their bytes are what protobuf reads in them."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from chainfire.api import plain
from chainfire.proto.kv_pb2 import SERIALIZABLE, PutRequest, RangeRequest

keys = st.binary(min_size=1, max_size=127)
values = st.binary(max_size=300) | st.integers(0, 20_000).map(lambda size: b"v" * size)


@given(keys, values)
def test_a_put_of_key_and_value_is_recognised(key: bytes, value: bytes) -> None:
    body = PutRequest(key=key, value=value).SerializeToString()
    assert plain.is_put(body) == (len(value) < 1 << 14)


@given(keys)
def test_a_get_of_a_key_is_recognised(key: bytes) -> None:
    assert plain.get_key(RangeRequest(key=key).SerializeToString()) == key
    serializable = RangeRequest(key=key, serializable=True).SerializeToString()
    assert plain.serializable_get_key(serializable) == key
    ours = RangeRequest(key=key, serializable=True, consistency=SERIALIZABLE).SerializeToString()
    assert plain.serializable_get_key(ours) == key


@given(keys, keys, st.booleans())
def test_a_range_with_nothing_else_is_recognised(
    key: bytes, range_end: bytes, serializable: bool
) -> None:
    request = RangeRequest(key=key, range_end=range_end, serializable=serializable)
    found = plain.range_bounds(request.SerializeToString())
    assert found == (key, range_end, serializable)


@pytest.mark.parametrize(
    "request_",
    [
        PutRequest(),
        PutRequest(value=b"v"),
        PutRequest(key=b"k", lease=1),
        PutRequest(key=b"k", value=b"v", prev_kv=True),
        PutRequest(key=b"k", ignore_value=True),
        PutRequest(key=b"k", value=b"v", ignore_lease=True),
        PutRequest(key=b"k" * 128),
    ],
)
def test_any_other_put_is_not(request_: PutRequest) -> None:
    assert not plain.is_put(request_.SerializeToString())


bodies = st.binary(max_size=12) | st.lists(
    st.sampled_from([b"\x0a", b"\x12", b"\x38", b"\x01", b"\x02", b"\x80", b"\x00", b"a", b"\x10"]),
    max_size=9,
).map(b"".join)


@given(bodies)
@example(b"\x0a\x01k\x12\x80\x00")
@example(b"\x0a\x01k\x12\x81\x00v")
@example(b"\x0a\x01k\x12")
@example(b"\x0a\x03k\x38\x01")
@example(b"\x0a\x01\x38\x01")
@example(b"\x0a\x00\x38\x01")
def test_whatever_is_recognised_protobuf_reads_alike(body: bytes) -> None:
    if plain.is_put(body):
        put = PutRequest.FromString(body)
        assert put == PutRequest(key=put.key, value=put.value)
        assert put.key
    for recognise, serializable in ((plain.get_key, False), (plain.serializable_get_key, True)):
        key = recognise(body)
        if key is not None:
            expected = RangeRequest(key=key, serializable=serializable)
            assert RangeRequest.FromString(body) == expected
    bounds = plain.range_bounds(body)
    if bounds is not None:
        key, range_end, serializable = bounds
        assert key
        assert range_end
        request = RangeRequest.FromString(body)
        request.ClearField("consistency")  # ours says it twice
        assert request == RangeRequest(key=key, range_end=range_end, serializable=serializable)


@given(st.binary(max_size=40))
def test_broken_bytes_are_left_to_protobuf(body: bytes) -> None:
    try:
        PutRequest.FromString(body)
    except DecodeError:
        assert not plain.is_put(body)
