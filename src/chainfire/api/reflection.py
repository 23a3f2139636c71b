"""Server reflection (v1 and v1alpha): what grpcurl and its like ask before they call.

Our descriptors are of package chainfire.v1; a client that calls
`etcdserverpb.KV` must find that name. So the same messages are described again
under etcd's packages (`ALIASES`), in files of their own, in a pool of their
own: protobuf's default pool, where other clients in this process may have
registered etcd's names, is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

from chainfire.api.call import Stream
from chainfire.api.services import Services
from chainfire.errors import Code, Malformed
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
from chainfire.proto.reflection_pb2 import (
    ErrorResponse,
    ExtensionNumberResponse,
    FileDescriptorResponse,
    ListServiceResponse,
    ServerReflectionRequest,
    ServerReflectionResponse,
    ServiceResponse,
)

_OURS = "chainfire.v1"
_RPC = (kv_pb2, watch_pb2, lease_pb2, cluster_pb2, maintenance_pb2, auth_pb2)
_SINGLE = {  # file of the alias -> (package, our module)
    "v3lockpb/v3lock.proto": ("v3lockpb", lock_pb2),
    "v3electionpb/v3election.proto": ("v3electionpb", election_pb2),
    "grpc/health/v1/health.proto": ("grpc.health.v1", health_pb2),
    "grpc/reflection/v1/reflection.proto": ("grpc.reflection.v1", reflection_pb2),
    "grpc/reflection/v1alpha/reflection.proto": ("grpc.reflection.v1alpha", reflection_pb2),
}
# Messages that etcd keeps outside etcdserverpb, though we have them beside its requests.
_ELSEWHERE = {
    "KeyValue": "mvccpb",
    "Event": "mvccpb",
    "UserAddOptions": "authpb",
    "User": "authpb",
    "Permission": "authpb",
    "Role": "authpb",
}
_FILE_OF = {
    "mvccpb": "mvccpb/kv.proto",
    "authpb": "authpb/auth.proto",
    "etcdserverpb": "etcdserverpb/rpc.proto",
}


# ── the descriptors ─────────────────────────────────────────────────────────


def _etcd_files() -> Iterator[FileDescriptorProto]:
    """mvccpb, authpb and etcdserverpb, made of all files of `_RPC`."""
    files = {
        package: FileDescriptorProto(name=name, package=package, syntax="proto3")
        for package, name in _FILE_OF.items()
    }
    files["etcdserverpb"].dependency.extend([_FILE_OF["mvccpb"], _FILE_OF["authpb"]])
    package_of: dict[str, str] = {}
    for module in _RPC:
        ours = _proto_of(module)
        for kind in (ours.message_type, ours.enum_type):
            for described in kind:
                package_of[described.name] = _ELSEWHERE.get(described.name, "etcdserverpb")
        for message in ours.message_type:
            files[package_of[message.name]].message_type.append(message)
        files["etcdserverpb"].enum_type.extend(ours.enum_type)
        files["etcdserverpb"].service.extend(ours.service)
    for file in files.values():
        _rename(file, package_of)
        yield file


def _single_files() -> Iterator[FileDescriptorProto]:
    """Files that are one of ours under another package."""
    for name, (package, module) in _SINGLE.items():
        ours = _proto_of(module)
        file = FileDescriptorProto()
        file.CopyFrom(ours)
        file.name, file.package = name, package
        package_of = {message.name: package for message in ours.message_type}
        del file.dependency[:]
        if ours.dependency:
            file.dependency.extend([_FILE_OF["mvccpb"], _FILE_OF["etcdserverpb"]])
        _rename(file, package_of)
        yield file


def _proto_of(module: object) -> FileDescriptorProto:
    proto = FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(proto)  # type: ignore[attr-defined]
    return proto


def _rename(file: FileDescriptorProto, package_of: dict[str, str]) -> None:
    """Let every type name of ours in the file point to where etcd has it."""

    def renamed(type_name: str) -> str:
        if not type_name.startswith(f".{_OURS}."):
            return type_name
        local = type_name.removeprefix(f".{_OURS}.")
        top = local.split(".", 1)[0]
        package = package_of.get(top) or _ELSEWHERE.get(top, "etcdserverpb")
        return f".{package}.{local}"

    def walk(message: DescriptorProto) -> None:
        for field in message.field:
            if field.type_name:
                field.type_name = renamed(field.type_name)
        for nested in message.nested_type:
            walk(nested)

    for message in file.message_type:
        walk(message)
    for service in file.service:
        for method in service.method:
            method.input_type = renamed(method.input_type)
            method.output_type = renamed(method.output_type)


@cache
def pool() -> DescriptorPool:
    """Ours and etcd's names side by side. About 20 ms the first time."""
    made = DescriptorPool()
    for module in (*_RPC, lock_pb2, election_pb2, health_pb2, reflection_pb2):
        made.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    for file in (*_etcd_files(), *_single_files()):
        made.AddSerializedFile(file.SerializeToString())
    return made


# ── the service ─────────────────────────────────────────────────────────────


async def server_reflection_info(services: Services, stream: Stream) -> None:
    async for body in stream:
        try:
            request = ServerReflectionRequest.FromString(body)
        except DecodeError as exc:
            raise Malformed.of(exc) from exc
        await stream.send(answer(request).SerializeToString())


def answer(request: ServerReflectionRequest) -> ServerReflectionResponse:
    reply = ServerReflectionResponse(valid_host=request.host, original_request=request)
    try:
        match request.WhichOneof("message_request"):
            case "file_by_filename":
                file = pool().FindFileByName(request.file_by_filename)
                reply.file_descriptor_response.CopyFrom(_with_dependencies(file))
            case "file_containing_symbol":
                file = _file_of_symbol(request.file_containing_symbol)
                reply.file_descriptor_response.CopyFrom(_with_dependencies(file))
            case "file_containing_extension":
                raise KeyError("no extensions")
            case "all_extension_numbers_of_type":
                name = request.all_extension_numbers_of_type
                pool().FindMessageTypeByName(name)
                none = ExtensionNumberResponse(base_type_name=name)
                reply.all_extension_numbers_response.CopyFrom(none)
            case "list_services":
                names = [ServiceResponse(name=name) for name in service_names()]
                reply.list_services_response.CopyFrom(ListServiceResponse(service=names))
            case _:
                reply.error_response.CopyFrom(
                    ErrorResponse(
                        error_code=Code.INVALID_ARGUMENT, error_message="empty reflection request"
                    )
                )
    except KeyError as exc:
        error = ErrorResponse(error_code=Code.NOT_FOUND, error_message=str(exc.args[0]))
        reply.error_response.CopyFrom(error)
    return reply


@cache
def service_names() -> list[str]:
    """Of every service that is described, sorted."""
    files = [_proto_of(module) for module in (*_RPC, lock_pb2, election_pb2, health_pb2)]
    files += [_proto_of(reflection_pb2), *_etcd_files(), *_single_files()]
    return sorted(f"{file.package}.{service.name}" for file in files for service in file.service)


def _file_of_symbol(symbol: str) -> FileDescriptor:
    """Raises KeyError. A method's or a field's name leads to what it is in."""
    try:
        return pool().FindFileContainingSymbol(symbol)
    except KeyError:
        parent, _, _ = symbol.rpartition(".")
        if not parent:
            raise
        return pool().FindFileContainingSymbol(parent)


def _with_dependencies(file: FileDescriptor) -> FileDescriptorResponse:
    """The file and all that it needs, itself first."""
    seen: dict[str, bytes] = {}
    waiting = [file]
    while waiting:
        next_file = waiting.pop()
        if next_file.name not in seen:
            seen[next_file.name] = next_file.serialized_pb
            waiting += next_file.dependencies
    return FileDescriptorResponse(file_descriptor_proto=list(seen.values()))
