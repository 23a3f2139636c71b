"""Keepalives of all streams, asked of the node together, once per turn of the loop.

A client may keep a hundred thousand leases alive; so a keepalive has neither a task's step nor an
object of its own here. Most of those that come often are answered at once (`node.renewals`), the
others when the log has them. Answers leave in the order of a stream's requests: one that would
overtake another goes into the log, too, and renewals are applied in the order in which they were
asked for.

What an entry of the log costs, it costs for any number of renewals: behind one with many, the
next waits a few milliseconds for more of them. Who asks alone never waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, Protocol

from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from chainfire.api import encode
from chainfire.api.encode import LEASE_ID_TAG
from chainfire.errors import Malformed, RequestError
from chainfire.lease import UNWRITTEN
from chainfire.mvcc.rows import varint
from chainfire.proto.lease_pb2 import LeaseKeepAliveRequest
from chainfire.types import Pending, RenewResult, Result

_REMEMBERED: Final = 10_000  # ends of answers
_ID_FIELD: Final = 1
_ID_TAG: Final = 0x08
_LOW_BITS: Final = 0x7F  # of a byte of a varint; the highest one says that more follow
_VARINT_BYTES_MAX: Final = 9  # of an id without the highest bit
_PAUSE_SECONDS_PER_RENEWAL: Final = 0.000_2  # of the last entry, from the second one on
_PAUSE_SECONDS_MAX: Final = 0.003


class Renewer(Protocol):
    """The node, as far as renewals go (`services.NodeFace`)."""

    def kept(self, ids: Sequence[int]) -> RenewResult: ...

    def renew(self, ids: Sequence[int], pending: Pending) -> None: ...


class Keeper:
    """One stream's side: where its answers go. After `close` it hears nothing."""

    __slots__ = ("_fail", "_renewing", "error", "post", "waits_for")

    def __init__(
        self, renewing: Renewing, post: Callable[[bytes], None], fail: Callable[[], object]
    ) -> None:
        """`fail` is called once when a renewal is refused; `error` says why."""
        self._renewing = renewing
        self.post = post  # an answer
        self._fail = fail
        self.error: RequestError | None = None
        self.waits_for = 0  # renewals of its that are on their way into the log

    def heard(self, body: bytes) -> None:
        """A LeaseKeepAliveRequest. Raises Malformed."""
        renewing = self._renewing
        lease = _only_id(body)
        if lease > 0:
            name = body[1:]
        else:
            lease = _id_of(body)
            name = varint(lease)
        if not renewing.ids and not renewing.is_held:
            renewing.begin()
        renewing.ids.append(lease)
        renewing.names.append(name)
        renewing.keepers.append(self)

    def refused(self, error: RequestError) -> None:
        if self.post is not _to_nobody:
            self.close()
            self.error = error
            self._fail()

    def close(self) -> None:
        self.post = _to_nobody


class Renewing:
    """What was asked for in this turn of the loop, and what waits for the log."""

    __slots__ = (
        "_asked",
        "_header",
        "_node",
        "_pauses_until",
        "ids",
        "is_held",
        "keepers",
        "names",
    )

    def __init__(self, node: Renewer, header: Callable[[int], bytes]) -> None:
        """`header` makes the header field of answers at a revision."""
        self._node = node
        self._header = header
        self.ids: list[int] = []  # in this turn
        self.names: list[bytes] = []  # the same as varints: they go back as they came
        self.keepers: list[Keeper] = []  # who asked for which
        self._asked = _Asked(header)  # goes into the log next
        self._pauses_until = 0.0  # on the loop's clock
        self.is_held = False  # whoever brings them sets it, and will `ask`

    def begin(self) -> None:
        """The first of a turn follows, and nobody else will `ask`."""
        asyncio.get_running_loop().call_soon(self.ask)

    def ask(self) -> None:
        """Renew what was heard."""
        ids, self.ids = self.ids, []
        names, self.names = self.names, []
        keepers, self.keepers = self.keepers, []
        kept = self._node.kept(ids)
        begin, asked = self._header(kept.revision) + LEASE_ID_TAG, self._asked
        was_empty = not asked.ids
        for keeper, lease, name, ttl_ms in zip(keepers, ids, names, kept.ttls_ms, strict=True):
            if ttl_ms == UNWRITTEN or keeper.waits_for:
                asked.add(lease, name, keeper)
            else:
                keeper.post(begin + name + _ttl(ttl_ms))
        if was_empty and asked.ids:
            loop = asyncio.get_running_loop()
            if loop.time() < self._pauses_until:
                loop.call_at(self._pauses_until, self._write)
            else:
                self._write()

    def _write(self) -> None:
        asked, self._asked = self._asked, _Asked(self._header)
        pause_seconds = (len(asked.ids) - 1) * _PAUSE_SECONDS_PER_RENEWAL
        now = asyncio.get_running_loop().time()
        self._pauses_until = now + min(pause_seconds, _PAUSE_SECONDS_MAX)
        self._node.renew(asked.ids, asked)


class _Asked:
    """Who waits for one renewal of the node: a Pending."""

    __slots__ = ("_header", "_keepers", "_names", "ids")

    def __init__(self, header: Callable[[int], bytes]) -> None:
        self._header = header
        self._keepers: list[Keeper] = []
        self._names: list[bytes] = []
        self.ids: list[int] = []

    def add(self, lease: int, name: bytes, keeper: Keeper) -> None:
        self.ids.append(lease)
        self._names.append(name)
        self._keepers.append(keeper)
        keeper.waits_for += 1

    @property
    def finished(self) -> bool:
        return False  # a renewal counts, whether or not its stream is still there

    def done(self, result: Result) -> None:
        assert isinstance(result, RenewResult), result
        begin = self._header(result.revision) + LEASE_ID_TAG
        for keeper, name, ttl_ms in zip(self._keepers, self._names, result.ttls_ms, strict=True):
            keeper.waits_for -= 1
            keeper.post(begin + name + _ttl(ttl_ms))

    def refused(self, error: RequestError) -> None:
        for keeper in self._keepers:
            keeper.waits_for -= 1
            keeper.refused(error)


def _to_nobody(reply: bytes) -> None:
    """The stream is over."""


def _only_id(body: bytes) -> int:
    """The id of a request that is nothing else, in as few bytes as it takes; 0: look closer."""
    at = len(body) - 1
    if not 1 <= at <= _VARINT_BYTES_MAX or body[0] != _ID_TAG or not 0 < body[at] <= _LOW_BITS:
        return 0
    lease = body[at]
    while at > 1:
        at -= 1
        part = body[at]
        if part <= _LOW_BITS:
            return 0
        lease = lease << 7 | part & _LOW_BITS
    return lease


def _id_of(body: bytes) -> int:
    """Of another wire type it is an unknown field to protobuf: the answer would be that there is
    no such lease, and the holder of one that lives would give it up. etcd refuses it, so.
    """
    try:
        request = LeaseKeepAliveRequest.FromString(body)
        unknown = UnknownFieldSet(request)
        for at in range(len(unknown)):
            field = unknown[at]
            if field.field_number == _ID_FIELD:
                raise DecodeError(f"proto: wrong wireType = {field.wire_type} for field ID")
    except DecodeError as exc:
        raise Malformed.of(exc) from exc
    return request.ID


@lru_cache(_REMEMBERED)
def _ttl(ttl_ms: int) -> bytes:
    return encode.lease_ttl(ttl_ms)
