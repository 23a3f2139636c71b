"""How much a request may add, and when a space alarm has served its time. Pure arithmetic.

The quota is each member's configuration, so apply never looks at it: the node
asks `exceeds` before it proposes, and proposes a NOSPACE alarm where etcd
raises one; what blocks writes is the applied alarm, the same on every member.

Usage is the machine's logical count of a keyspace (live and history bytes, and
what each lease counts), not a file size: it falls when a compaction is booked,
with no defragmentation.
"""

from __future__ import annotations

from typing import Final

from chainfire.proto.kv_pb2 import PutRequest, TxnRequest
from chainfire.proto.lease_pb2 import LeaseGrantRequest

DEFAULT_BYTES: Final = 2 * 1024**3  # etcd's; there is no upper bound here
PUT_OVERHEAD_BYTES: Final = 256  # etcd: storage/quota.go, kvOverhead
LEASE_BYTES: Final = 64  # etcd: storage/quota.go, leaseOverhead
CLEAR_PERCENT: Final = 80  # far enough below the quota that the alarm does not flap


def quota_bytes(flag: int) -> int:
    """The quota that `--quota-backend-bytes` names: 0 = the default, negative = none."""
    return flag or DEFAULT_BYTES


def cost(request: object) -> int:
    """An upper bound of what the request adds, as etcd counts it. 0 = it adds nothing.

    A transaction costs its dearer branch, nested ones included.
    """
    if isinstance(request, PutRequest):
        return PUT_OVERHEAD_BYTES + len(request.key) + len(request.value)
    if isinstance(request, TxnRequest):
        return _txn_cost(request)
    if isinstance(request, LeaseGrantRequest):
        return LEASE_BYTES
    return 0


def exceeds(usage: int, cost: int, quota: int) -> bool:
    """Whether a request of this cost must be refused. Requests that add nothing never are."""
    assert quota != 0, "resolve the flag with quota_bytes"
    return 0 < quota <= usage + cost and cost > 0


def should_clear(usage: int, quota: int) -> bool:
    """Whether a NOSPACE alarm that was raised for want of quota can be taken back."""
    assert quota != 0, "resolve the flag with quota_bytes"
    return quota < 0 or usage * 100 <= quota * CLEAR_PERCENT


def has_put(txn: TxnRequest) -> bool:
    """Whether any branch, taken or not, nested or not, puts: NOSPACE refuses it, as in etcd."""
    return _txn_cost(txn) > 0


def _txn_cost(txn: TxnRequest) -> int:
    return max(_branch_cost(txn.success), _branch_cost(txn.failure))


def _branch_cost(branch: object) -> int:
    total = 0
    for op in branch:  # type: ignore[attr-defined]
        kind = op.WhichOneof("request")
        if kind == "request_put":
            total += PUT_OVERHEAD_BYTES + len(op.request_put.key) + len(op.request_put.value)
        elif kind == "request_txn":
            total += _txn_cost(op.request_txn)
    return total
