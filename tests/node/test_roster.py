"""Who asks at the peer port is told the members, and nothing else."""

from __future__ import annotations

import pytest

from chainfire.node import roster
from chainfire.node.frames import BadFrame
from chainfire.node.roster import Roster
from chainfire.proto.cluster_pb2 import Member
from chainfire.types import ConfState

SOME = Roster(7, ConfState((1,)), (Member(ID=1, name="a", peerURLs=["http://b", "http://a"]),))


def test_golden_frames() -> None:
    assert roster.encode_ask().hex() == "46" + "43465031"
    conf_state = "01" + "00000001" + "0000000000000001" + "00000000" * 3 + "00"
    member = SOME.members[0].SerializeToString()
    expected = "47" + "43465031" + "0000000000000007" + "0000001a" + conf_state
    assert roster.encode_roster(SOME).hex() == expected + "12" + f"{len(member):02x}" + member.hex()
    assert roster.decode_roster(roster.encode_roster(SOME)) == SOME


@pytest.mark.parametrize("body", [b"", b"G", b"\x47" * 30, roster.encode_roster(SOME)[:-1]])
def test_what_is_no_roster_is_a_bad_frame(body: bytes) -> None:
    with pytest.raises(BadFrame):
        roster.decode_roster(body)
    with pytest.raises(BadFrame):
        roster.ensure_ask(body)


def test_a_member_is_found_by_all_of_its_peer_urls_in_any_order() -> None:
    assert SOME.find(["http://a", "http://b"]) is SOME.members[0]
    assert SOME.find(["http://a"]) is None
