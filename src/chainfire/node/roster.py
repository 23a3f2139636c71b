"""Who is in the cluster: what somebody is told who asks at a member's peer port. Pure.

A member that was added to a running cluster does not know its own id, which
has the time of its addition in it; it asks with its peer URLs in hand. Bytes:
docs/formats.md, "Between members".
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from chainfire.errors import FatalError
from chainfire.machine.rows import decode_conf_state, encode_conf_state
from chainfire.node.frames import BadFrame
from chainfire.node.handshake import MAGIC
from chainfire.proto.cluster_pb2 import Member, MemberListResponse
from chainfire.types import ConfState

ASK: Final = 70
ROSTER: Final = 71
ROSTER_BYTES_MAX: Final = 1 << 20

_ASK = struct.Struct(">BI")
_ROSTER = struct.Struct(">BIQI")


@dataclass(slots=True, frozen=True)
class Roster:
    cluster_id: int
    conf_state: ConfState
    members: tuple[Member, ...]

    def find(self, peer_urls: Iterable[str]) -> Member | None:
        """The member that is reached there."""
        wanted = set(peer_urls)
        return next((member for member in self.members if wanted == set(member.peerURLs)), None)


def encode_ask() -> bytes:
    return _ASK.pack(ASK, MAGIC)


def ensure_ask(body: bytes) -> None:
    """Raises BadFrame."""
    if body != encode_ask():
        raise BadFrame("a question for the members that cannot be read")


def encode_roster(roster: Roster) -> bytes:
    conf_state = encode_conf_state(roster.conf_state)
    head = _ROSTER.pack(ROSTER, MAGIC, roster.cluster_id, len(conf_state))
    return head + conf_state + MemberListResponse(members=roster.members).SerializeToString()


def decode_roster(body: bytes) -> Roster:
    """Raises BadFrame."""
    try:
        kind, magic, cluster_id, size = _ROSTER.unpack_from(body)
        if (kind, magic) != (ROSTER, MAGIC):
            raise BadFrame("not the members of a Chainfire cluster")
        at = _ROSTER.size + size
        conf_state = decode_conf_state(body[_ROSTER.size : at])
        members = MemberListResponse.FromString(body[at:]).members
        return Roster(cluster_id, conf_state, tuple(members))
    except (struct.error, DecodeError, FatalError) as exc:
        raise BadFrame(f"a list of members that cannot be read: {exc}") from exc
