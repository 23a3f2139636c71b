"""Listen URLs, as etcd's flags have them, and what a door binds to."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from chainfire.errors import ConfigError

_UNIX = ("unix", "unixs")


@dataclass(slots=True, frozen=True)
class Address:
    """Where to listen: a host and port, or the path of a socket."""

    url: str
    host: str = ""
    port: int = 0
    unix_path: str = ""

    @classmethod
    def of(cls, url: str) -> Address:
        """Raises ConfigError for what no door can listen on."""
        parts = urlsplit(url)
        if parts.scheme in _UNIX and (parts.netloc or parts.path):
            return cls(url, unix_path=parts.netloc + parts.path)
        try:
            host, port = parts.hostname, parts.port
        except ValueError as exc:
            raise ConfigError(f"{url}: {exc}") from exc
        if parts.scheme not in ("http", "https") or not host or port is None:
            raise ConfigError(f"{url}: expected http://HOST:PORT or unix://PATH")
        if parts.scheme == "https":
            raise ConfigError(f"{url}: TLS is not available yet; use http:// or unix://")
        return cls(url, host=host, port=port)
