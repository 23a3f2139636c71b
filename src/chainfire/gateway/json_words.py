"""What HTTP and gRPC call the same things: statuses, errors, metadata, timeouts.

Statuses: grpc-gateway's runtime/errors.go. Timeouts: the header Grpc-Timeout as gRPC has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from chainfire.api.call import Metadata
from chainfire.errors import Code, RequestError
from chainfire.gateway.json_codec import BadJson, read_base64, write_text

HTTP_STATUS: Final = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}
_UNIT_SECONDS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_TIMEOUT: Final = re.compile(rb"(\d{1,18})([HMSmun])")
TIMEOUT_SECONDS_MIN: Final = 0.001
_METADATA: Final = b"grpc-metadata-"


class BadHeader(RequestError):
    """A header that speaks to the gateway and cannot be read."""

    code = Code.INVALID_ARGUMENT


class DeadlineExceeded(RequestError):
    """The timeout that the request came with is over."""

    code = Code.DEADLINE_EXCEEDED
    text = "context deadline exceeded"


class MessageTooLarge(RequestError):
    """grpc-go's words for what no request may be."""

    code = Code.RESOURCE_EXHAUSTED

    def __init__(self, size: int, most: int) -> None:
        super().__init__(f"grpc: received message larger than max ({size} vs. {most})")


def error_body(error: RequestError) -> str:
    """The JSON of an answer that is an error: the fields of etcd 3.5 and of 3.6 together."""
    text = write_text(error.message)
    return f'{{"error":{text},"code":{int(error.code)},"message":{text},"details":[]}}'


def stream_error(error: RequestError) -> str:
    """What ends a stream: again the fields of both."""
    status, text = HTTP_STATUS[error.code], write_text(error.message)
    phrase = HTTPStatus(status).phrase if status != 499 else ""  # Go has no word for 499 either
    return (
        f'{{"error":{{"grpc_code":{int(error.code)},"http_code":{status},"message":{text},'
        f'"http_status":"{phrase}","code":{int(error.code)},"details":[]}}}}'
    )


def read_headers(headers: Iterable[tuple[bytes, bytes]]) -> tuple[Metadata, float | None]:
    """The metadata and the timeout (seconds) that a request's headers carry.

    Raises BadHeader, and DeadlineExceeded for a timeout that no clock of ours could measure.
    """
    metadata: list[tuple[str, str | bytes]] = []
    timeout = None
    for name, value in headers:
        if name == b"authorization":
            metadata.append(("authorization", value.decode("latin-1")))
        elif name.startswith(b"grpc-"):
            if name == b"grpc-timeout":
                timeout = _timeout(value)
            elif name.startswith(_METADATA):
                metadata.append(_metadatum(name.decode("latin-1"), value.decode("latin-1")))
    return metadata, timeout


def _metadatum(name: str, value: str) -> tuple[str, str | bytes]:
    key = name[len(_METADATA) :]
    if not key.endswith("-bin"):
        return key, value
    try:
        return key, read_base64(value)
    except BadJson as exc:
        shown = "-".join(part.capitalize() for part in name.split("-"))
        raise BadHeader(f"invalid binary header {shown}: {exc}") from exc


def _timeout(value: bytes) -> float | None:
    match = _TIMEOUT.fullmatch(value)
    if match is None:
        raise BadHeader(f"invalid grpc-timeout: {value.decode('latin-1')}")
    seconds = int(match[1]) * _UNIT_SECONDS[match[2]]
    if seconds == 0:
        return None  # as etcd's gateway has it
    if seconds < TIMEOUT_SECONDS_MIN:
        raise DeadlineExceeded
    return seconds
