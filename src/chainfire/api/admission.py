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


def admit(services: Services, metadata: Metadata) -> None:
    """Raises NoLeader where the client requires one and there is none, InvalidClientApiVersion."""
    if _requires_leader(services, metadata, "unary") and not services.node.leader_id:
        raise NoLeader


@asynccontextmanager
async def admitted(services: Services, metadata: Metadata) -> AsyncIterator[None]:
    """As `admit`, around a stream: NoLeader where there has been none for long, now or later."""
    if _requires_leader(services, metadata, "stream"):
        async with services.leaderless.bounded():
            yield
    else:
        yield


def _requires_leader(services: Services, metadata: Metadata, kind: str) -> bool:
    """Raises InvalidClientApiVersion."""
    version = "unknown"
    requires_leader = False
    for key, value in metadata:
        if key == _CLIENT_VERSION:
            version = _text(value)
        elif key == _HAS_LEADER:
            requires_leader = _text(value) == "true"
    services.counters.count_client(kind, version)
    return requires_leader


def _text(value: str | bytes) -> str:
    if isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError as exc:
        raise InvalidClientApiVersion from exc
