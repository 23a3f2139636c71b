"""The Election service: as etcd's. Who leads is whose key is the first in the line (api.claims)."""

from __future__ import annotations

from contextlib import suppress
from itertools import groupby
from typing import Final

from chainfire.api import encode
from chainfire.api.awaiting import Slow, steps
from chainfire.api.call import Call, Stream
from chainfire.api.claims import claim, delete, if_created, lease_for, line_of, proclamation
from chainfire.api.listening import Listening
from chainfire.api.maintenance import decode
from chainfire.api.reads import wait_until
from chainfire.api.services import Services
from chainfire.api.space import propose_growth
from chainfire.command import CommandKind
from chainfire.errors import (
    Compacted,
    EmptyKey,
    MissingLeaderKey,
    NobodyElected,
    NotElected,
    RequestTooLarge,
    TooManyRequests,
)
from chainfire.mvcc.read import range_steps
from chainfire.proto.election_pb2 import (
    CampaignRequest,
    CampaignResponse,
    LeaderKey,
    LeaderRequest,
    ProclaimRequest,
    ResignRequest,
)
from chainfire.proto.kv_pb2 import (
    LINEARIZABLE,
    KeyValue,
    RangeRequest,
)
from chainfire.types import RangeResult, TxnResult

_KEYSPACE: Final = 0
_TXN: Final = int(CommandKind.TXN)


# ── Campaign ────────────────────────────────────────────────────────────────


def campaign(services: Services, call: Call) -> None:
    request = decode(CampaignRequest, call.request)
    Slow(call, _campaign(services, request, call.deadline))


async def _campaign(services: Services, request: CampaignRequest, deadline: float | None) -> bytes:
    async with lease_for(services, request.lease) as lease:
        won = await claim(services, request.name, lease, request.value, deadline)
    leader = LeaderKey(name=request.name, key=won.key, rev=won.create_revision, lease=lease)
    reply = CampaignResponse(leader=leader)
    return services.header(won.revision) + reply.SerializeToString()


# ── Proclaim, Resign ────────────────────────────────────────────────────────


def proclaim(services: Services, call: Call) -> None:
    request = decode(ProclaimRequest, call.request)
    _ensure_leader_named(request)
    leader = request.leader
    body = proclamation(leader.key, leader.rev, request.value, leader.lease)
    if len(body) > services.limits.max_request_bytes:
        raise RequestTooLarge
    call.then = _proclaimed
    propose_growth(services.node, _TXN, body, call, call.deadline)


def _proclaimed(call: Call, result: TxnResult) -> None:
    if not result.succeeded:
        raise NotElected
    call.reply(call.services.header(result.revision))


def resign(services: Services, call: Call) -> None:
    request = decode(ResignRequest, call.request)
    _ensure_leader_named(request)
    call.then = _resigned
    body = if_created(request.leader.key, request.leader.rev, delete(request.leader.key))
    services.node.propose(_TXN, body, call)


def _resigned(call: Call, result: TxnResult) -> None:
    call.reply(call.services.header(result.revision))


def _ensure_leader_named(request: ProclaimRequest | ResignRequest) -> None:
    if not request.HasField("leader"):
        raise MissingLeaderKey
    if not request.leader.key:
        raise EmptyKey


# ── Leader, Observe ─────────────────────────────────────────────────────────


def leader(services: Services, call: Call) -> None:
    call.message = decode(LeaderRequest, call.request)
    call.resume = _leader_ready
    services.node.read(LINEARIZABLE, 0, call.deadline, call)


def _leader_ready(call: Call) -> None:
    node = call.services.node
    request = _candidates(call.message.name, limit=1)
    call.then = _leader_read
    call.run_steps(range_steps(node.store.view, node.store, _KEYSPACE, request))


def _candidates(name: bytes, *, limit: int = 0) -> RangeRequest:
    """All keys of the line, or the first of them."""
    key, range_end = line_of(name)
    return RangeRequest(
        key=key,
        range_end=range_end,
        sort_target=RangeRequest.CREATE,
        sort_order=RangeRequest.ASCEND,
        limit=limit,
    )


def _leader_read(call: Call, result: RangeResult) -> None:
    if not result.rows:
        raise NobodyElected
    call.reply(encode.leader_reply(call.services.header(result.revision), result.rows[0]))


async def observe(services: Services, stream: Stream) -> None:
    """Each value of each leader, from the present one on; none while there is no leader."""
    name = decode(LeaderRequest, stream.request).name
    await wait_until(services.node, LINEARIZABLE, deadline=stream.deadline)
    observer = _Observer(services, stream, name)
    while True:
        with suppress(Compacted, TooManyRequests):  # too far behind: on from the present leader
            await observer.follow()


class _Observer:
    def __init__(self, services: Services, stream: Stream, name: bytes) -> None:
        self._services = services
        self._stream = stream
        self._name = name
        self._line: dict[bytes, bytes] = {}  # key: its KeyValue, in the order of creation
        self._told = b""  # the KeyValue that was sent last

    async def follow(self) -> None:
        """As long as it keeps up. Raises Compacted, TooManyRequests."""
        services, node = self._services, self._services.node
        with Listening(services, *line_of(self._name)) as listening:
            revision = services.watches.revision  # what comes later is heard
            request = _candidates(self._name)
            request.revision = revision
            work = range_steps(node.store.view, node.store, _KEYSPACE, request)
            found = await steps(node, work)
            self._line = {KeyValue.FromString(row).key: row for row in found.rows}
            await self._tell(revision)
            while True:
                for main, events in groupby(await listening.next(), lambda event: event.main):
                    for event in events:
                        if event.row is None:
                            self._line.pop(event.key, None)
                        else:
                            self._line[event.key] = event.row
                    await self._tell(main)

    async def _tell(self, revision: int) -> None:
        leader = next(iter(self._line.values()), None)
        if leader is not None and leader != self._told:
            self._told = leader
            header = self._services.header(revision)
            await self._stream.send(encode.leader_reply(header, leader))
