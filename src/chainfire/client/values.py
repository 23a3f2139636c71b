"""What the client hands out: plain frozen data, made from replies. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from chainfire.proto import kv_pb2, maintenance_pb2


@dataclass(frozen=True, slots=True)
class KeyValue:
    """A key as it was at `mod_revision`. `version` counts its puts since it was created, from 1."""

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int

    def text(self) -> str:
        return self.value.decode()


@dataclass(frozen=True, slots=True)
class Page:
    """Keys of a range in key order, read at `revision`. `more`: the limit cut it off."""

    kvs: tuple[KeyValue, ...]
    count: int  # keys in the whole range, the limit left aside
    more: bool
    revision: int


@dataclass(frozen=True, slots=True)
class PutOutcome:
    revision: int
    previous: KeyValue | None = None  # if asked for


@dataclass(frozen=True, slots=True)
class DeleteOutcome:
    revision: int
    deleted: int
    previous: tuple[KeyValue, ...] = ()  # if asked for


@dataclass(frozen=True, slots=True)
class CasOutcome:
    """A compare-and-set: what was there, and what is there now.

    Versions: 0 = the key does not exist. Where it did not succeed nothing was
    changed, and both versions are the one that was found.
    """

    succeeded: bool
    current: KeyValue | None  # what the comparison met
    current_version: int
    new_version: int
    revision: int


@dataclass(frozen=True, slots=True)
class TxnOutcome:
    """`results` has one entry for each operation of the branch that was taken, in order."""

    succeeded: bool
    results: tuple[Page | PutOutcome | DeleteOutcome | TxnOutcome, ...]
    revision: int


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """One member's answer about itself."""

    endpoint: str
    cluster_id: int
    member_id: int
    version: str
    storage_version: str
    db_size_bytes: int
    db_in_use_bytes: int
    db_quota_bytes: int
    leader: int
    is_learner: bool
    raft_term: int
    raft_index: int
    raft_applied_index: int
    errors: tuple[str, ...]

    @property
    def is_leader(self) -> bool:
        return self.leader == self.member_id


@dataclass(frozen=True, slots=True)
class Change:
    """A key was put or deleted. Of a deleted one `kv` knows the key and the revision only."""

    is_delete: bool
    kv: KeyValue
    previous: KeyValue | None  # if asked for, and if there was one that is not compacted

    @property
    def key(self) -> bytes:
        return self.kv.key


@dataclass(frozen=True, slots=True)
class Changes:
    """Whole revisions of a watch, in order. Without changes: nothing else up to `revision`."""

    changes: tuple[Change, ...]
    revision: int


def change_of(event: kv_pb2.Event) -> Change:
    previous = kv_of(event.prev_kv) if event.HasField("prev_kv") else None
    return Change(event.type == kv_pb2.Event.DELETE, kv_of(event.kv), previous)


def kv_of(row: kv_pb2.KeyValue) -> KeyValue:
    return KeyValue(
        row.key, row.value, row.create_revision, row.mod_revision, row.version, row.lease
    )


def kvs_of(rows: Iterable[kv_pb2.KeyValue]) -> tuple[KeyValue, ...]:
    return tuple(map(kv_of, rows))


def page_of(reply: kv_pb2.RangeResponse) -> Page:
    return Page(kvs_of(reply.kvs), reply.count, reply.more, reply.header.revision)


def put_of(reply: kv_pb2.PutResponse) -> PutOutcome:
    previous = kv_of(reply.prev_kv) if reply.HasField("prev_kv") else None
    return PutOutcome(reply.header.revision, previous)


def delete_of(reply: kv_pb2.DeleteRangeResponse) -> DeleteOutcome:
    return DeleteOutcome(reply.header.revision, reply.deleted, kvs_of(reply.prev_kvs))


def txn_of(reply: kv_pb2.TxnResponse) -> TxnOutcome:
    results = tuple(map(_result_of, reply.responses))
    return TxnOutcome(reply.succeeded, results, reply.header.revision)


def _result_of(op: kv_pb2.ResponseOp) -> Page | PutOutcome | DeleteOutcome | TxnOutcome:
    match op.WhichOneof("response"):
        case "response_put":
            return put_of(op.response_put)
        case "response_delete_range":
            return delete_of(op.response_delete_range)
        case "response_txn":
            return txn_of(op.response_txn)
        case _:
            return page_of(op.response_range)


def cas_of(reply: kv_pb2.TxnResponse) -> CasOutcome:
    """The outcome of the transaction that `calls.cas` builds."""
    [op] = reply.responses
    if reply.succeeded:
        current = put_of(op.response_put).previous
        found = current.version if current else 0
        return CasOutcome(True, current, found, found + 1, reply.header.revision)
    page = page_of(op.response_range)
    current = page.kvs[0] if page.kvs else None
    found = current.version if current else 0
    return CasOutcome(False, current, found, found, reply.header.revision)


def status_of(endpoint: str, reply: maintenance_pb2.StatusResponse) -> MemberStatus:
    return MemberStatus(
        endpoint=endpoint,
        cluster_id=reply.header.cluster_id,
        member_id=reply.header.member_id,
        version=reply.version,
        storage_version=reply.storageVersion,
        db_size_bytes=reply.dbSize,
        db_in_use_bytes=reply.dbSizeInUse,
        db_quota_bytes=reply.dbSizeQuota,
        leader=reply.leader,
        is_learner=reply.isLearner,
        raft_term=reply.raftTerm,
        raft_index=reply.raftIndex,
        raft_applied_index=reply.raftAppliedIndex,
        errors=tuple(reply.errors),
    )
