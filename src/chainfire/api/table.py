"""Every method of every service, once, with all the names it answers to.

Doors serve `METHODS` and know nothing else about services. One handler serves
etcd's name and ours: our messages are etcd's with the same field numbers.
A method without a handler answers UNIMPLEMENTED; it is listed all the same,
so that reflection and counters show the whole API.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from chainfire.api import (
    cluster,
    cluster_status,
    election,
    health,
    kv,
    lease,
    lock,
    maintenance,
    reflection,
    watch,
)
from chainfire.api.admission import admit
from chainfire.api.call import Call, Stream
from chainfire.api.services import Services
from chainfire.errors import Unimplemented
from chainfire.proto import (
    auth_pb2,
    cluster_pb2,
    election_pb2,
    health_pb2,
    kv_pb2,
    lease_pb2,
    lock_pb2,
    maintenance_pb2,
    reflection_pb2,
    watch_pb2,
)

UnaryHandler = Callable[[Services, Call], None]
StreamHandler = Callable[[Services, Stream], Awaitable[None]]


class Kind(Enum):
    """Values are the `grpc_type` of etcd's metrics."""

    UNARY = "unary"
    SERVER_STREAM = "server_stream"
    BIDI = "bidi_stream"


@dataclass(slots=True, frozen=True)
class Method:
    """One method under one of its names."""

    service: str  # "etcdserverpb.KV"
    name: str  # "Range"
    kind: Kind
    request_type: type[Message]
    reply_type: type[Message]
    unary: UnaryHandler | None  # exactly one of the two is set
    stream: StreamHandler | None

    @property
    def path(self) -> str:
        return f"/{self.service}/{self.name}"


@dataclass(slots=True, frozen=True)
class _Service:
    descriptor: ServiceDescriptor
    names: tuple[str, ...]  # besides chainfire.v1's
    unary: dict[str, UnaryHandler]
    streams: dict[str, StreamHandler]


def _service(
    file: object,
    name: str,
    *names: str,
    unary: dict[str, UnaryHandler] | None = None,
    streams: dict[str, StreamHandler] | None = None,
) -> _Service:
    descriptor = file.DESCRIPTOR.services_by_name[name]  # type: ignore[attr-defined]
    return _Service(descriptor, names, unary or {}, streams or {})


_SERVICES = (
    _service(
        kv_pb2,
        "KV",
        "etcdserverpb.KV",
        unary={
            "Range": kv.range_,
            "Put": kv.put,
            "DeleteRange": kv.delete_range,
            "Txn": kv.txn,
            "Compact": kv.compact,
        },
        streams={"RangeStream": kv.range_stream},
    ),
    _service(watch_pb2, "Watch", "etcdserverpb.Watch", streams={"Watch": watch.watch}),
    _service(
        lease_pb2,
        "Lease",
        "etcdserverpb.Lease",
        unary={
            "LeaseGrant": lease.grant,
            "LeaseRevoke": lease.revoke,
            "LeaseTimeToLive": lease.time_to_live,
            "LeaseLeases": lease.leases,
        },
        streams={"LeaseKeepAlive": lease.keep_alive},
    ),
    _service(
        cluster_pb2,
        "Cluster",
        "etcdserverpb.Cluster",
        unary={
            "MemberAdd": cluster.member_add,
            "MemberRemove": cluster.member_remove,
            "MemberUpdate": cluster.member_update,
            "MemberList": cluster.member_list,
            "MemberPromote": cluster.member_promote,
            "ClusterStatus": cluster_status.cluster_status,
        },
    ),
    _service(
        maintenance_pb2,
        "Maintenance",
        "etcdserverpb.Maintenance",
        unary={
            "Alarm": maintenance.alarm,
            "Status": maintenance.status,
            "Defragment": maintenance.defragment,
            "Hash": maintenance.hash_,
            "HashKV": maintenance.hash_kv_,
            "MoveLeader": maintenance.move_leader,
            "Downgrade": maintenance.downgrade,
        },
        streams={"Snapshot": maintenance.snapshot},
    ),
    _service(auth_pb2, "Auth", "etcdserverpb.Auth"),
    _service(
        lock_pb2,
        "Lock",
        "v3lockpb.Lock",
        unary={"Lock": lock.lock, "Unlock": lock.unlock},
    ),
    _service(
        election_pb2,
        "Election",
        "v3electionpb.Election",
        unary={
            "Campaign": election.campaign,
            "Proclaim": election.proclaim,
            "Leader": election.leader,
            "Resign": election.resign,
        },
        streams={"Observe": election.observe},
    ),
    _service(
        health_pb2,
        "Health",
        "grpc.health.v1.Health",
        unary={"Check": health.check, "List": health.list_},
        streams={"Watch": health.watch},
    ),
    _service(
        reflection_pb2,
        "ServerReflection",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        streams={"ServerReflectionInfo": reflection.server_reflection_info},
    ),
)


_OURS_ALONE = frozenset({"ClusterStatus"})  # etcd has no method of that name


def _unimplemented(services: Services, call: Call) -> None:
    raise Unimplemented(f"chainfire: {call.method} is not implemented yet")


async def _unimplemented_stream(services: Services, stream: Stream) -> None:
    raise Unimplemented(f"chainfire: {stream.method} is not implemented yet")


def _methods(service: _Service) -> list[Method]:
    found = []
    for name in (service.descriptor.full_name, *service.names):
        for method in service.descriptor.methods:
            if method.name in _OURS_ALONE and name != service.descriptor.full_name:
                continue
            kind = Kind.UNARY
            if method.server_streaming:
                kind = Kind.BIDI if method.client_streaming else Kind.SERVER_STREAM
            is_unary = kind is Kind.UNARY
            found.append(
                Method(
                    name,
                    method.name,
                    kind,
                    GetMessageClass(method.input_type),
                    GetMessageClass(method.output_type),
                    service.unary.get(method.name, _unimplemented) if is_unary else None,
                    None if is_unary else service.streams.get(method.name, _unimplemented_stream),
                )
            )
    return found


METHODS: dict[str, Method] = {
    method.path: method for service in _SERVICES for method in _methods(service)
}
_SERVICE_NAMES = {method.service for method in METHODS.values()}


def run(handler: UnaryHandler, call: Call) -> None:
    """Start a unary call: it is answered now or later, whatever its handler raises."""
    try:
        if call.metadata:
            admit(call.services, call.metadata)
        handler(call.services, call)
    except Exception as exc:
        call.failed(exc)


def unknown_method(path: str) -> Unimplemented:
    """What a path that is not in the table is answered with, as by grpc-go."""
    service, _, name = path.removeprefix("/").rpartition("/")
    if service in _SERVICE_NAMES:
        return Unimplemented(f"unknown method {name} for service {service}")
    return Unimplemented(f"unknown service {service}")
