"""Leases, locks and elections as requests and answers. Pure.

A keep-alive travels as a stream of one request and one answer, which on the
wire is an ordinary call: so it fails over as calls do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from chainfire.client.calls import Call
from chainfire.client.keys import Text, to_bytes
from chainfire.client.values import KeyValue, kv_of
from chainfire.errors import InvalidArgument
from chainfire.proto import election_pb2, lease_pb2, lock_pb2

_LEASE, _LOCK = "/etcdserverpb.Lease/", "/v3lockpb.Lock/"
_ELECTION = "/v3electionpb.Election/"
OBSERVE = _ELECTION + "Observe"


@dataclass(frozen=True, slots=True)
class Lease:
    id: int
    ttl_seconds: float  # as granted: it may be more than was asked for


@dataclass(frozen=True, slots=True)
class LeaseStatus:
    """What is left of a lease. Of one that does not exist: nothing, and nothing was granted."""

    id: int
    left_seconds: float
    granted_seconds: float
    keys: tuple[bytes, ...] = ()  # if asked for

    @property
    def exists(self) -> bool:
        return self.granted_seconds > 0


@dataclass(frozen=True, slots=True)
class Held:
    """A lock or an election that was won. The higher the revision, the later its holder:
    whatever is guarded can refuse those that come with a lower one (a fencing token).
    """

    key: bytes
    revision: int  # of the key's creation
    lease: int


# ── leases ──────────────────────────────────────────────────────────────────


def grant_call(ttl_seconds: float, lease: int) -> Call[lease_pb2.LeaseGrantResponse]:
    if not math.isfinite(ttl_seconds):
        raise InvalidArgument(f"a TTL of {ttl_seconds} seconds")
    request = lease_pb2.LeaseGrantRequest(TTL=math.ceil(ttl_seconds), ID=lease)
    if ttl_seconds % 1:
        request.TTL_ms = round(ttl_seconds * 1000)  # etcd does not know it, and takes the seconds
    return Call(_LEASE + "LeaseGrant", request, lease_pb2.LeaseGrantResponse, is_read=False)


def lease_of(reply: lease_pb2.LeaseGrantResponse) -> Lease:
    return Lease(reply.ID, _seconds(reply.TTL, reply.TTL_ms))


def _seconds(seconds: int, milliseconds: int) -> float:
    return milliseconds / 1000 if milliseconds else float(max(seconds, 0))


def revoke_call(lease: int) -> Call[lease_pb2.LeaseRevokeResponse]:
    request = lease_pb2.LeaseRevokeRequest(ID=lease)
    return Call(_LEASE + "LeaseRevoke", request, lease_pb2.LeaseRevokeResponse, is_read=False)


def keep_alive_call(lease: int) -> Call[lease_pb2.LeaseKeepAliveResponse]:
    request = lease_pb2.LeaseKeepAliveRequest(ID=lease)
    return Call(_LEASE + "LeaseKeepAlive", request, lease_pb2.LeaseKeepAliveResponse, is_read=True)


def kept_seconds(reply: lease_pb2.LeaseKeepAliveResponse) -> float:
    """0: there is no such lease."""
    return _seconds(reply.TTL, reply.TTL_ms)


def status_call(lease: int, *, keys: bool) -> Call[lease_pb2.LeaseTimeToLiveResponse]:
    request = lease_pb2.LeaseTimeToLiveRequest(ID=lease, keys=keys)
    reply = lease_pb2.LeaseTimeToLiveResponse
    return Call(_LEASE + "LeaseTimeToLive", request, reply, is_read=True)


def lease_status_of(reply: lease_pb2.LeaseTimeToLiveResponse) -> LeaseStatus:
    return LeaseStatus(
        reply.ID,
        _seconds(reply.TTL, reply.TTL_ms),
        _seconds(reply.grantedTTL, reply.grantedTTL_ms),
        tuple(reply.keys),
    )


def leases_call() -> Call[lease_pb2.LeaseLeasesResponse]:
    request = lease_pb2.LeaseLeasesRequest()
    return Call(_LEASE + "LeaseLeases", request, lease_pb2.LeaseLeasesResponse, is_read=True)


# ── locks and elections: with a lease that is the caller's they may be sent twice ───


def lock_call(name: Text, lease: int) -> Call[lock_pb2.LockResponse]:
    request = lock_pb2.LockRequest(name=to_bytes(name), lease=lease)
    return Call(_LOCK + "Lock", request, lock_pb2.LockResponse, is_read=True)


def unlock_call(key: bytes) -> Call[lock_pb2.UnlockResponse]:
    request = lock_pb2.UnlockRequest(key=key)
    return Call(_LOCK + "Unlock", request, lock_pb2.UnlockResponse, is_read=True)


def campaign_call(name: Text, lease: int, value: Text) -> Call[election_pb2.CampaignResponse]:
    request = election_pb2.CampaignRequest(name=to_bytes(name), lease=lease, value=to_bytes(value))
    return Call(_ELECTION + "Campaign", request, election_pb2.CampaignResponse, is_read=True)


def proclaim_call(
    leader: election_pb2.LeaderKey, value: Text
) -> Call[election_pb2.ProclaimResponse]:
    request = election_pb2.ProclaimRequest(leader=leader, value=to_bytes(value))
    return Call(_ELECTION + "Proclaim", request, election_pb2.ProclaimResponse, is_read=False)


def resign_call(leader: election_pb2.LeaderKey) -> Call[election_pb2.ResignResponse]:
    request = election_pb2.ResignRequest(leader=leader)
    return Call(_ELECTION + "Resign", request, election_pb2.ResignResponse, is_read=True)


def leader_call(name: Text) -> Call[election_pb2.LeaderResponse]:
    request = election_pb2.LeaderRequest(name=to_bytes(name))
    return Call(_ELECTION + "Leader", request, election_pb2.LeaderResponse, is_read=True)


def observe_request(name: Text) -> bytes:
    return election_pb2.LeaderRequest(name=to_bytes(name)).SerializeToString()


def leader_of(reply: election_pb2.LeaderResponse) -> KeyValue:
    return kv_of(reply.kv)
