"""Three real servers that form a cluster, Chainfire's or etcd's: started, killed, asked."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

import grpc

from chainfire.proto import kv_pb2, maintenance_pb2
from tests.servers import Kind, Server, free_port

AGREE_SECONDS = 60.0


def put(server: Server, key: bytes, value: bytes = b"v", *, timeout: float = 1.0) -> bool:
    """Whether it was acknowledged."""
    with grpc.insecure_channel(server.target) as channel:
        call = channel.unary_unary(
            "/etcdserverpb.KV/Put", kv_pb2.PutRequest.SerializeToString, None
        )
        try:
            call(kv_pb2.PutRequest(key=key, value=value), timeout=timeout)
        except grpc.RpcError:
            return False
        return True


def keys(server: Server, prefix: bytes, end: bytes) -> set[bytes]:
    """By a linearizable read."""
    with grpc.insecure_channel(server.target) as channel:
        call = channel.unary_unary(
            "/etcdserverpb.KV/Range",
            kv_pb2.RangeRequest.SerializeToString,
            kv_pb2.RangeResponse.FromString,
        )
        request = kv_pb2.RangeRequest(key=prefix, range_end=end, keys_only=True)
        return {kv.key for kv in call(request, timeout=20).kvs}


def status(server: Server) -> maintenance_pb2.StatusResponse:
    with grpc.insecure_channel(server.target) as channel:
        call = channel.unary_unary(
            "/etcdserverpb.Maintenance/Status",
            maintenance_pb2.StatusRequest.SerializeToString,
            maintenance_pb2.StatusResponse.FromString,
        )
        found: maintenance_pb2.StatusResponse = call(
            maintenance_pb2.StatusRequest(), timeout=2, wait_for_ready=True
        )
        return found


class Trio:
    def __init__(self, kind: Kind, root: Path) -> None:
        ports = {name: free_port() for name in "abc"}
        members = ",".join(f"{name}=http://127.0.0.1:{port}" for name, port in ports.items())
        self.servers = {
            name: Server(
                kind,
                root / name,
                (f"--name={name}", f"--initial-cluster={members}"),
                peer_port=port,
            )
            for name, port in ports.items()
        }

    def __enter__(self) -> Self:
        for server in self.servers.values():
            server.spawn()
        for server in self.servers.values():
            server.wait_ready(AGREE_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers.values():
            server.kill()

    @property
    def targets(self) -> str:
        return ",".join(server.target for server in self.servers.values())

    def agree(self) -> str:
        """The name of the leader, once all know it and have applied the same."""
        return wait_for(self._leader)

    def _leader(self) -> str:
        found = {}
        with suppress(grpc.RpcError):
            for name, server in self.servers.items():
                found[name] = status(server)
        leaders = {one.leader for one in found.values()}
        applied = {one.raftAppliedIndex for one in found.values()}
        if len(found) < len(self.servers) or len(leaders) > 1 or len(applied) > 1:
            return ""
        return next((n for n, one in found.items() if {one.header.member_id} == leaders), "")


def wait_for(condition: Callable[[], str]) -> str:
    """What it says once that is not empty; fails after the deadline."""
    give_up = time.monotonic() + AGREE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < give_up, "it never came true"
        time.sleep(0.02)
    return found
