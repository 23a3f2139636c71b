"""Certificates that doors show: files of the configuration, read anew when they change.

A renewed file counts from the next connection on. One that cannot be used (a
certificate whose key is not there yet, say) leaves what was and is told once;
at a start it is a ConfigError. Whoever serves asks `refresh` before a handshake
or from time to time; the generation that it returns tells whether to load anew.
"""

from __future__ import annotations

import logging
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chainfire.config import TlsConfig
from chainfire.errors import ConfigError

log = logging.getLogger(__name__)

REFRESH_SECONDS: Final = 1.0
# Cipher suites of TLS 1.2 that all doors know, by IANA's name; OpenSSL's beside it. Those of 1.3
# are no choice in OpenSSL.
_OPENSSL: Final = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
}
_TLS13: Final = (
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
)
_VERSIONS: Final = {
    "": ssl.TLSVersion.MAXIMUM_SUPPORTED,
    "TLS1.2": ssl.TLSVersion.TLSv1_2,
    "TLS1.3": ssl.TLSVersion.TLSv1_3,
}


@dataclass(slots=True, frozen=True)
class Pem:
    """What was in the files when they were last read and fitted."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None  # given: clients must show a certificate
    client_crl: bytes | None


class Certificates:
    """Raises ConfigError, naming the flag, for what cannot be used."""

    def __init__(self, config: TlsConfig) -> None:
        self.config = config
        self.generation = 0
        self._lock = threading.Lock()  # grpcio asks from threads of its own
        self._stamp = self._stamps()
        self._refused: tuple[object, ...] | None = None  # what was told of already
        for name in config.cipher_suites:
            if name not in _OPENSSL and name not in _TLS13:
                known = ", ".join((*_OPENSSL, *_TLS13))
                raise ConfigError(
                    f"cipher-suites: unexpected TLS cipher suite {name!r}; known are {known}"
                )
        self.pem, self.context = self._load()

    def refresh(self) -> int:
        """Look at the files; the generation of what is loaded now."""
        with self._lock:
            stamp = self._stamps()
            if stamp in (self._stamp, self._refused):
                return self.generation
            try:
                self.pem, self.context = self._load()
            except ConfigError as exc:
                self._refused = stamp
                log.warning("changed certificate not taken", extra={"reason": str(exc)})
            else:
                self._stamp, self._refused = stamp, None
                self.generation += 1
                log.info("certificate taken", extra={"file": self.config.cert_file})
        return self.generation

    def server_context(self) -> ssl.SSLContext:
        """A context that shows, at each handshake, what is in the files by then."""
        outer = self._context()
        if self.pem.client_ca is not None:
            outer.verify_mode = ssl.CERT_REQUIRED

        def chosen(connection: ssl.SSLObject, _name: str | None, _: ssl.SSLContext) -> None:
            self.refresh()
            connection.context = self.context

        outer.sni_callback = chosen
        return outer

    def _load(self) -> tuple[Pem, ssl.SSLContext]:
        config = self.config
        pem = Pem(
            _read("cert-file", config.cert_file),
            _read("key-file", config.key_file),
            _read("trusted-ca-file", config.trusted_ca_file) if config.trusted_ca_file else None,
            _read("client-crl-file", config.client_crl_file) if config.client_crl_file else None,
        )
        context = self._context()
        if pem.client_ca is not None:
            try:
                context.load_verify_locations(config.trusted_ca_file)
            except (OSError, ssl.SSLError) as exc:
                raise ConfigError(f"trusted-ca-file: {config.trusted_ca_file}: {exc}") from exc
            context.verify_mode = ssl.CERT_REQUIRED
        if pem.client_crl is not None:
            try:
                context.load_verify_locations(config.client_crl_file)
            except (OSError, ssl.SSLError) as exc:
                raise ConfigError(f"client-crl-file: {config.client_crl_file}: {exc}") from exc
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
        return pem, context

    def _context(self) -> ssl.SSLContext:
        config = self.config
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = _VERSIONS[config.tls_min_version]
        context.maximum_version = _VERSIONS[config.tls_max_version]
        ciphers = [_OPENSSL[name] for name in config.cipher_suites if name in _OPENSSL]
        if ciphers:
            context.set_ciphers(":".join(ciphers))
        try:
            context.load_cert_chain(config.cert_file, config.key_file, password=_no_password)
        except (OSError, ssl.SSLError, ValueError) as exc:
            files = f"{config.cert_file}, {config.key_file}"
            raise ConfigError(f"cert-file, key-file: {files}: {exc}") from exc
        return context

    def _stamps(self) -> tuple[object, ...]:
        config = self.config
        names = (
            *(config.cert_file, config.key_file),
            *(config.trusted_ca_file, config.client_crl_file),
        )
        return tuple(_stamp(Path(name)) for name in names if name)


def _no_password() -> str:
    raise ValueError("the key is encrypted; it must not be")


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(flag: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as exc:
        raise ConfigError(f"{flag}: {path}: {exc.strerror or exc}") from exc
