"""Two right answers to one request have one canonical form; here it is made.

Ids, sizes, hashes and terms are cleared. Where a sort leaves the order of equals open, equals are
put in key order, and a group of equals that the limit cut is reduced to what it was sorted by.
Everything else stays and must be equal. Each rule names its entry in known.py.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

from chainfire.proto import kv_pb2
from tests.compat.differential.calls import METHODS, Answer, Request
from tests.compat.differential.known import CODE_ONLY_TEXTS
from tests.servers import BESIDE

COMPACTED = "etcdserver: mvcc: required revision has been compacted"

_SORT_FIELD = {
    kv_pb2.RangeRequest.VERSION: "version",
    kv_pb2.RangeRequest.CREATE: "create_revision",
    kv_pb2.RangeRequest.MOD: "mod_revision",
    kv_pb2.RangeRequest.VALUE: "value",
}


def same(request: Request, first: Answer, second: Answer, oldest: tuple[int, ...]) -> bool:
    """True when both mean the same; `oldest` is the lower version of the two servers."""
    if first == second or canonical(request, first, oldest) == canonical(request, second, oldest):
        return True
    return (
        request.method == "HashKV"
        and oldest < (3, 6)
        and _hash_at_compacted(request, first, second)
    )


def _hash_at_compacted(request: Request, *answers: Answer) -> bool:
    # known: hash_at_compacted_revision
    refused = [a for a in answers if a.code and a.error == COMPACTED]
    given = [METHODS["HashKV"].reply_type.FromString(a.body) for a in answers if not a.code]
    asked = request.message().revision
    return len(refused) == len(given) == 1 and given[0].compact_revision == asked


def canonical(request: Request, answer: Answer, oldest: tuple[int, ...]) -> tuple[int, str, Any]:
    """(code, error text, reply), where what is excused is brought to one form."""
    if answer.code:
        text = next((known for known in CODE_ONLY_TEXTS if known in answer.error), answer.error)
        return answer.code, "" if text in CODE_ONLY_TEXTS or request.broken else text, None
    reply = METHODS[request.method].reply_type.FromString(answer.body)
    clear_header(reply)
    if request.method == "Range":
        settle_range(request.message(), reply)
    elif request.method == "Txn":
        settle_txn(request.message(), reply)
    elif request.method == "HashKV":
        reply.hash = 0  # our hash is over our rows
        reply.hash_revision = 0  # known: fields_of_3_6
    elif request.method == "MemberList":
        asked = [member for member in reply.members if not member.name.startswith(BESIDE)]
        del reply.members[:]
        reply.members.extend(asked)
        for member in reply.members:
            member.ID = 0
            del member.peerURLs[:], member.clientURLs[:]
    elif request.method.startswith("Lease"):
        settle_lease(reply)
    elif request.method == "Alarm" and oldest < (3, 5):
        reply.ClearField("header")  # known: alarm_header
    return 0, "", reply


def clear_header(reply: Any) -> None:
    if reply.HasField("header"):
        header = reply.header
        header.cluster_id = header.member_id = header.raft_term = 0


def settle_lease(reply: Any) -> None:
    """known: order_of_leases, and what is left of a TTL: more than an hour, or not."""
    fields = reply.DESCRIPTOR.fields_by_name
    for ours in ("TTL_ms", "grantedTTL_ms"):  # etcd knows no milliseconds
        if ours in fields:
            reply.ClearField(ours)
    if "grantedTTL" in fields:
        reply.TTL = min(reply.TTL, 3600)
        reply.keys.sort()
    if "leases" in fields:
        reply.leases.sort(key=lambda status: status.ID)


def settle_txn(request: Any, reply: Any) -> None:
    branch = request.success if reply.succeeded else request.failure
    if len(branch) != len(reply.responses):
        return  # left as it is: the comparison shows it
    for op, result in zip(branch, reply.responses, strict=True):
        kind = op.WhichOneof("request").removeprefix("request_")
        if result.WhichOneof("response") != f"response_{kind}":
            return
        inner = getattr(result, f"response_{kind}")
        clear_header(inner)
        if kind == "range":
            settle_range(op.request_range, inner)
        elif kind == "txn":
            settle_txn(op.request_txn, inner)


def settle_range(request: Any, reply: Any) -> None:
    if request.keys_only:
        for kv in reply.kvs:
            kv.lease = 0  # known: keys_only_lease
    field = _SORT_FIELD.get(request.sort_target)
    if field is None or len(reply.kvs) < 1:
        return
    if request.keys_only and field == "value":
        groups = [list(reply.kvs)]  # sorted by what is not in the answer
    else:
        groups = [list(g) for _, g in groupby(reply.kvs, key=lambda kv: getattr(kv, field))]
    if reply.more:  # known: order_of_equals
        groups[-1] = [_only(field, kv) for kv in groups[-1]]
    settled = [kv for group in groups for kv in sorted(group, key=lambda kv: kv.key)]
    del reply.kvs[:]
    reply.kvs.extend(settled)


def _only(field: str, kv: Any) -> Any:
    return kv_pb2.KeyValue(**{field: getattr(kv, field)})
