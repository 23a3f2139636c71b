"""Keepalives of all streams, asked of the node together: one renewal per turn of the loop.

A client may keep a hundred thousand leases alive; so a keepalive has neither a task's step nor an
object of its own here. Answers leave in the order of a stream's requests, because renewals are
applied in the order in which they were asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from google.protobuf.message import DecodeError

from chainfire.api import encode
from chainfire.errors import Malformed, RequestError
from chainfire.proto.lease_pb2 import LeaseKeepAliveRequest
from chainfire.types import Pending, RenewResult, Result

_REMEMBERED: Final = 10_000  # what clients say again and again, and what they are told

Renew = Callable[[list[int], Pending], None]


class Keeper:
    """One stream's side: where its answers go. After `close` it hears nothing."""

    __slots__ = ("_fail", "_post", "_renewing", "error")

    def __init__(
        self, renewing: Renewing, post: Callable[[bytes], None], fail: Callable[[], object]
    ) -> None:
        """`fail` is called once when a renewal is refused; `error` says why."""
        self._renewing = renewing
        self._post: Callable[[bytes], None] | None = post
        self._fail = fail
        self.error: RequestError | None = None

    def heard(self, body: bytes) -> None:
        """A LeaseKeepAliveRequest. Raises Malformed."""
        self._renewing.add(_lease_of(body), self)

    def renewed(self, reply: bytes) -> None:
        if self._post is not None:
            self._post(reply)

    def refused(self, error: RequestError) -> None:
        if self._post is not None:
            self.close()
            self.error = error
            self._fail()

    def close(self) -> None:
        self._post = None


class Renewing:
    """What was asked for in this turn of the loop."""

    __slots__ = ("_header", "_ids", "_keepers", "_renew")

    def __init__(self, renew: Renew, header: Callable[[int], bytes]) -> None:
        self._renew = renew
        self._header = header
        self._ids: list[int] = []
        self._keepers: list[Keeper] = []  # who asked for which

    def add(self, lease: int, keeper: Keeper) -> None:
        if not self._ids:
            asyncio.get_running_loop().call_soon(self._ask)
        self._ids.append(lease)
        self._keepers.append(keeper)

    def _ask(self) -> None:
        ids, self._ids = self._ids, []
        keepers, self._keepers = self._keepers, []
        self._renew(ids, _Asked(ids, keepers, self._header))


class _Asked:
    """Who waits for one renewal of the node: a Pending."""

    __slots__ = ("_header", "_ids", "_keepers")

    def __init__(
        self, ids: list[int], keepers: list[Keeper], header: Callable[[int], bytes]
    ) -> None:
        self._ids = ids
        self._keepers = keepers
        self._header = header

    def done(self, result: Result) -> None:
        assert isinstance(result, RenewResult), result
        header = self._header(result.revision)
        for keeper, lease, ttl_ms in zip(self._keepers, self._ids, result.ttls_ms, strict=True):
            keeper.renewed(header + _fields(lease, ttl_ms))

    def refused(self, error: RequestError) -> None:
        for keeper in self._keepers:
            keeper.refused(error)


@lru_cache(_REMEMBERED)
def _lease_of(body: bytes) -> int:
    try:
        return LeaseKeepAliveRequest.FromString(body).ID
    except DecodeError as exc:
        raise Malformed(f"grpc: error unmarshalling request: {exc}") from exc


@lru_cache(_REMEMBERED)
def _fields(lease: int, ttl_ms: int) -> bytes:
    return encode.lease_reply(b"", lease, ttl_ms)
