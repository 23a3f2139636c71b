"""Joined replies against the same replies built as messages."""

from __future__ import annotations

from collections.abc import Generator
from copy import deepcopy

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chainfire.api import encode
from chainfire.mvcc.read import run
from chainfire.proto.kv_pb2 import (
    DeleteRangeResponse,
    KeyValue,
    PutResponse,
    RangeResponse,
    RangeStreamResponse,
    ResponseHeader,
    ResponseOp,
    TxnResponse,
)
from chainfire.types import DeleteResult, LongRange, OpResult, PutResult, RangeResult, TxnResult

revisions = st.integers(0, 2**63 - 1)
rows = st.builds(
    lambda key, value, rev: KeyValue(key=key, value=value, mod_revision=rev).SerializeToString(),
    st.binary(min_size=1, max_size=20),
    st.binary(max_size=10) | st.just(b"v" * 5000),
    revisions,
)
range_results = st.builds(
    RangeResult, revisions, st.lists(rows, max_size=3), st.booleans(), st.integers(0, 2**40)
)
put_results = st.builds(PutResult, revisions, st.none() | rows)
delete_results = st.builds(
    lambda revision, prevs: DeleteResult(revision, len(prevs), prevs),
    revisions,
    st.lists(rows, max_size=3),
)
op_results = st.recursive(
    range_results | put_results | delete_results,
    lambda inner: st.builds(TxnResult, revisions, st.booleans(), st.lists(inner, max_size=3)),
    max_leaves=6,
)


def as_message(
    result: OpResult, header: ResponseHeader
) -> RangeResponse | PutResponse | DeleteRangeResponse | TxnResponse:
    """The slow, obvious way."""
    if isinstance(result, RangeResult):
        kvs = [KeyValue.FromString(row) for row in result.rows]
        return RangeResponse(header=header, kvs=kvs, more=result.more, count=result.count)
    if isinstance(result, PutResult):
        prev = None if result.prev is None else KeyValue.FromString(result.prev)
        return PutResponse(header=header, prev_kv=prev)
    if isinstance(result, DeleteResult):
        prevs = [KeyValue.FromString(row) for row in result.prevs]
        return DeleteRangeResponse(header=header, deleted=result.deleted, prev_kvs=prevs)
    reply = TxnResponse(header=header, succeeded=result.succeeded)
    for inner in result.results:
        nested = isinstance(inner, TxnResult)
        message = as_message(inner, ResponseHeader(revision=0 if nested else inner.revision))
        field = {
            RangeResponse: "response_range",
            PutResponse: "response_put",
            DeleteRangeResponse: "response_delete_range",
            TxnResponse: "response_txn",
        }[type(message)]
        reply.responses.append(ResponseOp(**{field: message}))  # type: ignore[arg-type]
    return reply


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), revisions, revisions)
def test_a_header_is_what_protobuf_writes(cluster: int, member: int, rev: int, term: int) -> None:
    headers = encode.Headers(cluster, member)
    header = ResponseHeader(cluster_id=cluster, member_id=member, revision=rev, raft_term=term)
    expected = PutResponse(header=header).SerializeToString()
    assert headers.field(rev, term) == expected
    assert headers.field(rev, term) == expected  # the kept one


def test_another_revision_or_term_makes_another_header() -> None:
    headers = encode.Headers(1, 2)
    made = {headers.field(5, 1), headers.field(6, 1), headers.field(6, 2), headers.field(5, 1)}
    assert len(made) == 3


@given(op_results)
@example(TxnResult(0, False, [PutResult(0, None)]))
def test_a_reply_is_what_protobuf_writes(result: OpResult) -> None:
    header = ResponseHeader(cluster_id=7, member_id=8, revision=result.revision, raft_term=3)
    field = encode.Headers(7, 8).field(result.revision, 3)
    if isinstance(result, RangeResult):
        made = encode.range_reply(field, result)
    elif isinstance(result, PutResult):
        made = encode.put_reply(field, result)
    elif isinstance(result, DeleteResult):
        made = encode.delete_reply(field, result)
    else:
        made = encode.txn_reply(field, result)
    assert made == as_message(result, header).SerializeToString()


@given(st.none() | rows)
def test_one_row_reply_is_a_range_reply(row: bytes | None) -> None:
    found = () if row is None else (row,)
    assert encode.one_row_reply(b"\x0a\x00", row) == encode.range_reply(
        b"\x0a\x00", RangeResult(0, found, False, len(found))
    )


@given(range_results)
def test_a_stream_chunk_holds_the_reply(result: RangeResult) -> None:
    inner = encode.range_reply(b"", result)
    chunk = RangeStreamResponse.FromString(encode.range_stream_reply(inner))
    assert chunk.range_response == RangeResponse.FromString(inner)


@pytest.mark.parametrize("count", [0, 1000, 1001, 3500])
def test_a_range_reply_in_slices_is_the_same_reply(count: int) -> None:
    row = KeyValue(key=b"k", value=b"v", version=1).SerializeToString()
    result = RangeResult(7, [row] * count, more=True, count=count)
    expected = encode.range_reply(b"\x0a\x00", result)
    steps = encode.range_reply_steps(b"\x0a\x00", deepcopy(result))
    assert run(steps) == expected
    slices = sum(1 for _ in encode.range_reply_steps(b"", result))
    assert slices == (0 if count <= 1000 else -(-count // 1000))


@given(range_results, st.lists(st.integers(0, 5)))
def test_a_poured_reply_is_the_same_reply(result: RangeResult, parts: list[int]) -> None:
    header, rest = b"\x0a\x02\x18\x07", list(result.rows)
    expected = encode.range_reply(header, result)
    reply = encode.PouredReply(header)
    for size in parts:
        reply.pour(rest[:size])
        del rest[:size]
    result.rows = rest
    assert run(reply.end_steps(result)) == expected


@pytest.mark.parametrize("size", [100, 700_000])
def test_a_slice_of_a_reply_is_bounded_in_bytes_too(size: int) -> None:
    row = KeyValue(key=b"k", value=bytes(size), version=1).SerializeToString()
    result = RangeResult(7, [row] * 6, more=False, count=6)
    expected = encode.range_reply(b"", deepcopy(result))
    steps = encode.range_reply_steps(b"", deepcopy(result))
    assert run(steps) == expected
    assert sum(1 for _ in encode.range_reply_steps(b"", result)) == (0 if size == 100 else 3)


@pytest.mark.parametrize("count", [3, 2500])
def test_a_transactions_reply_in_slices_is_the_same_reply(count: int) -> None:
    row = KeyValue(key=b"k", value=bytes(1000), version=1).SerializeToString()
    many = RangeResult(7, [row] * count, more=False, count=count)
    few = RangeResult(7, [row], more=False, count=1)
    gone = DeleteResult(7, count, [row] * count)
    inner = TxnResult(7, False, [PutResult(7), deepcopy(gone), few])
    result = TxnResult(7, True, [few, PutResult(7), many, inner, gone, few])
    expected = encode.txn_reply(b"\x0a\x00", result)
    assert encode.is_short(result) is (count == 3)
    assert run(encode.txn_reply_steps(b"\x0a\x00", result)) == expected


@pytest.mark.parametrize("count", [0, 1000, 2500])
def test_a_deletes_reply_in_slices_is_the_same_reply(count: int) -> None:
    row = KeyValue(key=b"k", value=b"v", version=1).SerializeToString()
    result = DeleteResult(7, count, [row] * count)
    expected = encode.delete_reply(b"\x0a\x00", result)
    assert run(encode.delete_reply_steps(b"\x0a\x00", deepcopy(result))) == expected
    slices = sum(1 for _ in encode.delete_reply_steps(b"", result))
    assert slices == (0 if count <= 1000 else -(-count // 1000))


def test_a_long_range_of_a_transaction_is_read_as_it_is_answered() -> None:
    row = KeyValue(key=b"k", value=b"v", version=1).SerializeToString()
    found = RangeResult(7, [row] * 2500, more=True, count=9000)

    def read() -> Generator[None, None, RangeResult]:
        yield
        return deepcopy(found)

    inner = TxnResult(7, False, [LongRange(7, read)])
    expected = encode.txn_reply(b"", TxnResult(7, True, [TxnResult(7, False, [found]), found]))
    result = TxnResult(7, True, [inner, LongRange(7, read)])
    assert not encode.is_short(result)
    assert run(encode.txn_reply_steps(b"", result)) == expected
