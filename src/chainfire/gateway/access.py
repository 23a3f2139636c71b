"""Who may speak to the HTTP side from a browser: host whitelist and CORS, as etcd has them.

A host that is not in the whitelist is turned away, because its name may have
been pointed at us by someone else (DNS rebinding, CVE-2018-5702). An origin
that is allowed gets the headers that tell its browser so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

ANY: Final = "*"
_ALLOWED: Final = (
    ("access-control-allow-headers", "accept, content-type, authorization"),
    ("access-control-allow-methods", "POST, GET, OPTIONS, PUT, DELETE"),
)
_MISDIRECTED: Final = (
    'this member does not go by the host name "{host}": add it to --host-whitelist, or use TLS\n'
)

Header = tuple[str, str]


class Access:
    """etcd's `--cors` and `--host-whitelist`; empty or with `*`: everybody."""

    def __init__(self, origins: Collection[str] = (), hosts: Collection[str] = ()) -> None:
        self._origins = frozenset(origins)
        self._hosts = frozenset(hosts)
        self._any_origin = not origins or ANY in origins
        self._any_host = not hosts or ANY in hosts
        self.is_open = self._any_origin and self._any_host
        self.open_headers: tuple[Header, ...] = _headers(ANY)  # of every answer, where it is open

    def refusal(self, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """What a request that is misdirected (421) is told; "" for one that may go on."""
        if self._any_host:
            return ""
        host = _hostname(_find(headers, b"host"))
        return "" if host in self._hosts else _MISDIRECTED.format(host=host)

    def headers(self, headers: Iterable[tuple[bytes, bytes]]) -> tuple[Header, ...]:
        """What an answer to a request with these headers says."""
        if self._any_origin:
            return self.open_headers
        origin = _find(headers, b"origin")
        return _headers(origin) if origin in self._origins else ()

    def lets_in(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether the page that asks for a WebSocket may have one: no browser will ask for us."""
        origin = _find(headers, b"origin")
        return self._any_origin or not origin or origin in self._origins


def _headers(origin: str) -> tuple[Header, ...]:
    return (*_ALLOWED, ("access-control-allow-origin", origin))


def _find(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in headers if key == name), "")


def _hostname(host: str) -> str:
    """Without the port, as Go's net.SplitHostPort cuts it off."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    name, colon, _ = host.rpartition(":")
    return name if colon and ":" not in name else host
