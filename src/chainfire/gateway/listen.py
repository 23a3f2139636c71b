"""Listen URLs, as etcd's flags have them, and the sockets that doors serve on."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from chainfire.errors import ConfigError

if TYPE_CHECKING:
    from chainfire.gateway.tls import Certificates

_UNIX = ("unix", "unixs")
_BACKLOG = 1024


@dataclass(slots=True, frozen=True)
class Address:
    """Where to listen: an IP address and port, or the path of a socket."""

    url: str
    host: str = ""
    port: int = 0
    unix_path: str = ""
    is_tls: bool = False

    @classmethod
    def of(cls, url: str) -> Address:
        """Raises ConfigError for what no door can listen on."""
        parts = urlsplit(url)
        if parts.scheme in _UNIX and (parts.netloc or parts.path):
            return cls(url, unix_path=parts.netloc + parts.path, is_tls=parts.scheme == "unixs")
        try:
            host, port = parts.hostname, parts.port
        except ValueError as exc:
            raise ConfigError(f"{url}: {exc}") from exc
        if parts.scheme not in ("http", "https") or not host or port is None:
            raise ConfigError(f"{url}: expected http://HOST:PORT or unix://PATH")
        # As Go listens: one address, so that it cannot be half taken by another process.
        host = "127.0.0.1" if host == "localhost" else host
        return cls(url, host=host, port=port, is_tls=parts.scheme == "https")


def addresses(urls: Sequence[str], certificates: Certificates | None) -> list[Address]:
    """Raises ConfigError for what no door can listen on, TLS without a certificate among it."""
    found = [Address.of(url) for url in urls]
    for address in found:
        if address.is_tls and certificates is None:
            raise ConfigError(f"{address.url}: TLS needs a certificate: --cert-file, --key-file")
    return found


def ensure_free(address: Address) -> None:
    """Raises ConfigError if somebody listens there already."""
    if not address.unix_path:
        bind(address).close()


def bind(address: Address) -> socket.socket:
    """A socket that listens. Raises ConfigError naming the URL that cannot be had."""
    try:
        if address.unix_path:
            path = Path(address.unix_path)
            if path.is_socket():  # left behind by a process that died
                path.unlink()
            made = socket.socket(socket.AF_UNIX)
            try:
                made.bind(address.unix_path)
                made.listen(_BACKLOG)
            except OSError:
                made.close()
                raise
            return made
        is_v6 = ":" in address.host
        return socket.create_server(
            (address.host, address.port),
            family=socket.AF_INET6 if is_v6 else socket.AF_INET,
            backlog=_BACKLOG,
            dualstack_ipv6=address.host == "::" and socket.has_dualstack_ipv6(),
        )
    except OSError as exc:
        raise ConfigError(f"cannot listen on {address.url}: {exc.strerror or exc}") from exc
