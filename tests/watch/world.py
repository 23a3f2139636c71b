"""A hub over a real machine in memory, and clients that keep what they were told."""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass, field

from chainfire.command import CommandKind, Envelope
from chainfire.machine import Machine, bootstrap
from chainfire.mvcc.compact import Compaction
from chainfire.mvcc.store import Mvcc
from chainfire.proto import kv_pb2
from chainfire.proto.cluster_pb2 import Member
from chainfire.proto.watch_pb2 import WatchCreateRequest, WatchRequest, WatchResponse
from chainfire.storage.backend import STATE_FAMILIES
from chainfire.storage.memory import MemoryBackend
from chainfire.types import Caster, ConfState, Entry, RequestError
from chainfire.watch.groups import Permit, Span
from chainfire.watch.hub import Hub
from chainfire.watch.session import Session


@dataclass
class Client:
    """One stream. It reads what it was told only as far as `read` says."""

    hub: Hub
    room_bytes: int = 1 << 20
    told: list[WatchResponse] = field(default_factory=list)
    caster: Caster | None = None
    address: int = 0
    keyspace: int = 0
    permit: Permit | None = None
    unread: int = 0  # bytes

    def __post_init__(self) -> None:
        self.session = Session(self.hub, self, keyspace=self.keyspace, permit=self.permit)

    @property
    def room(self) -> int:
        return self.room_bytes - self.unread

    def post(self, body: bytes) -> None:
        self.told.append(WatchResponse.FromString(body))
        self.unread += len(body)

    def read(self) -> None:
        """Everything; the door says so if there was no room."""
        was_full = self.room <= 0
        self.unread = 0
        if was_full:
            self.session.room_again()

    # ── requests ────────────────────────────────────────────────────────────

    def watch(self, key: bytes, range_end: bytes = b"", **fields: object) -> WatchResponse:
        """The answer to a create request."""
        before = len(self.told)
        create = WatchCreateRequest(key=key, range_end=range_end, **fields)  # type: ignore[arg-type]
        self.session.request(WatchRequest(create_request=create))
        return self.told[before]

    def cancel(self, watch_id: int) -> None:
        self.session.request(WatchRequest(cancel_request={"watch_id": watch_id}))

    def progress(self) -> int | None:
        """The revision up to which all was told; None: no answer."""
        before = len(self.told)
        self.session.request(WatchRequest(progress_request={}))
        if len(self.told) == before:
            return None
        assert self.told[-1].watch_id == -1
        return self.told[-1].header.revision

    # ── what was told ───────────────────────────────────────────────────────

    def events(self, watch_id: int = 0) -> list[kv_pb2.Event]:
        return [event for r in self.told if r.watch_id == watch_id for event in r.events]

    def revisions(self, watch_id: int = 0) -> list[int]:
        return [event.kv.mod_revision for event in self.events(watch_id)]

    def short(self, watch_id: int = 0) -> list[str]:
        """Events as "revision key=value", a delete as "revision key-"."""
        return [in_short(event) for event in self.events(watch_id)]


def in_short(event: kv_pb2.Event) -> str:
    kv = event.kv
    value = "-" if event.type == kv_pb2.Event.DELETE else f"={kv.value.decode()}"
    return f"{kv.mod_revision} {kv.key.decode()}{value}"


class World:
    """Commands are applied in turns of one, or of several within `turn`."""

    def __init__(self, *, sliced: bool = False) -> None:
        self.backend = MemoryBackend(STATE_FAMILIES)
        bootstrap(self.backend, [Member(ID=1)], ConfState(voters=(1,)), "3.7.0")
        self.machine = Machine(self.backend, cache_bytes=1 << 20)
        self.machine.keeps_changes = True
        self.sliced = sliced  # work goes on only in `step`
        self.work: list[Generator[None, None, None]] = []
        self.results: list[object] = []
        self.clock_ms = 0
        self._sequence = 0
        self.hub = Hub(
            self,
            self.machine.revision,
            header=header,
            run=self._run,
            may_read=lambda: self.machine.may_be_read,
            catch_up=lambda: None,
            fragment_bytes_max=4096,
        )

    @property
    def store(self) -> Mvcc:
        return self.machine.store

    def _run(self, work: Generator[None, None, None]) -> None:
        self.work.append(work)
        if not self.sliced:
            self.settle()

    def step(self) -> None:
        """One slice of the oldest work."""
        if self.work:
            work = self.work[0]
            try:
                next(work)
            except StopIteration:
                self.work.remove(work)

    def settle(self) -> None:
        while self.work:
            self.step()

    def client(self, room_bytes: int = 1 << 20, **fields: object) -> Client:
        return Client(self.hub, room_bytes, **fields)  # type: ignore[arg-type]

    # ── commands ────────────────────────────────────────────────────────────

    def apply(self, *commands: tuple[CommandKind, bytes], keyspace: int = 0) -> None:
        """One turn."""
        envelope = Envelope(
            member_id=1, start_number=1, lowest_unsettled=1, leader_clock_ms=self.clock_ms
        )
        entries = []
        for kind, body in commands:
            self._sequence += 1
            data = envelope.encode(self._sequence, kind, body, keyspace=keyspace)
            entries.append(Entry(1, self.machine.applied_index + 1 + len(entries), data=data))
        self.results = [applied.result for applied in self.machine.apply(entries)]
        while self.machine.is_unfinished:
            self.hub.applied(self.machine.take_changes(), self.machine.revision)
            self.settle()  # what is read meanwhile must be as if nothing were under way
            self.results += [applied.result for applied in self.machine.apply(entries)]
        assert not any(isinstance(result, RequestError) for result in self.results), self.results
        self.hub.applied(self.machine.take_changes(), self.machine.revision)

    def put(self, key: bytes, value: bytes = b"", *, keyspace: int = 0) -> None:
        self.apply(put(key, value), keyspace=keyspace)

    def delete(self, key: bytes, range_end: bytes = b"") -> None:
        self.apply(delete(key, range_end))

    def compact(self, revision: int, *, physical: bool = True) -> None:
        request = kv_pb2.CompactionRequest(revision=revision)
        self.apply((CommandKind.COMPACT, request.SerializeToString()))
        if physical:
            compaction = Compaction(self.backend, self.store, 0)
            while not compaction.step(3):
                pass


def header(revision: int) -> bytes:
    return WatchResponse(header=kv_pb2.ResponseHeader(revision=revision)).SerializeToString()


def put(key: bytes, value: bytes = b"") -> tuple[CommandKind, bytes]:
    return CommandKind.PUT, kv_pb2.PutRequest(key=key, value=value).SerializeToString()


def delete(key: bytes, range_end: bytes = b"") -> tuple[CommandKind, bytes]:
    request = kv_pb2.DeleteRangeRequest(key=key, range_end=range_end)
    return CommandKind.DELETE_RANGE, request.SerializeToString()


def txn(*operations: tuple[CommandKind, bytes]) -> tuple[CommandKind, bytes]:
    request = kv_pb2.TxnRequest(
        success=[
            kv_pb2.RequestOp(request_put=kv_pb2.PutRequest.FromString(body))
            if kind is CommandKind.PUT
            else kv_pb2.RequestOp(request_delete_range=kv_pb2.DeleteRangeRequest.FromString(body))
            for kind, body in operations
        ]
    )
    return CommandKind.TXN, request.SerializeToString()


def permit_only(allowed: Collection[bytes]) -> Permit:
    """Single keys, as long as `allowed` has them."""

    def permit(spans: Sequence[Span]) -> str:
        keys = [span if isinstance(span, bytes) else span[0] for span in spans]
        return "" if all(key[4:] in allowed for key in keys) else "permission denied"

    return permit
