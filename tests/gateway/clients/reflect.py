"""A program of its own (grpcio-reflection owns names that we own too): `reflect.py TARGET`.

Finds etcd's services by reflection alone and calls them; prints what it saw as JSON.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)


def main(target: str) -> None:
    with grpc.insecure_channel(target) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        pool = DescriptorPool(database)
        seen: dict[str, object] = {"services": sorted(database.get_services())}
        for name in database.get_services():
            assert pool.FindServiceByName(name).full_name == name
        method = pool.FindServiceByName("etcdserverpb.KV").methods_by_name["Put"]
        request: Any = GetMessageClass(method.input_type)
        reply: Any = GetMessageClass(method.output_type)
        put = channel.unary_unary("/etcdserverpb.KV/Put")
        body = put(request(key=b"k", value=b"v").SerializeToString(), timeout=10)
        seen["revision"] = reply.FromString(body).header.revision
        event = pool.FindMessageTypeByName("mvccpb.Event")
        seen["kv"] = event.fields_by_name["kv"].message_type.full_name
        health = health_pb2_grpc.HealthStub(channel)
        seen["health"] = health.Check(health_pb2.HealthCheckRequest(), timeout=10).status
        seen["first"] = next(health.Watch(health_pb2.HealthCheckRequest(), timeout=10)).status
    print(json.dumps(seen))


if __name__ == "__main__":
    main(sys.argv[1])
