"""URLs that a member listens on or tells others, by etcd's rules (pkg/types/urls.go).

http and https need host:port and no path; unix and unixs name a socket file,
absolute (`unix:///run/cf.sock`) or relative to the working directory.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

SCHEMES = ("http", "https", "unix", "unixs")


class BadValue(ValueError):
    """A value that its kind does not allow; the text says what is allowed."""


@dataclass(frozen=True, slots=True)
class Url:
    scheme: str
    host: str  # without brackets; empty for unix
    port: int  # 0 for unix
    path: str = ""  # the socket file; empty for http

    def __str__(self) -> str:
        if self.is_unix:
            return f"{self.scheme}://{self.path}"
        return f"{self.scheme}://{self.address}"

    @property
    def is_unix(self) -> bool:
        return self.scheme in ("unix", "unixs")

    @property
    def is_tls(self) -> bool:
        return self.scheme in ("https", "unixs")

    @property
    def address(self) -> str:
        """As gRPC names it: `host:port`, `[v6]:port` or `unix:path`."""
        if self.is_unix:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def may_be_bound(self) -> bool:
        """etcd binds addresses, never names, so that a DNS change can't move a listener."""
        return self.is_unix or self.host == "localhost" or _is_ip(self.host)


def parse_url(text: str) -> Url:
    """Raises BadValue."""
    text = text.strip()
    scheme, colon, rest = text.partition(":")
    if colon and scheme in ("unix", "unixs"):
        return _socket_file(scheme, rest.removeprefix("//"), text)
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as exc:
        raise BadValue(f"{text!r} is not a URL: {exc}") from exc
    if parts.scheme not in SCHEMES:
        raise BadValue(f"URL scheme must be http, https, unix or unixs: {text!r}")
    if port is None or parts.username is not None:
        raise BadValue(f'URL address does not have the form "host:port": {text!r}')
    if parts.path or parts.query or parts.fragment:
        raise BadValue(f"URL must not contain a path: {text!r}")
    return Url(parts.scheme, host, port)


def _socket_file(scheme: str, path: str, text: str) -> Url:
    """A file's name may look like anything, a host with a port among it."""
    path = path.strip()
    if not path or not path.isprintable() or "?" in path or "#" in path:
        raise BadValue(f"URL names no socket file: {text!r}")
    return Url(scheme, "", 0, path)


def parse_urls(text: str) -> tuple[Url, ...]:
    """A comma-separated list, in order, each once. The empty text is the empty list."""
    if not text.strip():
        return ()
    return tuple(dict.fromkeys(parse_url(part) for part in text.split(",")))


def show_urls(urls: tuple[Url, ...]) -> str:
    return ",".join(map(str, urls))


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
