"""Random requests over a small set of keys, so that they collide.

Everything comes from one `random.Random`; the store's revision and compacted revision, as the
last chunk left them, are arguments, so that past, compacted and future revisions are all hit.
What would make an old etcd crash, or what its protobuf library decides, is never generated
(known.py lists it).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from chainfire.proto import cluster_pb2, kv_pb2, lease_pb2, maintenance_pb2
from tests.compat.differential.calls import Request

INT64_MAX = 2**63 - 1
INT64_MIN = -(2**63)

KEYS = (
    b"\x00", b"\x00\x00", b"\x00\x01", b"\x01", b"a", b"a\x00", b"a\x00\x00", b"a\x00b", b"a\x01",
    b"aa", b"ab", b"a\xff", b"a\xff\xff", b"b", b"b/1", b"b/2", b"b/3", b"c", b"\xfe\xff", b"\xff",
    b"\xff\xff", "clé".encode(),
)  # fmt: skip
VALUES = (b"", b"1", b"2", b"10", b"\x00", b"value", b"\xff" * 9)
LEASES = (1, -1, 7777, INT64_MAX, INT64_MIN)
# Long enough to outlive a run: when exactly a lease ends is nobody's promise.
TTLS = (100_000, 200_000, 1_000_000, 9_000_000_000, 9_000_000_001, INT64_MAX)
HUGE = 1_700_000  # above --max-request-bytes, below what the transport refuses
TOO_HUGE = 2_200_000  # above what the transport takes


@dataclass(slots=True)
class Point:
    """Where the store stands, about."""

    revision: int = 1
    compacted: int = 0


class Generator:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.at = Point()

    def chunk(self, count: int, at: Point) -> list[Request]:
        self.at = at
        return [self.request() for _ in range(count)]

    def request(self) -> Request:
        make = self.random.choices(_MAKERS, _WEIGHTS)[0]
        return make(self)

    # ── the small choices ──────────────────────────────────────────────────

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def key(self) -> bytes:
        return b"" if self.chance(0.005) else self.random.choice(KEYS)

    def value(self) -> bytes:
        if self.chance(0.01):
            return self.random.randbytes(self.random.choice((300, 5000, 70_000)))
        return self.random.choice(VALUES)

    def span(self) -> tuple[bytes, bytes]:
        """A key and a range_end: one key, a prefix, from a key on, everything, a pair, inverted."""
        key = self.key()
        shape = self.random.randrange(10)
        if shape < 3:
            return key, b""
        if shape < 5:
            return key, _prefix_end(key)
        if shape == 5:
            return key, b"\x00"
        if shape == 6:
            return b"\x00", b"\x00"
        return key, self.random.choice(KEYS)

    def revision(self) -> int:
        at, pick = self.at, self.random.randrange(20)
        if pick < 10:
            return 0
        if pick < 16:
            return self.random.randint(max(at.compacted, 1), max(at.revision, 1))
        if pick == 16:
            return max(at.compacted - self.random.randint(0, 2), 0)
        if pick == 17:
            return at.revision + self.random.randint(0, 300)
        return self.random.choice((-1, -2, 1, 2, INT64_MAX, INT64_MIN, at.compacted))

    def number(self, nearby: int) -> int:
        """A number to compare with: small ones for versions, around `nearby` for revisions."""
        pick = self.random.randrange(8)
        if pick < 4:
            return self.random.randint(0, 4)
        if pick < 7:
            return max(0, nearby - self.random.randint(-3, 40))
        return self.random.choice((-1, INT64_MAX, INT64_MIN, 1000))

    def lease(self) -> int:
        return self.random.choice(LEASES)

    # ── requests ───────────────────────────────────────────────────────────

    def range_message(self) -> Any:
        key, range_end = self.span()
        message = kv_pb2.RangeRequest(key=key, range_end=range_end, revision=self.revision())
        if self.chance(0.4):
            message.limit = self.random.choice((1, 2, 3, 5, 21, 22, 1000, -1, INT64_MAX, INT64_MIN))
        if self.chance(0.35):
            message.sort_order = self.random.randrange(3)
            message.sort_target = self.random.randrange(5)
        message.serializable = self.chance(0.2)
        message.keys_only = self.chance(0.15)
        message.count_only = self.chance(0.15)
        for field in (
            "min_mod_revision",
            "max_mod_revision",
            "min_create_revision",
            "max_create_revision",
        ):
            if self.chance(0.08):
                setattr(message, field, self.number(self.at.revision))
        return message

    def put_message(self) -> Any:
        message = kv_pb2.PutRequest(key=self.key(), value=self.value(), prev_kv=self.chance(0.3))
        if self.chance(0.08):
            message.ignore_value = True
            if self.chance(0.8):
                message.value = b""
        message.ignore_lease = self.chance(0.06)
        if self.chance(0.15):
            message.lease = self.lease()
        return message

    def delete_message(self) -> Any:
        key, range_end = self.span()
        if range_end and self.chance(0.6):  # wide deletes would keep the store empty
            range_end = b""
        return kv_pb2.DeleteRangeRequest(key=key, range_end=range_end, prev_kv=self.chance(0.4))

    def compare_message(self) -> Any:
        compare = kv_pb2.Compare(
            result=self.random.randrange(4), target=self.random.randrange(5), key=self.key()
        )
        if self.chance(0.3):
            compare.key, compare.range_end = self.span()
        target = self.random.randrange(5) if self.chance(0.05) else compare.target
        if self.chance(0.95):
            if target == kv_pb2.Compare.VALUE:
                compare.value = self.value()
            elif target == kv_pb2.Compare.LEASE:
                compare.lease = self.random.choice((0, 0, 1, -1, 7777))
            elif target == kv_pb2.Compare.VERSION:
                compare.version = self.number(2)
            elif target == kv_pb2.Compare.CREATE:
                compare.create_revision = self.number(self.at.revision)
            else:
                compare.mod_revision = self.number(self.at.revision)
        return compare

    def op_message(self, depth: int) -> Any:
        pick = self.random.random()
        if pick < 0.40:
            return kv_pb2.RequestOp(request_put=self.put_message())
        if pick < 0.70:
            message = self.range_message()
            if self.chance(0.7):  # a compacted or future revision fails the whole txn
                message.revision = 0
            return kv_pb2.RequestOp(request_range=message)
        if pick < 0.85:
            return kv_pb2.RequestOp(request_delete_range=self.delete_message())
        if pick < 0.995 and depth < 3:
            return kv_pb2.RequestOp(request_txn=self.txn_message(depth + 1))
        return kv_pb2.RequestOp()

    def txn_message(self, depth: int = 0) -> Any:
        sizes = (0, 0, 1, 1, 2, 3) if self.chance(0.95) else (0, 6, 12)
        return kv_pb2.TxnRequest(
            compare=[self.compare_message() for _ in range(self.random.choice((0, 0, 1, 1, 2)))],
            success=[self.op_message(depth) for _ in range(self.random.choice(sizes))],
            failure=[self.op_message(depth) for _ in range(self.random.choice(sizes))],
        )

    def read_txn_message(self) -> Any:
        def ops() -> list[Any]:
            count = self.random.randrange(4)
            return [kv_pb2.RequestOp(request_range=self.range_message()) for _ in range(count)]

        compares = [self.compare_message() for _ in range(self.random.randrange(3))]
        return kv_pb2.TxnRequest(compare=compares, success=ops(), failure=ops())

    def large_txn_message(self) -> Any:
        """Around the limit of 128 operations, also nested, where each level takes its share."""
        count = self.random.choice((127, 128, 129))
        keys = [b"many/%d" % i for i in range(count)]
        puts = [kv_pb2.RequestOp(request_put=kv_pb2.PutRequest(key=k, value=b"m")) for k in keys]
        if self.chance(0.5):
            return kv_pb2.TxnRequest(success=puts)
        inner = kv_pb2.TxnRequest(success=puts[: self.random.choice((125, 126, 127))])
        outer = [kv_pb2.RequestOp(request_txn=inner)]
        if self.chance(0.5):
            outer += [kv_pb2.RequestOp(request_range=kv_pb2.RangeRequest(key=b"a"))]
        return kv_pb2.TxnRequest(success=outer)

    def compaction_message(self) -> Any:
        at, pick = self.at, self.random.randrange(10)
        if pick < 6:
            revision = self.random.randint(max(at.compacted, 1), max(at.revision, 1))
        elif pick < 8:
            revision = at.compacted
        else:
            revision = self.random.choice((0, -1, at.revision + 1000, INT64_MAX, INT64_MIN, 1))
        return kv_pb2.CompactionRequest(revision=revision, physical=self.chance(0.3))

    def grant_message(self) -> Any:
        return lease_pb2.LeaseGrantRequest(ID=self.lease(), TTL=self.random.choice(TTLS))

    def time_to_live_message(self) -> Any:
        return lease_pb2.LeaseTimeToLiveRequest(ID=self.lease(), keys=self.chance(0.7))

    def huge_message(self) -> Any:
        size = self.random.choice((HUGE, TOO_HUGE))
        return kv_pb2.PutRequest(key=self.key(), value=b"x" * size)

    def broken(self) -> Request:
        """Bytes cut in the middle of a field: every protobuf library refuses them."""
        method = self.random.choice(("Range", "Put", "DeleteRange", "Txn", "Compact"))
        return Request(method, self.random.choice((b"\x0a\x05ab", b"\x0a", b"\xff")), broken=True)

    def alarm_message(self) -> Any:
        return maintenance_pb2.AlarmRequest(alarm=self.random.choice((0, 0, 1, 2)))


def spare_old_etcds(txn: Any) -> Any:
    """known: ignore_after_from_key_delete. Such a pair in one txn: the ignore_* goes."""
    ops = list(_all_ops(txn))
    if any(_is_open(op.request_delete_range) for op in ops):
        for op in ops:
            if op.HasField("request_put"):
                op.request_put.ignore_value = op.request_put.ignore_lease = False
    return txn


def _is_open(delete: Any) -> bool:
    return bool(delete.range_end) and delete.range_end <= delete.key


def _all_ops(txn: Any) -> Iterator[Any]:
    for op in (*txn.success, *txn.failure):
        yield op
        if op.HasField("request_txn"):
            yield from _all_ops(op.request_txn)


def _prefix_end(prefix: bytes) -> bytes:
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else b"\x00"


def _maker(method: str, make: Any) -> Any:
    return lambda g: Request(method, make(g).SerializeToString(deterministic=True))


_TABLE: tuple[tuple[float, Any], ...] = (
    (30, _maker("Range", Generator.range_message)),
    (26, _maker("Put", Generator.put_message)),
    (10, _maker("DeleteRange", Generator.delete_message)),
    (22, _maker("Txn", lambda g: spare_old_etcds(g.txn_message()))),
    (6, _maker("Txn", Generator.read_txn_message)),
    (0.5, _maker("Compact", Generator.compaction_message)),
    (0.3, _maker("HashKV", lambda g: maintenance_pb2.HashKVRequest(revision=g.revision()))),
    (0.2, _maker("Alarm", Generator.alarm_message)),
    (0.1, _maker("MemberList", lambda g: cluster_pb2.MemberListRequest(linearizable=True))),
    (0.1, _maker("Unknown", Generator.range_message)),
    (3, _maker("LeaseGrant", Generator.grant_message)),
    (1, _maker("LeaseRevoke", lambda g: lease_pb2.LeaseRevokeRequest(ID=g.lease()))),
    (1, _maker("LeaseKeepAlive", lambda g: lease_pb2.LeaseKeepAliveRequest(ID=g.lease()))),
    (2, _maker("LeaseTimeToLive", Generator.time_to_live_message)),
    (0.5, _maker("LeaseLeases", lambda g: lease_pb2.LeaseLeasesRequest())),
    (0.2, Generator.broken),
    (0.1, _maker("Txn", Generator.large_txn_message)),
    (0.02, _maker("Put", Generator.huge_message)),
)
_WEIGHTS = [weight for weight, _ in _TABLE]
_MAKERS = [make for _, make in _TABLE]
