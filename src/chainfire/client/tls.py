"""What a client shows and trusts on https:// endpoints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from chainfire.errors import InvalidArgument


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """PEM texts. None: the system's authorities, no certificate of our own."""

    ca: bytes | None = None
    cert: bytes | None = None
    key: bytes | None = None

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise InvalidArgument("TLS: a certificate and its key go together")

    @classmethod
    def of_files(
        cls,
        ca: str | Path | None = None,
        cert: str | Path | None = None,
        key: str | Path | None = None,
    ) -> Self:
        """Raises InvalidArgument for a file that cannot be read."""
        return cls(ca=_read(ca), cert=_read(cert), key=_read(key))


def _read(path: str | Path | None) -> bytes | None:
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as exc:
        raise InvalidArgument(f"TLS: {path}: {exc.strerror or exc}") from exc
