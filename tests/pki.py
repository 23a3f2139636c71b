"""Certificates for tests, made by openssl: authorities, servers and clients as files."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests import peers


@dataclass(frozen=True, slots=True)
class Pki:
    """`NAME.pem` and `NAME.key` in `path`; made on demand, signed by themselves or by another."""

    path: Path

    def make(self, name: str, signed_by: str = "", host: str = "") -> None:
        command = [peers.need_tool("openssl"), "req", "-x509", "-newkey", "ec"]
        command += ["-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        command += ["-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}"]
        if signed_by:
            command += ["-CA", f"{signed_by}.pem", "-CAkey", f"{signed_by}.key"]
            command += ["-addext", "basicConstraints=critical,CA:FALSE"]
        if host:
            command += ["-addext", f"subjectAltName={host}"]
        subprocess.run(command, cwd=self.path, check=True, capture_output=True, timeout=60)

    def make_all(self) -> Pki:
        """ca, and of it: server (localhost, 127.0.0.1), client."""
        self.make("ca")
        self.make("server", "ca", "DNS:localhost,IP:127.0.0.1")
        self.make("client", "ca")
        return self

    def file(self, name: str) -> str:
        return str(self.path / name)

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def replace(self, name: str, by: str) -> None:
        """Put the files of `by` in the place of those of `name`, each at once."""
        for suffix in ("key", "pem"):
            (self.path / f"{by}.{suffix}").replace(self.path / f"{name}.{suffix}")
