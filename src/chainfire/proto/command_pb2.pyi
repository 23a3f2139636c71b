from chainfire.proto import cluster_pb2 as _cluster_pb2
from chainfire.proto import kv_pb2 as _kv_pb2
from chainfire.proto import lease_pb2 as _lease_pb2
from chainfire.proto import maintenance_pb2 as _maintenance_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Command(_message.Message):
    __slots__ = ("format", "member_id", "start_number", "sequence", "lowest_unsettled", "proposing_term", "leader_clock_ms", "user", "auth_revision", "keyspace", "put", "delete_range", "txn", "compact", "compaction_finished", "alarm", "cluster_version_set", "member_attributes_set", "lease_grant", "lease_revoke", "lease_renew", "lease_expire")
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    START_NUMBER_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LOWEST_UNSETTLED_FIELD_NUMBER: _ClassVar[int]
    PROPOSING_TERM_FIELD_NUMBER: _ClassVar[int]
    LEADER_CLOCK_MS_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    AUTH_REVISION_FIELD_NUMBER: _ClassVar[int]
    KEYSPACE_FIELD_NUMBER: _ClassVar[int]
    PUT_FIELD_NUMBER: _ClassVar[int]
    DELETE_RANGE_FIELD_NUMBER: _ClassVar[int]
    TXN_FIELD_NUMBER: _ClassVar[int]
    COMPACT_FIELD_NUMBER: _ClassVar[int]
    COMPACTION_FINISHED_FIELD_NUMBER: _ClassVar[int]
    ALARM_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_VERSION_SET_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ATTRIBUTES_SET_FIELD_NUMBER: _ClassVar[int]
    LEASE_GRANT_FIELD_NUMBER: _ClassVar[int]
    LEASE_REVOKE_FIELD_NUMBER: _ClassVar[int]
    LEASE_RENEW_FIELD_NUMBER: _ClassVar[int]
    LEASE_EXPIRE_FIELD_NUMBER: _ClassVar[int]
    format: int
    member_id: int
    start_number: int
    sequence: int
    lowest_unsettled: int
    proposing_term: int
    leader_clock_ms: int
    user: str
    auth_revision: int
    keyspace: int
    put: _kv_pb2.PutRequest
    delete_range: _kv_pb2.DeleteRangeRequest
    txn: _kv_pb2.TxnRequest
    compact: _kv_pb2.CompactionRequest
    compaction_finished: CompactionFinished
    alarm: _maintenance_pb2.AlarmRequest
    cluster_version_set: ClusterVersionSet
    member_attributes_set: _cluster_pb2.Member
    lease_grant: LeaseGrant
    lease_revoke: _lease_pb2.LeaseRevokeRequest
    lease_renew: LeaseRenew
    lease_expire: LeaseExpire
    def __init__(self, format: _Optional[int] = ..., member_id: _Optional[int] = ..., start_number: _Optional[int] = ..., sequence: _Optional[int] = ..., lowest_unsettled: _Optional[int] = ..., proposing_term: _Optional[int] = ..., leader_clock_ms: _Optional[int] = ..., user: _Optional[str] = ..., auth_revision: _Optional[int] = ..., keyspace: _Optional[int] = ..., put: _Optional[_Union[_kv_pb2.PutRequest, _Mapping]] = ..., delete_range: _Optional[_Union[_kv_pb2.DeleteRangeRequest, _Mapping]] = ..., txn: _Optional[_Union[_kv_pb2.TxnRequest, _Mapping]] = ..., compact: _Optional[_Union[_kv_pb2.CompactionRequest, _Mapping]] = ..., compaction_finished: _Optional[_Union[CompactionFinished, _Mapping]] = ..., alarm: _Optional[_Union[_maintenance_pb2.AlarmRequest, _Mapping]] = ..., cluster_version_set: _Optional[_Union[ClusterVersionSet, _Mapping]] = ..., member_attributes_set: _Optional[_Union[_cluster_pb2.Member, _Mapping]] = ..., lease_grant: _Optional[_Union[LeaseGrant, _Mapping]] = ..., lease_revoke: _Optional[_Union[_lease_pb2.LeaseRevokeRequest, _Mapping]] = ..., lease_renew: _Optional[_Union[LeaseRenew, _Mapping]] = ..., lease_expire: _Optional[_Union[LeaseExpire, _Mapping]] = ...) -> None: ...

class LeaseGrant(_message.Message):
    __slots__ = ("id", "ttl_ms")
    ID_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    id: int
    ttl_ms: int
    def __init__(self, id: _Optional[int] = ..., ttl_ms: _Optional[int] = ...) -> None: ...

class LeaseRenew(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, ids: _Optional[_Iterable[int]] = ...) -> None: ...

class LeaseExpire(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, ids: _Optional[_Iterable[int]] = ...) -> None: ...

class CompactionFinished(_message.Message):
    __slots__ = ("revision", "freed_bytes")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    FREED_BYTES_FIELD_NUMBER: _ClassVar[int]
    revision: int
    freed_bytes: int
    def __init__(self, revision: _Optional[int] = ..., freed_bytes: _Optional[int] = ...) -> None: ...

class ClusterVersionSet(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: str
    def __init__(self, version: _Optional[str] = ...) -> None: ...

class ConfChangeContext(_message.Message):
    __slots__ = ("members", "member_id", "start_number", "sequence", "lowest_unsettled", "learners_max")
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    START_NUMBER_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LOWEST_UNSETTLED_FIELD_NUMBER: _ClassVar[int]
    LEARNERS_MAX_FIELD_NUMBER: _ClassVar[int]
    members: _containers.RepeatedCompositeFieldContainer[_cluster_pb2.Member]
    member_id: int
    start_number: int
    sequence: int
    lowest_unsettled: int
    learners_max: int
    def __init__(self, members: _Optional[_Iterable[_Union[_cluster_pb2.Member, _Mapping]]] = ..., member_id: _Optional[int] = ..., start_number: _Optional[int] = ..., sequence: _Optional[int] = ..., lowest_unsettled: _Optional[int] = ..., learners_max: _Optional[int] = ...) -> None: ...
