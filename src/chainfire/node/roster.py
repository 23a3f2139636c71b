"""Who is in the cluster: what somebody is told who asks at a member's peer port. Pure.

A member that was added to a running cluster does not know its own id, which
has the time of its addition in it; it asks with its peer URLs in hand. One that
has lost its disk asks whether the members are still those that it knew. Bytes:
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
ROSTER: Final = 72
ROSTER_UNDATED: Final = 71  # of earlier versions, in a file `rejoin`: without the index
ROSTER_BYTES_MAX: Final = 1 << 20

_ASK = struct.Struct(">BI")
_HEAD = struct.Struct(">BI")
_ROSTER = struct.Struct(">BIQQI")
_UNDATED = struct.Struct(">BIQI")


@dataclass(slots=True, frozen=True)
class Roster:
    cluster_id: int
    known_at: int  # the index applied last where this was read; 0: a command line, or no state yet
    conf_state: ConfState
    members: tuple[Member, ...]

    def find(self, peer_urls: Iterable[str]) -> Member | None:
        """The member that is reached there."""
        wanted = set(peer_urls)
        for member in self.members:
            if wanted == set(member.peerURLs):
                return member
        return None

    def is_like(self, other: Roster) -> bool:
        """Whether both name the same members, with the same votes, at the same places."""
        mine = {member.ID: set(member.peerURLs) for member in self.members}
        theirs = {member.ID: set(member.peerURLs) for member in other.members}
        return (self.conf_state, mine) == (other.conf_state, theirs)


def encode_ask() -> bytes:
    return _ASK.pack(ASK, MAGIC)


def ensure_ask(body: bytes) -> None:
    """Raises BadFrame."""
    if body != encode_ask():
        raise BadFrame("a question for the members that cannot be read")


def encode_roster(roster: Roster) -> bytes:
    conf_state = encode_conf_state(roster.conf_state)
    head = _ROSTER.pack(ROSTER, MAGIC, roster.cluster_id, roster.known_at, len(conf_state))
    return head + conf_state + MemberListResponse(members=roster.members).SerializeToString()


def decode_roster(body: bytes) -> Roster:
    """Raises BadFrame."""
    try:
        kind, magic = _HEAD.unpack_from(body)
        if kind not in (ROSTER, ROSTER_UNDATED) or magic != MAGIC:
            raise BadFrame("not the members of a Chainfire cluster")
        if kind == ROSTER:
            _, _, cluster_id, known_at, size = _ROSTER.unpack_from(body)
            at = _ROSTER.size
        else:
            _, _, cluster_id, size = _UNDATED.unpack_from(body)
            known_at, at = 0, _UNDATED.size
        conf_state = decode_conf_state(body[at : at + size])
        members = MemberListResponse.FromString(body[at + size :]).members
        return Roster(cluster_id, known_at, conf_state, tuple(members))
    except (struct.error, DecodeError, FatalError) as exc:
        raise BadFrame(f"a list of members that cannot be read: {exc}") from exc
