"""The id of a keepalive, read from its bytes, against protobuf."""

from __future__ import annotations

import asyncio

import pytest
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import example, given
from hypothesis import strategies as st

from chainfire.api.renewing import Keeper, Renewing
from chainfire.errors import Malformed
from chainfire.lease import UNWRITTEN
from chainfire.proto.lease_pb2 import LeaseKeepAliveRequest, LeaseKeepAliveResponse
from chainfire.types import Pending, RenewResult

TTL_MS = 1500
IDS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(0, 300))
BODIES = st.one_of(
    st.binary(max_size=12),
    IDS.map(lambda id_: LeaseKeepAliveRequest(ID=id_).SerializeToString()),
    st.binary(min_size=1, max_size=10).map(lambda varint: b"\x08" + varint),
)


class KeepsAll:
    """A node whose leases all have the same TTL left, at once or by the log."""

    def __init__(self, *, at_once: bool) -> None:
        self.at_once = at_once
        self.ids: list[int] = []

    def kept(self, ids: list[int]) -> RenewResult:
        self.ids += ids
        return RenewResult(7, [TTL_MS if self.at_once else UNWRITTEN] * len(ids))

    def renew(self, ids: list[int], pending: Pending) -> None:
        pending.done(RenewResult(7, [TTL_MS] * len(ids)))


@given(BODIES, st.booleans())
@example(b"\x08\x81\x00", True)  # more bytes than it takes
@example(b"\x08\x81", True)
@example(b"", True)
@example(b"\x0a\x01a", True)
@example(b"\x12\x01a\x08\x05", True)
def test_a_keepalive_is_what_protobuf_says(body: bytes, at_once: bool) -> None:
    node, told = KeepsAll(at_once=at_once), []
    renewing = Renewing(node, lambda revision: b"")
    renewing.is_held = True
    keeper = Keeper(renewing, told.append, lambda: None)
    try:
        request = LeaseKeepAliveRequest.FromString(body)
        unknown = UnknownFieldSet(request)
        if any(unknown[at].field_number == 1 for at in range(len(unknown))):
            raise DecodeError("its id has another wire type")
        wanted = request.ID
    except DecodeError:
        with pytest.raises(Malformed):
            keeper.heard(body)
        return
    keeper.heard(body)

    async def ask() -> None:
        renewing.ask()

    asyncio.run(ask())
    assert node.ids == [wanted]
    (answer,) = told
    reply = LeaseKeepAliveResponse.FromString(answer)
    assert (reply.ID, reply.TTL, reply.TTL_ms) == (wanted, 2, TTL_MS)
