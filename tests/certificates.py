"""A small authority for tests: certificates for loopback, made by the openssl program."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.peers import need_tool


class Authority:
    """Makes PEM files under a directory; skips the test where openssl is missing."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._directory = directory
        self._openssl = need_tool("openssl")
        self.cert_file = directory / f"{name}.pem"
        self._key_file = directory / f"{name}.key"
        self._run(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-days", "2", "-subj", f"/CN={name}"),
            *("-keyout", str(self._key_file), "-out", str(self.cert_file)),
        )

    def issue(self, name: str, hosts: str = "IP:127.0.0.1,DNS:localhost") -> tuple[Path, Path]:
        """(certificate, key), good for a server and for a client."""
        key, request = self._directory / f"{name}.key", self._directory / f"{name}.csr"
        cert, extensions = self._directory / f"{name}.pem", self._directory / f"{name}.ext"
        self._run(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-subj", f"/CN={name}", "-keyout", str(key), "-out", str(request)),
        )
        extensions.write_text(f"subjectAltName={hosts}\n")
        self._run(
            *("x509", "-req", "-in", str(request), "-CA", str(self.cert_file)),
            *("-CAkey", str(self._key_file), "-CAcreateserial", "-days", "2"),
            *("-extfile", str(extensions), "-out", str(cert)),
        )
        return cert, key

    def _run(self, *arguments: str) -> None:
        subprocess.run([self._openssl, *arguments], check=True, capture_output=True, timeout=30)


_CA_CONFIG = """[ca]
default_ca = only
[only]
database = revoked.txt
default_md = sha256
default_crl_days = 2
crlnumber = number.txt
"""


def revoked(directory: Path, *names: str) -> Path:
    """A revocation list, as PEM, of `ca.pem` in this directory that names these certificates."""
    (directory / "ca.conf").write_text(_CA_CONFIG)
    (directory / "revoked.txt").write_text("")
    (directory / "number.txt").write_text("01\n")  # with it, version 2, which rustls asks for
    command = [need_tool("openssl"), "ca", "-config", "ca.conf"]
    command += ["-keyfile", "ca.key", "-cert", "ca.pem"]
    for name in names:
        _run_in(directory, *command, "-revoke", f"{name}.pem")
    _run_in(directory, *command, "-gencrl", "-out", "ca.crl")
    return directory / "ca.crl"


def _run_in(directory: Path, *command: str) -> None:
    subprocess.run(command, cwd=directory, check=True, capture_output=True, timeout=30)
