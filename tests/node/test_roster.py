"""Who asks at the peer port is told the members, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chainfire.node import roster
from chainfire.node.frames import BadFrame
from chainfire.node.roster import Roster
from chainfire.proto.cluster_pb2 import Member
from chainfire.types import ConfState

SOME = Roster(7, 9, ConfState((1,)), (Member(ID=1, name="a", peerURLs=["http://b", "http://a"]),))


def test_golden_frames() -> None:
    assert roster.encode_ask().hex() == "46" + "43465031"
    conf_state = "01" + "00000001" + "0000000000000001" + "00000000" * 3 + "00"
    member = SOME.members[0].SerializeToString()
    rest = "0000001a" + conf_state + "12" + f"{len(member):02x}" + member.hex()
    known = "48" + "43465031" + "0000000000000007" + "0000000000000009" + rest
    assert roster.encode_roster(SOME).hex() == known
    assert roster.decode_roster(bytes.fromhex(known)) == SOME
    undated = "47" + "43465031" + "0000000000000007" + rest
    assert roster.decode_roster(bytes.fromhex(undated)) == replace(SOME, known_at=0)


@pytest.mark.parametrize(
    "body", [b"", b"G", b"\x47" * 40, b"\x48" * 40, roster.encode_roster(SOME)[:-1]]
)
def test_what_is_no_roster_is_a_bad_frame(body: bytes) -> None:
    with pytest.raises(BadFrame):
        roster.decode_roster(body)
    with pytest.raises(BadFrame):
        roster.ensure_ask(body)


def test_a_member_is_found_by_all_of_its_peer_urls_in_any_order() -> None:
    assert SOME.find(["http://a", "http://b"]) is SOME.members[0]
    assert SOME.find(["http://a"]) is None


def test_the_order_of_urls_and_when_it_was_known_make_no_other_roster() -> None:
    turned = Member(ID=1, peerURLs=["http://a", "http://b"])
    assert SOME.is_like(replace(SOME, known_at=1, members=(turned,)))
    assert not SOME.is_like(replace(SOME, conf_state=ConfState((1, 2))))
    assert not SOME.is_like(replace(SOME, members=(Member(ID=1, peerURLs=["http://a"]),)))
