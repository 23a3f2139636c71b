"""Endpoints as people write them: `host:port`, `https://host:port`, `unix:///path`. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from chainfire.errors import InvalidArgument

DEFAULT = "127.0.0.1:2379"
_SOCKETS = ("unix:", "unixs:")


def parse_endpoints(text: str | Sequence[str]) -> tuple[str, ...]:
    """One or several, comma-separated or as a sequence, each once. Raises InvalidArgument."""
    parts = text.split(",") if isinstance(text, str) else list(text)
    endpoints = tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
    if not endpoints:
        raise InvalidArgument("no endpoint is given; one is written as http://host:2379")
    for endpoint in endpoints:
        target(endpoint)
    return endpoints


def uses_tls(endpoint: str, *, has_tls: bool) -> bool:
    """What the scheme says; without one, TLS if there is something for it (`has_tls`), as etcd."""
    if "://" in endpoint or endpoint.startswith(_SOCKETS):
        return endpoint.startswith(("https://", "unixs:"))
    return has_tls


def target(endpoint: str) -> str:
    """The endpoint as gRPC names it. Raises InvalidArgument."""
    if endpoint.startswith(_SOCKETS):
        return f"unix:{endpoint.partition(':')[2].removeprefix('//')}"
    if "://" not in endpoint:
        endpoint = f"http://{endpoint}"
    try:
        parts = urlsplit(endpoint)
        is_complete = bool(parts.hostname) and parts.port is not None
    except ValueError:
        parts, is_complete = urlsplit(""), False
    if parts.scheme not in ("http", "https") or not is_complete:
        raise InvalidArgument(f"endpoint {endpoint!r} is not of the form http://host:port")
    return parts.netloc
