"""Chainfire answers like a real etcd: the short run. The long one is `make differential`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chainfire.proto import kv_pb2
from chainfire.proto.maintenance_pb2 import HashKVRequest, HashKVResponse
from tests import peers, report
from tests.compat.differential.__main__ import repro
from tests.compat.differential.calls import Answer, Request
from tests.compat.differential.canon import COMPACTED, canonical, same
from tests.compat.differential.run import find_difference
from tests.compat.differential.shrink import PAD, minimize, smaller_messages
from tests.servers import etcd


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("minor", "requests", "members"), [("3.5", 10_000, 0), ("3.4", 2_000, 0), ("3.5", 500, 3)]
)
def test_every_answer_is_the_peers(minor: str, requests: int, members: int) -> None:
    peer, ours = peers.need_kind(etcd(minor), f"etcd {minor}"), peers.need_chainfire()
    kinds = (peer, replace(ours, members=members) if members else ours)
    difference, totals = find_difference(kinds, seed=20_250_101, count=requests)
    if difference is not None:
        pytest.fail(difference.text() + "\n" + repro(kinds, difference, 60.0))
    assert totals.requests == requests
    assert totals.errors > requests // 20, "the generator must also hit errors"
    report.count(f"differential requests against {peer.name}", requests)


def _range_answer(*rows: tuple[bytes, int]) -> Answer:
    kvs = [kv_pb2.KeyValue(key=key, version=version) for key, version in rows]
    return Answer(0, "", kv_pb2.RangeResponse(kvs=kvs, count=9).SerializeToString())


def test_order_of_equals_is_excused_and_order_of_unequals_is_not() -> None:
    by_version = Request(
        "Range",
        kv_pb2.RangeRequest(
            key=b"a", sort_order="ASCEND", sort_target="VERSION"
        ).SerializeToString(),
    )
    one = canonical(by_version, _range_answer((b"a", 1), (b"b", 1), (b"c", 2)), (3, 5))
    assert one == canonical(by_version, _range_answer((b"b", 1), (b"a", 1), (b"c", 2)), (3, 5))
    assert one != canonical(by_version, _range_answer((b"a", 1), (b"c", 2), (b"b", 1)), (3, 5))


def test_error_texts_are_compared_to_the_letter() -> None:
    request = Request("Put", b"")
    right, wrong = (Answer(3, f"etcdserver: {t}", b"") for t in ("key is not provided", "no key"))
    assert canonical(request, right, (3, 5)) != canonical(request, wrong, (3, 5))


def test_minimize_keeps_exactly_what_is_needed() -> None:
    history = [Request("Put", bytes([i])) for i in range(100)]
    needed = {17, 63}

    def shows(candidate: list[Request]) -> list[Request] | None:
        return candidate if needed <= {r.body[0] for r in candidate} else None

    smallest = minimize(history, shows, lambda: False)
    assert [r.body[0] for r in smallest] == [17, 63, 99]  # the last one is what differed


def test_minimize_can_put_pads_where_writes_were() -> None:
    history = [Request("Put", bytes([i])) for i in range(50)]

    def shows(candidate: list[Request]) -> list[Request] | None:
        right = len(candidate) == 50 and candidate[7].body[0] == 7
        return candidate if right else None

    smallest = minimize(history, shows, lambda: False, {r: [PAD] for r in history})
    assert [i for i, r in enumerate(smallest) if r != PAD] == [7, 49]


def test_hash_at_the_compacted_revision_is_excused_for_old_peers_only() -> None:
    request = Request("HashKV", HashKVRequest(revision=5).SerializeToString())
    refused = Answer(11, COMPACTED, b"")
    given = Answer(0, "", HashKVResponse(compact_revision=5).SerializeToString())
    assert same(request, refused, given, (3, 5, 1))
    assert not same(request, refused, given, (3, 6))
    elsewhere = Answer(0, "", HashKVResponse(compact_revision=4).SerializeToString())
    assert not same(request, refused, elsewhere, (3, 5, 1))


def test_smaller_messages_drop_one_thing_each() -> None:
    put = kv_pb2.RequestOp(request_put=kv_pb2.PutRequest(key=b"k", value=b"v"))
    smaller = [str(m) for m in smaller_messages(kv_pb2.TxnRequest(success=[put]))]
    assert smaller[0] == ""
    assert len(smaller) == 4  # the op; its put; the put's key; the put's value
