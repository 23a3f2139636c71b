"""Clusters of real processes: started with etcd's flags, killed, paused, wiped, cut off.

Rules as in servers.py. With `proxied`, members reach each other through proxies of ours, so that
a test can cut any of them off in either direction; etcd does without.
"""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import grpc

from chainfire.node.identity import member_id
from chainfire.proto import kv_pb2, maintenance_pb2
from tests.proxy import Proxies, Proxy
from tests.servers import READY_SECONDS, Kind, Server, ServerFailed, free_port

TOKEN = "test-cluster"
REDIALLING = (  # options of a channel that tries again soon, and shares no connection
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(slots=True)
class Member(Server):
    """One of a cluster's processes."""

    state: str = "new"
    peer_url: str = ""  # where the others reach it
    id: int = 0
    proxy: Proxy | None = None

    def command(self) -> list[str]:
        return [
            *self.prefix,
            *self.kind.command,
            f"--name={self.name}",
            f"--data-dir={self.data_dir}",
            f"--listen-client-urls={self.url}",
            f"--advertise-client-urls={self.url}",
            f"--listen-peer-urls=http://{self.host}:{self.peer_port}",
            f"--initial-advertise-peer-urls={self.peer_url}",
            f"--initial-cluster={self.initial_cluster}",
            f"--initial-cluster-state={self.state}",
            f"--initial-cluster-token={TOKEN}",
            *self.flags,
        ]

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def pause(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def wipe(self) -> None:
        """Its disk is lost. Only while it does not run."""
        assert not self.runs
        shutil.rmtree(self.data_dir)

    def call(self, path: str, request: Any, reply: Any, seconds: float = 5.0) -> Any:
        """One call to this member, on a connection of its own. Raises grpc.RpcError."""
        with grpc.insecure_channel(self.target) as channel:
            answer = channel.unary_unary(f"/etcdserverpb.{path}")(
                request.SerializeToString(), timeout=seconds
            )
            return reply.FromString(answer)

    def status(self) -> Any:
        request = maintenance_pb2.StatusRequest()
        return self.call("Maintenance/Status", request, maintenance_pb2.StatusResponse)

    def put(self, key: bytes, value: bytes, seconds: float = 5.0) -> int:
        """The revision."""
        reply = self.call(
            "KV/Put", kv_pb2.PutRequest(key=key, value=value), kv_pb2.PutResponse, seconds
        )
        return int(reply.header.revision)

    def get(self, key: bytes, seconds: float = 5.0, *, serializable: bool = False) -> bytes | None:
        request = kv_pb2.RangeRequest(key=key, serializable=serializable)
        reply = self.call("KV/Range", request, kv_pb2.RangeResponse, seconds)
        return bytes(reply.kvs[0].value) if reply.kvs else None

    def hash_at(self, revision: int) -> tuple[int, int]:
        """(hash, compact revision) of everything up to a revision."""
        request = maintenance_pb2.HashKVRequest(revision=revision)
        reply = self.call("Maintenance/HashKV", request, maintenance_pb2.HashKVResponse, seconds=20)
        return int(reply.hash), int(reply.compact_revision)


class Cluster:
    """Use with `with`: `start` it, and everything ends with the block."""

    def __init__(
        self,
        kind: Kind,
        directory: Path,
        size: int = 3,
        flags: Sequence[str] = (),
        *,
        proxied: bool = False,
        prepare: Callable[[Member], object] | None = None,
    ) -> None:
        """`prepare` gives a member its place (`host`, `prefix`) before its URLs are made."""
        self.kind = kind
        self.directory = directory
        self.flags = tuple(flags)
        self.members: list[Member] = []
        self._proxies = Proxies() if proxied else None
        self._prepare = prepare
        for number in range(1, size + 1):
            self.members.append(self._make(f"m{number}"))
        urls = ",".join(f"{member.name}={member.peer_url}" for member in self.members)
        for member in self.members:
            member.initial_cluster = urls

    def _make(self, name: str) -> Member:
        member = Member(self.kind, self.directory / name, self.flags, name=name)
        member.port, member.peer_port = free_port(), free_port()
        reached_at = member.peer_port
        if self._proxies is not None:
            member.proxy = self._proxies.add(member.peer_port)
            reached_at = member.proxy.port
        if self._prepare is not None:
            self._prepare(member)
        member.peer_url = f"http://{member.host}:{reached_at}"
        member.id = member_id([member.peer_url], TOKEN)
        return member

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.members:
            if member.runs:
                member.resume()
            member.kill()
        if self._proxies is not None:
            self._proxies.close()

    # ── life ────────────────────────────────────────────────────────────────

    def start(self, seconds: float = READY_SECONDS) -> Self:
        """All members; returns when each of them answers a linearizable read."""
        for member in self.members:
            member.spawn()
        self.wait_ready(seconds)
        return self

    def wait_ready(self, seconds: float = READY_SECONDS) -> None:
        for member in self.running:
            member.wait_ready(seconds)

    def joining(self, name: str) -> Member:
        """A member to be added: not started, and unknown to the cluster yet."""
        member = self._make(name)
        member.state = "existing"
        known = [f"{other.name}={other.peer_url}" for other in self.members]
        member.initial_cluster = ",".join([*known, f"{name}={member.peer_url}"])
        self.members.append(member)
        return member

    @property
    def running(self) -> list[Member]:
        return [member for member in self.members if member.runs]

    @property
    def endpoints(self) -> list[str]:
        return [member.target for member in self.members]

    def log(self) -> str:
        return "\n".join(f"── {m.name}\n{m.log()}" for m in self.members if m.log_path.exists())

    # ── who leads ───────────────────────────────────────────────────────────

    def leader(self, seconds: float = READY_SECONDS) -> Member:
        """The member that a majority of those that answer follow."""
        found: list[Member] = []

        def agreed() -> bool:
            answers = [(member, self._status(member)) for member in self.members]
            statuses = [(member, status) for member, status in answers if status is not None]
            leaders = {status.leader for _, status in statuses}
            found[:] = [m for m, s in statuses if leaders == {s.header.member_id}]
            return bool(found)

        self.wait(agreed, "no leader that all follow", seconds)
        return found[0]

    def _status(self, member: Member) -> Any:
        if not member.runs:
            return None
        try:
            return member.status()
        except grpc.RpcError:
            return None

    def followers(self) -> list[Member]:
        leader = self.leader()
        return [member for member in self.running if member is not leader]

    def move_leader(self, to: Member, seconds: float = READY_SECONDS) -> None:
        """Returns when it leads, and all follow it."""

        def leads() -> bool:
            leader = self.leader()
            if leader is not to:
                request = maintenance_pb2.MoveLeaderRequest(targetID=to.id)
                with suppress(grpc.RpcError):
                    reply = maintenance_pb2.MoveLeaderResponse
                    leader.call("Maintenance/MoveLeader", request, reply)
            return leader is to

        self.wait(leads, f"{to.name} does not become the leader", seconds)

    # ── faults of the network ───────────────────────────────────────────────

    def cut_off(self, *members: Member) -> None:
        """These talk to each other, the others to each other, and nobody across."""
        assert self._proxies is not None
        ids = {member.id for member in self.members}
        inside = {member.id for member in members}
        for member in self.members:
            assert member.proxy is not None
            other_side = ids - inside if member.id in inside else inside
            self._proxies.run(member.proxy.cut(other_side))

    def run_proxy(self, work: Coroutine[Any, Any, None]) -> None:
        """Let one of the members' proxies do something."""
        assert self._proxies is not None
        self._proxies.run(work)

    def heal(self) -> None:
        assert self._proxies is not None
        for member in self.members:
            assert member.proxy is not None
            self._proxies.run(member.proxy.heal())

    # ── what must hold ──────────────────────────────────────────────────────

    def wait(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        give_up = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > give_up:
                raise ServerFailed(f"{what} within {seconds} s", self.log())
            time.sleep(0.02)

    def wait_equal(self, members: Iterable[Member] = (), seconds: float = READY_SECONDS) -> int:
        """Returns the revision at which all hold the same, to the byte."""
        members = list(members) or self.running
        revisions: list[int] = []

        def caught_up() -> bool:
            statuses = [self._status(member) for member in members]
            revisions[:] = [s.header.revision for s in statuses if s is not None]
            return len(revisions) == len(members) and len(set(revisions)) == 1

        self.wait(caught_up, "members did not catch up", seconds)
        hashes = {member.name: member.hash_at(revisions[0]) for member in members}
        assert len(set(hashes.values())) == 1, json.dumps(hashes)
        return revisions[0]
