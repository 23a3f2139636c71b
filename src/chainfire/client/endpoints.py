"""Endpoints as people write them: `host:port`, `http://host:port`, `unix:///path`. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from chainfire.errors import InvalidArgument

DEFAULT = "127.0.0.1:2379"


def parse_endpoints(text: str | Sequence[str]) -> tuple[str, ...]:
    """One or several, comma-separated or as a sequence, each once. Raises InvalidArgument."""
    parts = text.split(",") if isinstance(text, str) else list(text)
    endpoints = tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
    if not endpoints:
        raise InvalidArgument("no endpoint is given; one is written as http://host:2379")
    for endpoint in endpoints:
        target(endpoint)
    return endpoints


def target(endpoint: str) -> str:
    """The endpoint as gRPC names it. Raises InvalidArgument."""
    if "://" not in endpoint and not endpoint.startswith("unix:"):
        endpoint = f"http://{endpoint}"
    if endpoint.startswith("unix:"):
        return f"unix:{endpoint.removeprefix('unix:').removeprefix('//')}"
    try:
        parts = urlsplit(endpoint)
        is_complete = bool(parts.hostname) and parts.port is not None
    except ValueError:
        parts, is_complete = urlsplit(""), False
    if parts.scheme == "https":
        raise InvalidArgument(f"endpoint {endpoint!r}: TLS is not there yet")
    if parts.scheme != "http" or not is_complete:
        raise InvalidArgument(f"endpoint {endpoint!r} is not of the form http://host:port")
    return parts.netloc
