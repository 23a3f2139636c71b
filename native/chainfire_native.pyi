"""The border of the native door, as Python sees it. Rules: native/src/border.rs.

An event is (id, what, body, metadata, amount). `what` is a method's place in
the list that the door was made with, or one of the negative numbers below.
`amount` of a call is its timeout in seconds, or None.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

__version__: str

# What an event may be besides a call.
UNKNOWN_METHOD: int  # a call of a path that is not served; the body is the path
HTTP_REQUEST: int  # not gRPC; metadata: :method, :target, :version, then the headers as bytes
REQUEST_MESSAGE: int  # of a stream, or a piece of an HTTP request's body
HALF_CLOSE: int  # the client sends nothing more
CANCEL: int  # the call is over: reset, past its deadline, or disconnected
WRITABLE: int  # `amount` of a stream's credit is back
OPENED: int  # a connection (id >> 30); body: the peer's address; metadata: its certificate
CLOSED: int  # a connection
DRAINED: int  # after `stop`: the last connection is gone
FAILED: int  # a panic; body: its text; amount 1: the whole door is dead

# What a reply may be besides a status: (id, 0, bytes) answers a unary call,
# (id, code, text or None[, trailers]) ends any call.
MESSAGE: int  # (id, MESSAGE, bytes): of a stream, or a piece of an HTTP answer's body
HEAD: int  # (id, HEAD, (status, headers)): before the first message
CREDIT: int  # (id, CREDIT, count): so much of the requests' credit is back
RESET: int  # (id, RESET, None): break off

# Each direction of a stream may have this under way: bytes + overhead per message.
STREAM_CREDIT_BYTES: int
CREDIT_LUMP_BYTES: int  # given back in lumps of at least this
MESSAGE_OVERHEAD_BYTES: int

Metadata: TypeAlias = list[tuple[str, str | bytes]]
Event: TypeAlias = tuple[int, int, bytes, Metadata | None, float | None]

class Door:
    """A thread that serves; it starts with the object and ends with `close`."""

    def __init__(
        self,
        methods: Sequence[tuple[str, bool]],  # path, and whether requests are a stream
        *,
        connections_max: int = ...,
        streams_max: int = ...,
        message_bytes_max: int = ...,
        header_list_bytes_max: int = ...,
        resets_per_second_max: int = ...,
        direct_answers_max: int = ...,
        handshake_seconds: float = ...,
        ping_interval_min_seconds: float = ...,
        keepalive_interval_seconds: float = ...,
        keepalive_timeout_seconds: float = ...,
    ) -> None: ...
    def listen(self, fd: int, is_unix: bool, tls: bool) -> None:
        """Serve on a listening socket. `fd` must be detached: the door closes it."""

    def set_tls(
        self,
        certificate: bytes,
        key: bytes,
        client_ca: bytes | None = None,
        client_required: bool = True,
    ) -> None:
        """PEM; from the next connection on. Raises ValueError saying which one is wrong."""

    def fileno(self) -> int:
        """Readable when there are events and the last `drain` said `armed`."""

    def drain(self, max: int) -> tuple[list[Event], bool]:
        """(events, armed). Not armed: nothing will wake you, come again."""

    def send(self, replies: list[tuple[Any, ...]]) -> None:
        """Hand over, at once for few. Replies to calls that are over go nowhere."""

    def stop(self) -> None:
        """Take nothing new; DRAINED comes when the accepted calls have ended."""

    def close(self) -> None:
        """End everything; returns when the thread is gone. Idempotent."""

    def statistics(self) -> dict[str, int]:
        """connections, unsent_bytes; since the start: accepted, refused, rude, wakes, direct."""
