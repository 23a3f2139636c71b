"""What requests cost and when alarms clear: tables."""

from __future__ import annotations

import pytest

from chainfire import quota
from chainfire.proto.kv_pb2 import DeleteRangeRequest, PutRequest, RequestOp, TxnRequest

PUT = PutRequest(key=b"12345", value=b"1234567890")  # 256 + 15
NESTED = RequestOp(request_txn=TxnRequest(failure=[RequestOp(request_put=PUT)]))


@pytest.mark.parametrize(
    ("request_", "cost"),
    [
        (PUT, 271),
        (DeleteRangeRequest(key=b"a"), 0),
        (TxnRequest(), 0),
        (TxnRequest(success=[RequestOp(request_put=PUT)] * 2), 542),
        (
            TxnRequest(success=[NESTED], failure=[RequestOp(request_put=PUT), NESTED]),
            542,
        ),
        (
            TxnRequest(success=[RequestOp(request_delete_range=DeleteRangeRequest(key=b"a"))]),
            0,
        ),
    ],
)
def test_a_request_costs_its_puts_a_txn_its_dearer_branch(request_: object, cost: int) -> None:
    assert quota.cost(request_) == cost
    if isinstance(request_, TxnRequest):
        assert quota.has_put(request_) == (cost > 0)


@pytest.mark.parametrize(
    ("flag", "bytes_"),
    [(0, 2 * 1024**3), (-1, -1), (1, 1), (16 * 1024**3, 16 * 1024**3)],
)
def test_zero_is_the_default_quota(flag: int, bytes_: int) -> None:
    assert quota.quota_bytes(flag) == bytes_


@pytest.mark.parametrize(
    ("usage", "cost", "limit", "refused"),
    [
        (0, 99, 100, False),
        (0, 100, 100, True),  # etcd: available while size + cost < quota
        (500, 0, 100, False),
        (500, 10, -1, False),
    ],
)
def test_a_request_is_refused_when_it_would_reach_the_quota(
    usage: int, cost: int, limit: int, refused: bool
) -> None:
    assert quota.exceeds(usage, cost, limit) == refused


@pytest.mark.parametrize(
    ("usage", "limit", "clear"), [(80, 100, True), (81, 100, False), (500, -1, True)]
)
def test_an_alarm_clears_well_below_the_quota(usage: int, limit: int, clear: bool) -> None:
    assert quota.should_clear(usage, limit) == clear
