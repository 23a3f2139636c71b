"""What a request's metadata may ask for, looked at once before its handler (etcd §1.10)."""

from __future__ import annotations

from chainfire.api.call import Metadata
from chainfire.api.services import Services
from chainfire.errors import InvalidClientApiVersion, NoLeader

_CLIENT_VERSION = "client-api-version"
_HAS_LEADER = "hasleader"


def admit(services: Services, metadata: Metadata, kind: str = "unary") -> None:
    """Raises NoLeader where the client wants one and there is none, InvalidClientApiVersion."""
    version = "unknown"
    wants_leader = False
    for key, value in metadata:
        if key == _CLIENT_VERSION:
            version = _text(value)
        elif key == _HAS_LEADER:
            wants_leader = _text(value) == "true"
    services.counters.count_client(kind, version)
    if wants_leader and not services.node.leader_id:
        raise NoLeader


def requires_leader(metadata: Metadata) -> bool:
    """Whether a stream is to end when the member loses its leader."""
    return any(key == _HAS_LEADER and _text(value) == "true" for key, value in metadata)


def _text(value: str | bytes) -> str:
    if isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError as exc:
        raise InvalidClientApiVersion from exc
