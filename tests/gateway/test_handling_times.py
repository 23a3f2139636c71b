"""How long unary calls take is measured where the configuration asks for it, at every door."""

from __future__ import annotations

import pytest

from chainfire.api.counters import ApiCounters
from chainfire.proto.kv_pb2 import PutRequest
from tests.api.fake_node import Api
from tests.gateway.doors import GrpcDoor, HttpDoor

PUT = "/etcdserverpb.KV/Put"


def taken(api: Api) -> int:
    """Calls of Put that were measured."""
    times = api.services.counters.method(PUT).handling
    return 0 if times is None else sum(times.frozen().counts)


def extensive() -> Api:
    api = Api()
    api.services.counters = ApiCounters(extensive=True)
    return api


def test_grpc_calls_are_measured(kind: str) -> None:
    door = GrpcDoor(extensive(), kind=kind)
    try:
        door.unary(PUT, PutRequest(key=b"k").SerializeToString())
        with pytest.raises(Exception, match="key is not provided"):
            door.unary(PUT, b"")
        assert taken(door.api) == 2
    finally:
        door.close()


def test_calls_as_json_are_measured() -> None:
    door = HttpDoor()
    try:
        door.api.services.counters.extensive = True
        door.post("/v3/kv/put", '{"key":"Zm9v"}')
        assert taken(door.api) == 1
    finally:
        door.close()


def test_nothing_is_measured_unless_asked_for() -> None:
    door = GrpcDoor()
    try:
        door.unary(PUT, PutRequest(key=b"k").SerializeToString())
        assert door.api.services.counters.method(PUT).handling is None
    finally:
        door.close()
