"""The Lease service: what a door settles (ids, TTLs), and what is left when asked.

Time is the replicated lease clock's. Departures from etcd, for the better:
what is left of a TTL survives a change of leader; Leases is linearizable;
TTLs in milliseconds as fields of our own, with a minimum of their own.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Generator
from typing import Final

from chainfire.api import encode
from chainfire.api.call import Call, Stream
from chainfire.api.maintenance import decode
from chainfire.api.renewing import Keeper
from chainfire.api.services import Services
from chainfire.api.space import may_lack_room, over_quota, propose_growth
from chainfire.command import CommandKind, decode_request
from chainfire.errors import LeaseTtlTooLarge
from chainfire.lease import TTL_MS_MAX
from chainfire.mvcc.rows import varint
from chainfire.proto.command_pb2 import LeaseGrant
from chainfire.proto.kv_pb2 import LINEARIZABLE
from chainfire.proto.lease_pb2 import (
    LeaseGrantRequest,
    LeaseLeasesRequest,
    LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
)
from chainfire.types import AckResult

_KEYSPACE: Final = 0
TTL_MS_MIN: Final = 100  # of those that ask in milliseconds: one heartbeat as it usually is
_KEYS_PER_SLICE: Final = 500
_IDS_PER_SLICE: Final = 5000
_GRANT: Final = int(CommandKind.LEASE_GRANT)
_REVOKE: Final = int(CommandKind.LEASE_REVOKE)
_MS_PER_SECOND: Final = 1000


# ── LeaseGrant, LeaseRevoke ─────────────────────────────────────────────────


def grant(services: Services, call: Call) -> None:
    """Refused with NoSpace, LeaseTtlTooLarge, LeaseExists."""
    request = decode(LeaseGrantRequest, call.request)
    if may_lack_room(services, call.request) and over_quota(services, call, request):
        return
    ttl_ms = _ttl_ms(request, services.limits.lease_ttl_seconds_min)
    lease = request.ID or new_id()
    call.message = lease, ttl_ms
    call.then = _granted
    body = LeaseGrant(id=lease, ttl_ms=ttl_ms).SerializeToString()
    propose_growth(services.node, _GRANT, body, call, call.deadline)


def new_id() -> int:
    """A lease id that nobody has: positive, as etcd's."""
    return random.getrandbits(63) or 1


def _ttl_ms(request: LeaseGrantRequest, seconds_min: int) -> int:
    if request.TTL_ms:
        ttl_ms = max(request.TTL_ms, TTL_MS_MIN)
    else:
        ttl_ms = max(request.TTL, seconds_min) * _MS_PER_SECOND
    if ttl_ms > TTL_MS_MAX:
        raise LeaseTtlTooLarge
    return ttl_ms


def _granted(call: Call, result: AckResult) -> None:
    lease, ttl_ms = call.message
    call.reply(encode.lease_reply(call.services.header(result.revision), lease, ttl_ms))


def revoke(services: Services, call: Call) -> None:
    """The lease ends, and its keys with it, in one revision. Refused with LeaseNotFound."""
    decode_request(_REVOKE, call.request)
    call.then = _revoked
    services.node.propose(_REVOKE, call.request, call)


def _revoked(call: Call, result: AckResult) -> None:
    call.reply(call.services.header(result.revision))


# ── LeaseKeepAlive ──────────────────────────────────────────────────────────


async def keep_alive(services: Services, stream: Stream) -> None:
    """One answer per request, in order."""
    task = asyncio.current_task()
    assert task is not None
    keeper = Keeper(services.renewing, stream.post, task.cancel)
    try:
        await stream.converse(keeper.heard)
    except asyncio.CancelledError as exc:
        if keeper.error is None:
            raise
        raise keeper.error from exc
    finally:
        keeper.close()


# ── LeaseTimeToLive ─────────────────────────────────────────────────────────


def time_to_live(services: Services, call: Call) -> None:
    """Of a lease that does not exist, TTL -1. With `keys`, those attached to it, too."""
    call.message = decode(LeaseTimeToLiveRequest, call.request)
    call.resume = _time_to_live_ready
    services.node.read(LINEARIZABLE, 0, call.deadline, call)


def _time_to_live_ready(call: Call) -> None:
    services, request = call.services, call.message
    node = services.node
    header = services.header(node.store.revision)
    lease = node.machine.leases.get(_KEYSPACE, request.ID)
    if lease is None:
        gone = LeaseTimeToLiveResponse(ID=request.ID, TTL=-1)
        call.reply(header + gone.SerializeToString())
        return
    left_ms = lease.left_ms(node.lease_clock_ms)
    reply = LeaseTimeToLiveResponse(
        ID=request.ID,
        TTL=left_ms // _MS_PER_SECOND,
        grantedTTL=-(-lease.ttl_ms // _MS_PER_SECOND),
        TTL_ms=left_ms,
        grantedTTL_ms=lease.ttl_ms,
    )
    call.message = header + reply.SerializeToString()
    if request.keys:
        call.then = _keys_read
        call.run_steps(_keys_steps(services, request.ID))
    else:
        call.reply(call.message)


def _keys_steps(services: Services, lease: int) -> Generator[None, None, bytes]:
    """The keys as they stand in the reply."""
    parts = bytearray()
    keys = services.node.machine.leases.iterate_keys(services.node.store.view, _KEYSPACE, lease)
    for at, key in enumerate(keys, 1):
        parts += b"\x2a" + varint(len(key)) + key
        if at % _KEYS_PER_SLICE == 0:
            yield
    return bytes(parts)


def _keys_read(call: Call, keys: bytes) -> None:
    call.reply(call.message + keys)


# ── LeaseLeases ─────────────────────────────────────────────────────────────


def leases(services: Services, call: Call) -> None:
    """Ids of all leases, those that end first first."""
    decode(LeaseLeasesRequest, call.request)
    call.resume = _leases_ready
    services.node.read(LINEARIZABLE, 0, call.deadline, call)


def _leases_ready(call: Call) -> None:
    call.message = call.services.header(call.services.node.store.revision)
    call.then = _leases_listed
    call.run_steps(_leases_steps(call.services))


def _leases_steps(services: Services) -> Generator[None, None, bytes]:
    """Those that end first first, as they stand in the reply."""
    ids = yield from services.node.machine.leases.ids_steps(_KEYSPACE)
    parts = bytearray()
    for at, lease in enumerate(ids, 1):
        number = varint(lease)
        parts += b"\x12" + varint(len(number) + 1) + b"\x08" + number
        if at % _IDS_PER_SLICE == 0:
            yield
    return bytes(parts)


def _leases_listed(call: Call, listed: bytes) -> None:
    call.reply(call.message + listed)
