"""TLS between members: contexts from the files that etcd's --peer-… flags name.

One certificate serves both directions. Files are read anew when they change,
so that a renewed certificate needs no restart: for each connection that is
dialled, and for those accepted whenever `refresh` is called.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from chainfire.errors import ConfigError
from chainfire.node.link import Certificate


@dataclass(slots=True, frozen=True, kw_only=True)
class PeerTlsFiles:
    cert_file: str = ""
    key_file: str = ""
    trusted_ca_file: str = (
        ""  # given: who dials us must show a certificate of it; else the system's
    )
    client_cert_auth: bool = False  # who dials us must show a certificate
    crl_file: str = ""  # whose certificates are revoked
    allowed_common_names: tuple[str, ...] = ()  # of who dials us; none: any
    allowed_host_names: tuple[str, ...] = ()  # the same
    self_signed: bool = False  # nobody can verify it: keeps listeners out, not impostors

    def __bool__(self) -> bool:
        return bool(self.cert_file or self.trusted_ca_file)


class PeerTls:
    """Raises ConfigError for files that cannot be used."""

    def __init__(self, files: PeerTlsFiles) -> None:
        self._files = files
        self._stamp = self._stamps()
        self.server = self._server() if files.cert_file else None

    def client(self) -> ssl.SSLContext:
        """For one connection that is dialled."""
        context = ssl.create_default_context(
            ssl.Purpose.SERVER_AUTH, cafile=self._files.trusted_ca_file or None
        )
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self._files.self_signed:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if self._files.cert_file:
            self._load_chain(context)
        self._load_revocations(context)
        return context

    def refresh(self) -> None:
        """Take changed files for what is accepted from now on; broken ones leave what was."""
        stamp = self._stamps()
        if self.server is None or stamp == self._stamp:
            return
        self._load_chain(self.server)
        if self._files.trusted_ca_file:
            self.server.load_verify_locations(self._files.trusted_ca_file)
        self._load_revocations(self.server)
        self._stamp = stamp

    def refusal(self, certificate: Certificate | None) -> str | None:
        """Why who shows this certificate, found valid, may not dial us; None: he may."""
        files = self._files
        if files.allowed_common_names and not common_names(certificate) & {
            *files.allowed_common_names
        }:
            return "its certificate has none of the common names of --peer-cert-allowed-cn"
        if files.allowed_host_names and not any(
            is_for(certificate, name) for name in files.allowed_host_names
        ):
            return "its certificate has none of the names of --peer-cert-allowed-hostname"
        return None

    def _server(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._load_chain(context)
        files = self._files
        try:
            if files.trusted_ca_file:
                context.load_verify_locations(files.trusted_ca_file)
        except (OSError, ssl.SSLError) as exc:
            raise ConfigError(f"peer-trusted-ca-file: {files.trusted_ca_file}: {exc}") from exc
        if files.client_cert_auth or files.trusted_ca_file:  # as etcd takes it
            if not files.trusted_ca_file:
                context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
            context.verify_mode = ssl.CERT_REQUIRED
        self._load_revocations(context)
        return context

    def _load_revocations(self, context: ssl.SSLContext) -> None:
        if not self._files.crl_file:
            return
        try:
            context.load_verify_locations(self._files.crl_file)
        except (OSError, ssl.SSLError) as exc:
            raise ConfigError(f"peer-crl-file: {self._files.crl_file}: {exc}") from exc
        context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF

    def _load_chain(self, context: ssl.SSLContext) -> None:
        files = self._files
        try:
            context.load_cert_chain(files.cert_file, files.key_file or None)
        except (OSError, ssl.SSLError) as exc:
            raise ConfigError(
                f"peer-cert-file, peer-key-file: {files.cert_file}, {files.key_file}: {exc}"
            ) from exc

    def _stamps(self) -> tuple[float, ...]:
        files = self._files
        names = (files.cert_file, files.key_file, files.trusted_ca_file, files.crl_file)
        try:
            return tuple(Path(name).stat().st_mtime for name in names if name)
        except OSError:
            return ()


def common_names(certificate: Certificate | None) -> set[str]:
    subject = (certificate or {}).get("subject", ())
    return {value for part in subject for key, value in part if key == "commonName"}


def is_for(certificate: Certificate | None, name: str) -> bool:
    """Whether it names this host, or address, among its alternative names (RFC 6125, as Go)."""
    wanted = name.lower().rstrip(".")
    for kind, value in (certificate or {}).get("subjectAltName", ()):
        given = value.lower().rstrip(".")
        if kind == "DNS" and given.startswith("*."):
            first, _, rest = wanted.partition(".")
            if first and rest == given[2:]:
                return True
        elif kind in ("DNS", "IP Address") and given == wanted:
            return True
    return False
