"""RangeStream: the chunks together are the unary answer, at one revision."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainfire.api import kv
from chainfire.errors import EmptyKey, FutureRevision, Malformed, RequestError, Unimplemented
from chainfire.proto.kv_pb2 import PutRequest, RangeRequest, RangeResponse, RangeStreamResponse
from tests.api.fake_node import Api
from tests.api.streams import ProbeStream


def filled(keys: int, **limits: int) -> Api:
    api = Api(**limits)
    for n in range(keys):
        api.do("KV.Put", PutRequest(key=b"k%04d" % n, value=b"v" * 50))
    return api


def chunks(api: Api, request: RangeRequest | bytes) -> list[RangeResponse]:
    body = request if isinstance(request, bytes) else request.SerializeToString()
    stream = ProbeStream([body])
    asyncio.run(kv.range_stream(api.services, stream))
    return [RangeStreamResponse.FromString(body).range_response for body in stream.sent]


API = filled(60, max_request_bytes=2000)


@given(
    st.sampled_from([b"", b"k0010", b"k0055", b"\0", b"z"]),
    st.integers(0, 70),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0, 30, 61]),
)
def test_all_chunks_merged_are_the_unary_answer(
    range_end: bytes, limit: int, keys_only: bool, count_only: bool, revision: int
) -> None:
    request = RangeRequest(
        key=b"k0001",
        range_end=range_end,
        limit=limit,
        keys_only=keys_only,
        count_only=count_only,
        revision=revision,
    )
    merged = RangeResponse()
    for chunk in chunks(API, request):
        merged.MergeFrom(chunk)
    assert merged == API.do("KV.Range", request)


def test_the_first_chunk_has_ten_keys_and_only_the_last_a_header() -> None:
    parts = chunks(API, RangeRequest(key=b"\0", range_end=b"\0"))
    assert len(parts) > 2
    assert len(parts[0].kvs) == 10
    assert [part.HasField("header") for part in parts] == [False] * (len(parts) - 1) + [True]
    assert [part.count for part in parts] == [0] * (len(parts) - 1) + [60]
    assert all(part.ByteSize() <= 2000 for part in parts)


def test_the_revision_is_pinned_while_writes_go_on() -> None:
    api = filled(30)

    class Writing(ProbeStream):
        async def send(self, body: bytes) -> None:
            api.do("KV.Put", PutRequest(key=b"k0029", value=b"new"))
            await super().send(body)

    stream = Writing([RangeRequest(key=b"\0", range_end=b"\0").SerializeToString()])
    asyncio.run(kv.range_stream(api.services, stream))
    last = RangeStreamResponse.FromString(stream.sent[-1]).range_response
    assert last.header.revision == 31
    assert last.kvs[-1].value == b"v" * 50


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (RangeRequest(key=b"a", sort_order=RangeRequest.DESCEND), Unimplemented),
        (RangeRequest(key=b"a", sort_target=RangeRequest.MOD), Unimplemented),
        (RangeRequest(key=b"a", min_mod_revision=1), Unimplemented),
        (RangeRequest(key=b"a", max_create_revision=1), Unimplemented),
        (RangeRequest(), EmptyKey),
        (RangeRequest(key=b"a", range_end=b"z", revision=99), FutureRevision),
        (b"\xff", Malformed),
    ],
)
def test_what_cannot_be_streamed_is_refused(
    request_: RangeRequest | bytes, error: type[RequestError]
) -> None:
    with pytest.raises(error):
        chunks(API, request_)
