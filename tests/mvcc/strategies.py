"""Requests on few keys, so that they meet."""

from __future__ import annotations

from hypothesis import strategies as st

from chainfire.proto.kv_pb2 import (
    Compare,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
)

KEYS = (b"\0", b"a", b"a\0", b"a\0\0", b"a\0\xff", b"a\x01", b"ab", b"b", b"\xff", b"\xff\xff")

keys = st.sampled_from(KEYS)
range_ends = st.sampled_from((b"", b"\0", b"\0", *KEYS))
some_range_ends = st.sampled_from((b"\0", b"\0", *KEYS))
values = st.sampled_from((b"", b"1", b"2", b"long" * 50))
numbers = st.integers(0, 30)

puts = st.builds(
    PutRequest,
    key=keys,
    value=values,
    lease=st.sampled_from((0, 0, 0, 7, -3, 99)),
    prev_kv=st.booleans(),
    ignore_value=st.sampled_from((False, False, True)),
    ignore_lease=st.sampled_from((False, False, True)),
)
touches = st.builds(PutRequest, key=keys, ignore_value=st.just(True))
plain_puts = st.builds(PutRequest, key=keys, value=values)
deletes = st.builds(
    DeleteRangeRequest,
    key=keys,
    range_end=st.sampled_from((b"", b"", b"", b"\0", *KEYS)),
    prev_kv=st.booleans(),
)
# Less than 0: so many before the newest, and one step in the future; see `aged`.
ages = st.sampled_from((0, 0, 0, 0, -1, -2, -3, -5, -8, -12, 1))
firsts = st.builds(  # in a line
    RangeRequest,
    key=st.sampled_from((b"\0", b"a", b"ab")),
    range_end=st.sampled_from((b"\0", b"b")),
    limit=st.sampled_from((1, 1, 2, 5, 9)),
    revision=st.one_of(st.just(0), st.just(0), ages),
    sort_order=st.sampled_from((RangeRequest.ASCEND, RangeRequest.DESCEND)),
    sort_target=st.just(RangeRequest.CREATE),
    keys_only=st.booleans(),
    count_only=st.sampled_from((False, False, False, True)),
    max_mod_revision=st.sampled_from((0, 0, 0, 3, 6)),
    min_create_revision=st.sampled_from((0, 0, 0, 3, 7, -1)),
    max_create_revision=st.sampled_from((0, 0, 3, 6, 12, 20, -1)),
)
any_ranges = st.builds(
    RangeRequest,
    key=keys,
    range_end=range_ends,
    limit=st.integers(-1, 5),
    revision=ages,
    sort_order=st.sampled_from(RangeRequest.SortOrder.values()),
    sort_target=st.sampled_from(RangeRequest.SortTarget.values()),
    keys_only=st.booleans(),
    count_only=st.sampled_from((False, False, True)),
    min_mod_revision=st.sampled_from((0, 0, 0, 3, 7)),
    max_mod_revision=st.sampled_from((0, 0, 0, 6, 12)),
    min_create_revision=st.sampled_from((0, 0, 0, 3, 7)),
    max_create_revision=st.sampled_from((0, 0, 0, 6, 12)),
)
ranges = st.one_of(any_ranges, any_ranges, any_ranges, firsts)
paged_ranges = st.builds(
    RangeRequest,
    key=keys,
    range_end=some_range_ends,
    limit=st.integers(1, 3),
    revision=ages,
    sort_order=st.sampled_from((RangeRequest.NONE, RangeRequest.DESCEND)),
)
plain_ranges = st.builds(
    RangeRequest,
    key=keys,
    range_end=range_ends,
    limit=st.integers(0, 4),
    revision=st.sampled_from((0, 0, 0, 0, 0, 0, 2, 8, 15, -1, -9)),
)


@st.composite
def compares(draw: st.DrawFn) -> Compare:
    compare = Compare(
        result=draw(st.sampled_from(Compare.CompareResult.values())),
        target=draw(st.sampled_from(Compare.CompareTarget.values())),
        key=draw(keys),
        range_end=draw(range_ends),
    )
    match draw(
        st.sampled_from(("version", "create_revision", "mod_revision", "value", "lease", ""))
    ):
        case "value":
            compare.value = draw(values)
        case "":
            pass
        case name:
            setattr(compare, name, draw(numbers))
    return compare


def _ops(nested: st.SearchStrategy[TxnRequest]) -> st.SearchStrategy[RequestOp]:
    return st.one_of(
        st.builds(RequestOp, request_put=puts),
        st.builds(RequestOp, request_put=st.one_of(plain_puts, touches)),
        st.builds(RequestOp, request_delete_range=deletes),
        st.builds(RequestOp, request_range=st.one_of(plain_ranges, ranges)),
        st.builds(RequestOp, request_txn=nested),
    )


def _txns(nested: st.SearchStrategy[TxnRequest]) -> st.SearchStrategy[TxnRequest]:
    ops = st.lists(_ops(nested), max_size=4)
    return st.builds(TxnRequest, compare=st.lists(compares(), max_size=2), success=ops, failure=ops)


reading_txns = st.builds(  # whose ranges are to be `aged`
    TxnRequest,
    success=st.lists(
        st.one_of(
            st.builds(RequestOp, request_put=plain_puts),
            st.builds(RequestOp, request_delete_range=deletes),
            st.builds(RequestOp, request_range=ranges),
            st.builds(RequestOp, request_range=paged_ranges),
        ),
        min_size=2,
        max_size=5,
        unique_by=lambda op: op.request_put.key or op.request_delete_range.key or id(op),
    ),
)

txns = st.recursive(st.just(TxnRequest()), _txns, max_leaves=3)


def aged(request: RangeRequest, revision: int) -> RangeRequest:
    """The request with its age turned into a revision, `revision` being the newest."""
    aged = RangeRequest.FromString(request.SerializeToString())
    if request.revision < 0:
        aged.revision = max(revision + request.revision, 1)
    elif request.revision > 0:
        aged.revision = revision + request.revision
    return aged
