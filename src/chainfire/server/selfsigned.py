"""Certificates of our own making, for `--auto-tls` and `--peer-auto-tls`.

They lie where etcd keeps its own, `fixtures/client` and `fixtures/peer` in the
data directory, and are made anew when their time is nearly over. Making one is
the native wheel's work: without it there is no auto-tls.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from chainfire.config import Config, PeerTlsConfig, TlsConfig
from chainfire.config.urls import Url
from chainfire.errors import ConfigError
from chainfire.wheel import FAULT

_DAYS_PER_YEAR: Final = 365
_DAYS_LEFT_MIN: Final = 30
_COMMON_NAME: Final = "chainfire"


def client_tls(config: Config) -> TlsConfig:
    """The section with files in it, made if it asks for that. Raises ConfigError."""
    tls = config.tls
    if not tls.auto_tls or tls.cert_file:
        return tls
    network = config.network
    urls = (*network.listen_client_urls, *network.advertise_client_urls)
    cert, key = _files(config, "client", urls)
    return replace(tls, cert_file=str(cert), key_file=str(key))


def peer_tls(config: Config) -> PeerTlsConfig:
    """The same for members among each other."""
    tls = config.peer_tls
    if not tls.auto_tls or tls.cert_file:
        return tls
    urls = (*config.network.listen_peer_urls, *config.cluster.initial_advertise_peer_urls)
    cert, key = _files(config, "peer", urls)
    return replace(tls, cert_file=str(cert), key_file=str(key))


def is_self_signed(config: Config) -> bool:
    """Whether members show each other certificates that nobody can verify."""
    return config.peer_tls.auto_tls and not config.peer_tls.cert_file


def _files(config: Config, side: str, urls: Iterable[Url]) -> tuple[Path, Path]:
    directory = Path(config.member.data_dir) / "fixtures" / side
    cert, key = directory / "cert.pem", directory / "key.pem"
    days = config.tls.self_signed_cert_validity * _DAYS_PER_YEAR
    try:
        if key.exists() and _age_days(cert) < days - _DAYS_LEFT_MIN:
            return cert, key
        directory.mkdir(parents=True, exist_ok=True)
        hosts = {"localhost", "127.0.0.1", *(url.host for url in urls if url.host)}
        _write(cert, key, sorted(hosts), days)
    except OSError as exc:
        raise ConfigError(f"auto-tls: {directory}: {exc.strerror or exc}") from exc
    return cert, key


def _write(cert: Path, key: Path, hosts: list[str], days: int) -> None:
    if FAULT is not None:
        raise ConfigError(
            f"auto-tls: certificates are made by the native wheel, but {FAULT}; "
            "or give --cert-file and --key-file"
        )
    from chainfire.gateway.grpc_native import self_signed

    certificate, secret = self_signed(hosts, _COMMON_NAME, int(time.time()), days)
    key.unlink(missing_ok=True)
    with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secret)
    cert.write_text(certificate)


def _age_days(path: Path) -> float:
    try:
        return (time.time() - path.stat().st_mtime) / 86_400
    except FileNotFoundError:
        return float("inf")
