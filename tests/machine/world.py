"""One member's machine over the memory backend, a log to feed it, and what to compare."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
from google.protobuf.message import Message

from chainfire.command import BODY_NAMES, Envelope
from chainfire.errors import RequestError, Stalled
from chainfire.machine import Applied, Machine, bootstrap
from chainfire.mvcc.lines import Lines
from chainfire.mvcc.read import range_steps, run
from chainfire.proto.cluster_pb2 import Member
from chainfire.proto.command_pb2 import Command
from chainfire.proto.kv_pb2 import DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest
from chainfire.proto.maintenance_pb2 import AlarmRequest, AlarmType
from chainfire.storage.backend import STATE_FAMILIES, StorageBackend, WriteBatch
from chainfire.storage.memory import MemoryBackend
from chainfire.types import ConfState, Entry, RangeResult

Rows = dict[str, list[tuple[bytes, bytes]]]

CACHE_BYTES = 10_000
KIND_OF = {type(getattr(Command(), name)): number for number, name in BODY_NAMES.items()}


def bootstrapped() -> MemoryBackend:
    backend = MemoryBackend(STATE_FAMILIES)
    members = [Member(ID=1, name="one", peerURLs=["http://127.0.0.1:2380"])]
    bootstrap(backend, members, ConfState(voters=(1,)), "3.7.0")
    return backend


def opened(backend: StorageBackend) -> Machine:
    return Machine(backend, cache_bytes=CACHE_BYTES)


def applied(machine: Machine, log: list[Entry], calls_max: int = 1000) -> list[Applied]:
    """As far as so many calls go."""
    results = machine.apply(log)
    while machine.is_unfinished and (calls_max := calls_max - 1):
        results += machine.apply(log)
    return results


def applied_while_stalling(
    machine: Machine, backend: StorageBackend, log: list[Entry], monkeypatch: pytest.MonkeyPatch
) -> list[Applied]:
    """All of it, by a backend that takes every second write only. For interpreted machines."""
    write, calls = backend.write, 0

    def stalls(batch: WriteBatch) -> None:
        nonlocal calls
        calls += 1
        if calls % 2:
            raise Stalled("the disk is slow")
        write(batch)

    monkeypatch.setattr(backend, "write", stalls)
    results: list[Applied] = []
    for _ in range(100):
        try:
            results += machine.apply(log)
        except Stalled:
            continue
        if not machine.is_unfinished:
            break
    return results


def remember_lines(machine: Machine) -> None:
    """However short they are."""
    machine.store.lines = Lines(keys_min=0)


def oldest_and_youngest(machine: Machine, *, by_walking: bool = False) -> list[RangeResult]:
    """Of all keys; by what the machine remembers, if it does."""
    store, known = machine.store, machine.store.lines
    if by_walking:
        store.lines = Lines()
    found = []
    for order in (RangeRequest.ASCEND, RangeRequest.DESCEND):
        request = RangeRequest(
            key=b"\0", range_end=b"\0", limit=3, sort_target=RangeRequest.CREATE, sort_order=order
        )
        found.append(run(range_steps(store.view, store, 0, request)))
    store.lines = known
    return found


def encode(
    body: Message,
    sequence: int,
    *,
    sender: int = 1,
    start: int = 1,
    lowest: int = 1,
    clock_ms: int = 0,
    keyspace: int = 0,
) -> bytes:
    envelope = Envelope(
        member_id=sender, start_number=start, lowest_unsettled=lowest, leader_clock_ms=clock_ms
    )
    return envelope.encode(
        sequence, KIND_OF[type(body)], body.SerializeToString(), keyspace=keyspace
    )


def as_log(commands: Iterable[bytes], *, first: int = 1, term: int = 1) -> list[Entry]:
    return [Entry(term, first + at, data=data) for at, data in enumerate(commands)]


class World:
    """A machine and a log that grows by what it is told."""

    def __init__(self, backend: MemoryBackend | None = None) -> None:
        self.backend = backend if backend is not None else bootstrapped()
        self.machine = opened(self.backend)
        self._sequence = 0

    def entry(self, body: Message, *, clock_ms: int = 0, keyspace: int = 0) -> Entry:
        self._sequence += 1
        data = encode(body, self._sequence, clock_ms=clock_ms, keyspace=keyspace)
        return Entry(1, self.machine.applied_index + 1, data=data)

    def do(self, body: Message, *, clock_ms: int = 0, keyspace: int = 0) -> object:
        """Apply one command; its result."""
        entry = self.entry(body, clock_ms=clock_ms, keyspace=keyspace)
        (applied,) = self.machine.apply([entry])
        return applied.result

    def put(self, key: bytes = b"k", value: bytes = b"v") -> object:
        return self.do(PutRequest(key=key, value=value))

    def delete(self, key: bytes = b"k") -> object:
        return self.do(DeleteRangeRequest(key=key))

    def txn(self, request: TxnRequest) -> object:
        return self.do(request)

    def alarm(
        self, action: AlarmRequest.AlarmAction, type: AlarmType, member_id: int = 1
    ) -> object:
        return self.do(AlarmRequest(action=action, alarm=type, memberID=member_id))


def rows_of(backend: StorageBackend, families: Sequence[str] = STATE_FAMILIES) -> Rows:
    return {family: list(backend.iterate(family)) for family in families}


def comparable(results: Iterable[Applied]) -> list[tuple[int, int, int, int, object]]:
    """Results with errors replaced by their class, since exceptions compare by identity."""
    return [
        (
            applied.index,
            applied.member_id,
            applied.start_number,
            applied.sequence,
            type(applied.result) if isinstance(applied.result, RequestError) else applied.result,
        )
        for applied in results
    ]
