"""What `chainfire bench` loads: where it is, who answers there, and which processes these are."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import chainfire_native as native

from chainfire.cli.bench_servers import local_pids
from chainfire.client.calls import status_call
from chainfire.client.endpoints import parse_endpoints, target, uses_tls
from chainfire.client.faults import Unreachable
from chainfire.client.sync import SyncClient, connect_sync
from chainfire.client.tls import Tls
from chainfire.errors import InvalidArgument

WAIT_SECONDS: Final = 0.25
PROBE_SECONDS: Final = 2.0
AFTER_LOAD_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class System:
    """One server, or the members of one cluster."""

    name: str
    endpoints: tuple[str, ...]  # with their schemes
    targets: tuple[native.LoadTarget, ...]
    tls: Tls | None
    pids: frozenset[int]  # none: not on this machine

    @classmethod
    def at(cls, urls: str, tls: Tls | None) -> System:
        """Looks who answers at each endpoint, and asks the first for its version.

        Raises InvalidArgument, Unreachable.
        """
        parsed = parse_endpoints(urls)
        authorities = [target(endpoint) for endpoint in parsed]
        if any(authority.startswith("unix:") for authority in authorities):
            raise InvalidArgument("bench loads TCP endpoints only, of the form http://host:port")
        schemes = [
            "https" if uses_tls(endpoint, has_tls=tls is not None) else "http"
            for endpoint in parsed
        ]
        endpoints = tuple(
            f"{scheme}://{authority}"
            for scheme, authority in zip(schemes, authorities, strict=True)
        )
        addresses = [_resolve(authority) for authority in authorities]
        targets = _targets(schemes, authorities, addresses, tls)
        for endpoint, found in zip(endpoints, targets, strict=True):
            _probe(endpoint, found)
        with connect_sync(endpoints, tls=tls) as client:
            version = client.call_at(endpoints[0], status_call()).version
        name = endpoints[0].removeprefix("http://")
        return cls(f"{name} ({version})", endpoints, targets, tls, local_pids(addresses))

    def client(self) -> SyncClient:
        """Of the first endpoint; to be used with `with`."""
        return connect_sync(self.endpoints[:1], tls=self.tls)

    def revision(self) -> int:
        """Asks again while the server is busy with the ends of a load. Raises Unreachable."""
        patience = time.monotonic() + AFTER_LOAD_SECONDS
        with self.client() as client:
            while True:
                try:
                    return client.call_at(self.endpoints[0], status_call()).header.revision
                except Unreachable:
                    if time.monotonic() > patience:
                        raise
                    time.sleep(WAIT_SECONDS)


def _probe(endpoint: str, found: native.LoadTarget) -> None:
    """Raises Unreachable; InvalidArgument where somebody answers, but not as the endpoint says."""
    try:
        found.probe(PROBE_SECONDS)
    except OSError as exc:
        raise Unreachable(f"{endpoint}: {exc}") from exc
    except ValueError as exc:
        raise InvalidArgument(f"{endpoint}: {exc}") from exc


def _targets(
    schemes: Sequence[str],
    authorities: Sequence[str],
    addresses: Sequence[tuple[str, int]],
    tls: Tls | None,
) -> tuple[native.LoadTarget, ...]:
    """Raises InvalidArgument."""
    tls = tls or Tls()
    try:
        trust = native.LoadTrust(tls.ca, tls.cert, tls.key) if "https" in schemes else None
        return tuple(
            native.LoadTarget(
                f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
                authority,
                trust if scheme == "https" else None,
            )
            for scheme, authority, (host, port) in zip(schemes, authorities, addresses, strict=True)
        )
    except ValueError as exc:
        raise InvalidArgument(f"TLS: {exc}") from exc


def _resolve(authority: str) -> tuple[str, int]:
    host, _, port = authority.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except OSError as exc:
        raise InvalidArgument(f"{authority}: {exc.strerror}") from exc
    address = found[0][4]
    return str(address[0]), int(address[1])
