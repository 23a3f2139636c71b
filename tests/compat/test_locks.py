"""Locks and elections: our services against etcd's, and the stock etcdctl in the same line."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from chainfire.api.table import METHODS
from chainfire.proto.election_pb2 import (
    CampaignRequest,
    LeaderKey,
    LeaderRequest,
    ProclaimRequest,
    ResignRequest,
)
from chainfire.proto.kv_pb2 import PutRequest, RangeRequest
from chainfire.proto.lease_pb2 import LeaseGrantRequest, LeaseRevokeRequest
from chainfire.proto.lock_pb2 import LockRequest, UnlockRequest
from tests.compat.ctl import Ctl
from tests.servers import Server

LOCK, ELECTION = "/v3lockpb.Lock/", "/v3electionpb.Election/"
LEASE, KV = "/etcdserverpb.Lease/", "/etcdserverpb.KV/"
SECONDS = 20


class Client:
    """Calls by path, with answers in a form that two servers can share."""

    def __init__(self, target: str) -> None:
        self._channel = grpc.insecure_channel(target)

    def close(self) -> None:
        self._channel.close()

    def start(self, path: str, request: Message) -> Any:
        body = request.SerializeToString()
        return self._channel.unary_unary(path).future(body, timeout=SECONDS)

    def answer(self, path: str, call: Any) -> object:
        try:
            body = call.result()
        except grpc.RpcError as error:
            # Not the code: etcd's own services pass errors on through a client, as UNKNOWN.
            return error.details()  # type: ignore[attr-defined]
        return _comparable(METHODS[path].reply_type.FromString(body))

    def __call__(self, path: str, request: Message) -> object:
        return self.answer(path, self.start(path, request))

    def observe(self, name: bytes) -> Any:
        body = LeaderRequest(name=name).SerializeToString()
        return self._channel.unary_stream(ELECTION + "Observe")(body, timeout=SECONDS)


def _comparable(reply: Any) -> Message:
    reply.header.cluster_id = reply.header.member_id = reply.header.raft_term = 0
    for ours in ("revision", "TTL_ms", "grantedTTL_ms"):  # fields that etcd does not have
        if ours in reply.DESCRIPTOR.fields_by_name:
            reply.ClearField(ours)
    return reply  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def clients(ours: Server, theirs: Server) -> Iterator[tuple[Client, Client]]:
    both = Client(ours.target), Client(theirs.target)
    yield both
    for client in both:
        client.close()


Play = Callable[[Client], list[object]]


def lock_alone(do: Client) -> list[object]:
    do(LEASE + "LeaseGrant", LeaseGrantRequest(ID=0x11, TTL=100))
    return [
        do(LOCK + "Lock", LockRequest(name=b"l", lease=0x11)),
        do(KV + "Range", RangeRequest(key=b"l/11")),
        do(LOCK + "Unlock", UnlockRequest(key=b"l/11")),
        do(LOCK + "Unlock", UnlockRequest(key=b"l/11")),
        do(LOCK + "Unlock", UnlockRequest()),
        do(LOCK + "Lock", LockRequest(name=b"l", lease=0x77)),
        do(KV + "Range", RangeRequest(key=b"l/", range_end=b"l0")),
    ]


def lock_asked_again(do: Client) -> list[object]:
    """The last play: ours writes the key once more, so that revisions differ from then on."""
    do(LEASE + "LeaseGrant", LeaseGrantRequest(ID=0x12, TTL=100))
    asked = [do(LOCK + "Lock", LockRequest(name=b"a", lease=0x12)) for _ in range(3)]
    do(LEASE + "LeaseRevoke", LeaseRevokeRequest(ID=0x12))
    left = do(KV + "Range", RangeRequest(key=b"a/", range_end=b"a0"))
    return [*(answer.key for answer in asked), left.count]  # type: ignore[attr-defined]


def lock_in_line(do: Client) -> list[object]:
    for lease in (0x21, 0x22):
        do(LEASE + "LeaseGrant", LeaseGrantRequest(ID=lease, TTL=100))
    first = do(LOCK + "Lock", LockRequest(name=b"q", lease=0x22))
    waiting = do.start(LOCK + "Lock", LockRequest(name=b"q", lease=0x21))
    while do(KV + "Range", RangeRequest(key=b"q/21")).count == 0:  # type: ignore[attr-defined]
        pass
    assert not waiting.done()
    unlocked = do(LOCK + "Unlock", UnlockRequest(key=b"q/22"))
    return [first, unlocked, do.answer(LOCK + "Lock", waiting)]


def lease_lost_in_line(do: Client) -> list[object]:
    for lease in (0x31, 0x32):
        do(LEASE + "LeaseGrant", LeaseGrantRequest(ID=lease, TTL=100))
    do(LOCK + "Lock", LockRequest(name=b"s", lease=0x31))
    waiting = do.start(LOCK + "Lock", LockRequest(name=b"s", lease=0x32))
    while do(KV + "Range", RangeRequest(key=b"s/32")).count == 0:  # type: ignore[attr-defined]
        pass
    do(LEASE + "LeaseRevoke", LeaseRevokeRequest(ID=0x32))
    do(LOCK + "Unlock", UnlockRequest(key=b"s/31"))
    return [do.answer(LOCK + "Lock", waiting), do(KV + "Range", RangeRequest(key=b"s/32"))]


def election(do: Client) -> list[object]:
    for lease in (0x41, 0x42):
        do(LEASE + "LeaseGrant", LeaseGrantRequest(ID=lease, TTL=100))
    nobody = do(ELECTION + "Leader", LeaderRequest(name=b"e"))
    first = do(ELECTION + "Campaign", CampaignRequest(name=b"e", lease=0x41, value=b"a"))
    leader: LeaderKey = first.leader  # type: ignore[attr-defined]
    waiting = do.start(ELECTION + "Campaign", CampaignRequest(name=b"e", lease=0x42, value=b"b"))
    while do(KV + "Range", RangeRequest(key=b"e/42")).count == 0:  # type: ignore[attr-defined]
        pass
    return [
        nobody,
        first,
        do(ELECTION + "Leader", LeaderRequest(name=b"e")),
        do(ELECTION + "Proclaim", ProclaimRequest(leader=leader, value=b"a2")),
        do(ELECTION + "Leader", LeaderRequest(name=b"e")),
        do(ELECTION + "Resign", ResignRequest(leader=leader)),
        do.answer(ELECTION + "Campaign", waiting).leader,  # type: ignore[attr-defined]
        do(ELECTION + "Proclaim", ProclaimRequest(leader=leader, value=b"a3")),
        do(ELECTION + "Resign", ResignRequest(leader=leader)),
        do(ELECTION + "Leader", LeaderRequest(name=b"e")),
        do(ELECTION + "Proclaim", ProclaimRequest(value=b"x")),
        do(ELECTION + "Resign", ResignRequest()),
    ]


def observed(do: Client) -> list[object]:
    do(LEASE + "LeaseGrant", LeaseGrantRequest(ID=0x51, TTL=100))
    stream = do.observe(b"o")
    told: queue.Queue[object] = queue.Queue()

    def read() -> None:
        try:
            for body in stream:
                reply = METHODS[ELECTION + "Observe"].reply_type.FromString(body)
                told.put(_comparable(reply).kv)  # type: ignore[attr-defined]
        except grpc.RpcError as error:
            told.put(error.code())  # type: ignore[attr-defined]

    threading.Thread(target=read, daemon=True).start()
    request = CampaignRequest(name=b"o", lease=0x51, value=b"a")
    leader = do(ELECTION + "Campaign", request).leader  # type: ignore[attr-defined]
    heard = [told.get(timeout=SECONDS)]
    do(ELECTION + "Proclaim", ProclaimRequest(leader=leader, value=b"b"))
    heard.append(told.get(timeout=SECONDS))
    do(KV + "Put", PutRequest(key=b"o/next", value=b"c"))
    do(ELECTION + "Resign", ResignRequest(leader=leader))
    heard.append(told.get(timeout=SECONDS))
    stream.cancel()
    heard.append(told.get(timeout=SECONDS))
    return heard


PLAYS = [lock_alone, lock_in_line, lease_lost_in_line, election, observed, lock_asked_again]


@pytest.mark.parametrize("play", PLAYS)
def test_answers_are_etcds(play: Play, clients: tuple[Client, Client]) -> None:
    ours, theirs = (play(client) for client in clients)
    assert ours == theirs


# ── etcdctl ─────────────────────────────────────────────────────────────────


class Shell:
    """An etcdctl that runs until it is ended; its lines as they come."""

    def __init__(self, ctl: Ctl, *command: str) -> None:
        self._process = subprocess.Popen(
            [ctl.program, f"--endpoints={ctl.target}", *command],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "ETCDCTL_API": "3"},
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._lines.put(line.rstrip("\n"))

    def line(self) -> str:
        return self._lines.get(timeout=SECONDS)

    @property
    def is_silent(self) -> bool:
        return self._lines.empty()

    def end(self, how: signal.Signals) -> None:
        self._process.send_signal(how)
        self._process.wait(SECONDS)
        self._reader.join(SECONDS)


@contextmanager
def shell(ctl: Ctl, *command: str) -> Iterator[Shell]:
    opened = Shell(ctl, *command)
    try:
        yield opened
    finally:
        opened.end(signal.SIGKILL)


def test_two_shells_hand_a_lock_over(ctl: Ctl) -> None:
    with shell(ctl, "lock", "hand") as first:
        held = first.line()
        assert re.fullmatch(r"hand/[0-9a-f]{8,16}", held)
        with shell(ctl, "lock", "hand") as second:
            while len(ctl("get hand/ --prefix --keys-only").out.split()) < 2:
                pass
            assert second.is_silent
            first.end(signal.SIGINT)
            assert second.line().startswith("hand/")


def test_a_killed_holders_lock_is_free_when_its_lease_ends(ctl: Ctl) -> None:
    with shell(ctl, "lock", "dies", "--ttl=2") as first:
        first.line()
        with shell(ctl, "lock", "dies") as second:
            first.end(signal.SIGKILL)
            assert second.line().startswith("dies/")


def test_a_command_runs_under_the_lock_with_its_key_and_revision(
    ctl: Ctl, ctl_of_peer: Ctl
) -> None:
    for command in (
        'lock run -- sh -c "echo $ETCD_LOCK_KEY $ETCD_LOCK_REV | cut -c1-4"',
        "lock run -- false",
    ):
        assert ctl(command) == ctl_of_peer(command)
    assert ctl("get run/ --prefix").out == ""


def test_the_service_and_etcdctl_stand_in_one_line(
    ctl: Ctl, clients: tuple[Client, Client]
) -> None:
    do, _ = clients
    with shell(ctl, "lock", "mixed") as holder:
        holder.line()
        do(LEASE + "LeaseGrant", LeaseGrantRequest(ID=0x61, TTL=100))
        waiting = do.start(LOCK + "Lock", LockRequest(name=b"mixed", lease=0x61))
        while do(KV + "Range", RangeRequest(key=b"mixed/61")).count == 0:  # type: ignore[attr-defined]
            pass
        with shell(ctl, "lock", "mixed") as third:
            assert not waiting.done()
            holder.end(signal.SIGINT)
            assert waiting.result()
            while len(ctl("get mixed/ --prefix --keys-only").out.split()) < 2:
                pass
            assert third.is_silent
            do(LOCK + "Unlock", UnlockRequest(key=b"mixed/61"))
            assert third.line().startswith("mixed/")


def test_an_election_between_shells_with_a_listener(ctl: Ctl) -> None:
    with shell(ctl, "elect", "board", "one") as first, shell(ctl, "elect", "-l", "board") as heard:
        key = first.line()
        assert (key[:6], first.line()) == ("board/", "one")
        assert (heard.line(), heard.line()) == (key, "one")
        with shell(ctl, "elect", "board", "two") as second:
            while len(ctl("get board/ --prefix --keys-only").out.split()) < 2:
                pass
            assert second.is_silent
            first.end(signal.SIGINT)
            other = second.line()
            assert (other[:6], second.line()) == ("board/", "two")
            assert (heard.line(), heard.line()) == (other, "two")
