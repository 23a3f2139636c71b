"""The method table: all of etcd's API, each method under each of its names."""

from __future__ import annotations

import pytest

from chainfire.api.reflection import answer, pool, service_names
from chainfire.api.table import METHODS, Kind, unknown_method
from chainfire.proto.reflection_pb2 import ServerReflectionRequest

ETCD = {
    "etcdserverpb.KV": "Range RangeStream Put DeleteRange Txn Compact",
    "etcdserverpb.Watch": "Watch",
    "etcdserverpb.Lease": "LeaseGrant LeaseRevoke LeaseKeepAlive LeaseTimeToLive LeaseLeases",
    "etcdserverpb.Cluster": "MemberAdd MemberRemove MemberUpdate MemberList MemberPromote",
    "etcdserverpb.Maintenance": (
        "Alarm Status Defragment Hash HashKV Snapshot MoveLeader Downgrade"
    ),
    "etcdserverpb.Auth": (
        "AuthEnable AuthDisable AuthStatus Authenticate UserAdd UserGet UserList UserDelete "
        "UserChangePassword UserGrantRole UserRevokeRole RoleAdd RoleGet RoleList RoleDelete "
        "RoleGrantPermission RoleRevokePermission"
    ),
    "v3lockpb.Lock": "Lock Unlock",
    "v3electionpb.Election": "Campaign Proclaim Leader Observe Resign",
    "grpc.health.v1.Health": "Check Watch List",
    "grpc.reflection.v1.ServerReflection": "ServerReflectionInfo",
    "grpc.reflection.v1alpha.ServerReflection": "ServerReflectionInfo",
}
STREAMS = {
    "RangeStream": Kind.SERVER_STREAM,
    "Snapshot": Kind.SERVER_STREAM,
    "Observe": Kind.SERVER_STREAM,
    "LeaseKeepAlive": Kind.BIDI,
    "ServerReflectionInfo": Kind.BIDI,
}


def test_every_method_of_etcd_is_listed_under_its_name_and_ours() -> None:
    for service, names in ETCD.items():
        ours = "chainfire.v1." + service.rpartition(".")[2]
        for name in names.split():
            theirs, mine = METHODS[f"/{service}/{name}"], METHODS[f"/{ours}/{name}"]
            assert (theirs.unary, theirs.stream) == (mine.unary, mine.stream)
            assert (theirs.request_type, theirs.reply_type) == (mine.request_type, mine.reply_type)
    listed = sum(len(names.split()) for names in ETCD.values())
    ours = {method.path for method in METHODS.values() if method.service.startswith("chainfire")}
    assert len(METHODS) - len(ours) == listed


def test_a_method_has_the_handler_of_its_kind() -> None:
    for path, method in METHODS.items():
        assert path == method.path
        assert (method.unary is None) != (method.stream is None), path
        assert (method.kind is Kind.UNARY) == (method.unary is not None), path
        if method.name in STREAMS:
            assert method.kind is STREAMS[method.name]
    assert METHODS["/etcdserverpb.Watch/Watch"].kind is Kind.BIDI
    assert METHODS["/grpc.health.v1.Health/Watch"].kind is Kind.SERVER_STREAM


def test_unknown_paths_are_answered_as_by_grpc_go() -> None:
    known = unknown_method("/etcdserverpb.KV/Nope")
    assert known.message == "unknown method Nope for service etcdserverpb.KV"
    assert unknown_method("/a.B/C").message == "unknown service a.B"


# ── reflection ──────────────────────────────────────────────────────────────


def test_reflection_lists_every_service_of_the_table() -> None:
    assert service_names() == sorted({method.service for method in METHODS.values()})


def test_every_method_is_described_with_types_of_its_own_package() -> None:
    for method in METHODS.values():
        service = pool().FindServiceByName(method.service)
        described = service.methods_by_name[method.name]
        home = method.service.rpartition(".")[0]
        allowed = {home, "etcdserverpb"} if home == "v3lockpb" else {home}
        assert described.input_type.full_name.rpartition(".")[0] in allowed
        assert described.input_type.name == method.request_type.DESCRIPTOR.name
        assert described.server_streaming == (method.kind is not Kind.UNARY)


def test_messages_are_where_etcd_has_them() -> None:
    described = pool()
    event = described.FindMessageTypeByName("mvccpb.Event")
    assert event.fields_by_name["kv"].message_type.full_name == "mvccpb.KeyValue"
    put = described.FindMessageTypeByName("etcdserverpb.PutResponse")
    assert put.fields_by_name["header"].message_type.full_name == "etcdserverpb.ResponseHeader"
    user = described.FindMessageTypeByName("etcdserverpb.AuthUserAddRequest")
    assert user.fields_by_name["options"].message_type.full_name == "authpb.UserAddOptions"
    order = described.FindMessageTypeByName("etcdserverpb.RangeRequest").fields_by_name
    assert order["sort_order"].enum_type.full_name == "etcdserverpb.RangeRequest.SortOrder"
    leader = described.FindMessageTypeByName("v3electionpb.LeaderResponse").fields_by_name
    assert leader["kv"].message_type.full_name == "mvccpb.KeyValue"
    assert leader["header"].message_type.full_name == "etcdserverpb.ResponseHeader"


@pytest.mark.parametrize(
    ("symbol", "files"),
    [
        ("mvccpb.KeyValue", 1),
        ("etcdserverpb.KV", 3),
        ("etcdserverpb.KV.Range", 3),
        ("etcdserverpb.RangeRequest.SortOrder", 3),
        ("v3lockpb.Lock", 4),
        ("chainfire.v1.KV", 1),
        ("grpc.health.v1.Health", 1),
    ],
)
def test_a_symbol_comes_with_all_files_it_needs(symbol: str, files: int) -> None:
    reply = answer(ServerReflectionRequest(file_containing_symbol=symbol))
    assert len(reply.file_descriptor_response.file_descriptor_proto) == files


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (ServerReflectionRequest(file_containing_symbol="no.Such"), 5),
        (ServerReflectionRequest(file_containing_symbol="x"), 5),
        (ServerReflectionRequest(file_containing_symbol=""), 5),
        (ServerReflectionRequest(file_by_filename="no.proto"), 5),
        (ServerReflectionRequest(all_extension_numbers_of_type="no.Such"), 5),
        (ServerReflectionRequest(), 3),
    ],
)
def test_what_reflection_does_not_know_it_says(
    request_: ServerReflectionRequest, code: int
) -> None:
    reply = answer(request_)
    assert reply.error_response.error_code == code
    assert reply.original_request == request_


def test_a_file_is_found_by_its_name() -> None:
    reply = answer(ServerReflectionRequest(file_by_filename="mvccpb/kv.proto"))
    assert len(reply.file_descriptor_response.file_descriptor_proto) == 1
