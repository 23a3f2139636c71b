"""What a request's metadata may ask for, looked at once before its handler.

etcd: v3rpc/interceptor.go.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chainfire.api.call import Metadata
from chainfire.api.services import Services
from chainfire.errors import InvalidClientApiVersion, NoLeader

_CLIENT_VERSION = "client-api-version"
_HAS_LEADER = "hasleader"


def admit(services: Services, metadata: Metadata, kind: str = "unary") -> bool:
    """Whether the client requires a leader.

    Raises NoLeader where it does and there is none, InvalidClientApiVersion.
    """
    version = "unknown"
    requires_leader = False
    for key, value in metadata:
        if key == _CLIENT_VERSION:
            version = _text(value)
        elif key == _HAS_LEADER:
            requires_leader = _text(value) == "true"
    services.counters.count_client(kind, version)
    if requires_leader and not services.node.leader_id:
        raise NoLeader
    return requires_leader


@asynccontextmanager
async def admitted(services: Services, metadata: Metadata) -> AsyncIterator[None]:
    """As `admit`, around a stream, which ends if the leader it requires is lost for long."""
    if admit(services, metadata, "stream"):
        async with services.leaderless.bounded():
            yield
    else:
        yield


def _text(value: str | bytes) -> str:
    if isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError as exc:
        raise InvalidClientApiVersion from exc
