"""Who may talk to whom: rules and bytes of the first words between members."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainfire.node import handshake
from chainfire.node.frames import BadFrame
from chainfire.node.handshake import (
    FATAL_REASONS,
    HELLO,
    WELCOME,
    Channel,
    Denial,
    Hello,
    Met,
    Reason,
    judge,
)

MINE = Hello(
    cluster_id=7,
    sender=1,
    to=0,
    incarnation=11,
    start_number=1,
    life=111,
    lost_data=False,
    log_end=0,
    version="0.1",
)
THEIRS = Hello(
    cluster_id=7,
    sender=2,
    to=1,
    incarnation=22,
    start_number=3,
    life=222,
    lost_data=False,
    log_end=0,
    version="0.1",
)
MET = Met(22, 3, 222)


def reason(
    theirs: Hello,
    mine: Hello = MINE,
    *,
    is_member: bool = True,
    was_removed: bool = False,
    is_led: bool = True,
    met: Met | None = MET,
    met_speaks: bool = False,
    applied: int = 0,
) -> Reason | None:
    denial = judge(
        mine,
        theirs,
        is_member=is_member,
        was_removed=was_removed,
        is_led=is_led,
        met=met,
        met_speaks=met_speaks,
        applied=applied,
    )
    return None if denial is None else denial.reason


def test_a_member_is_welcome() -> None:
    assert reason(THEIRS) is None
    assert reason(THEIRS, met=None) is None
    assert reason(replace(THEIRS, start_number=4, life=9)) is None  # it was restarted
    assert reason(THEIRS, replace(MINE, to=2)) is None  # the other side judges by the same rules


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [
        (replace(THEIRS, format_oldest=2, format_newest=3), Reason.FORMAT),
        (replace(THEIRS, format_oldest=0, format_newest=0), Reason.FORMAT),
        (replace(THEIRS, cluster_id=8), Reason.CLUSTER),
        (replace(THEIRS, to=3), Reason.ADDRESSEE),
        (replace(THEIRS, sender=1), Reason.OWN_ID),
        (replace(THEIRS, incarnation=23), Reason.OTHER_INCARNATION),
        (replace(THEIRS, start_number=2), Reason.OLDER_COPY),
        (replace(THEIRS, life=5), Reason.OLDER_COPY),
    ],
)
def test_what_does_not_fit_is_denied(theirs: Hello, expected: Reason) -> None:
    assert reason(theirs) is expected


def test_a_copy_of_a_directory_whose_process_runs_is_told_apart_from_an_older_one() -> None:
    for theirs in (replace(THEIRS, start_number=2), replace(THEIRS, life=5)):
        assert reason(theirs, met_speaks=True) is Reason.OLD_START
    assert reason(replace(THEIRS, start_number=4, life=9), met_speaks=True) is None


def test_a_restart_whose_log_ends_before_what_was_applied_is_an_older_copy() -> None:
    restarted = replace(THEIRS, start_number=4, life=9, log_end=40)
    assert reason(restarted, applied=40) is None
    assert reason(restarted, applied=41) is Reason.OLDER_COPY
    assert reason(replace(restarted, lost_data=True, log_end=0), applied=41) is None
    assert reason(replace(THEIRS, log_end=40), applied=41) is None, "it has gone on in this life"


def test_a_format_that_both_speak_is_enough() -> None:
    assert reason(replace(THEIRS, format_oldest=1, format_newest=9)) is None


def test_strangers_and_removed_members_are_told_apart() -> None:
    assert reason(THEIRS, is_member=False, met=None) is Reason.STRANGER
    assert reason(THEIRS, is_member=False, was_removed=True) is Reason.REMOVED


def test_a_removed_member_is_not_told_so_by_whoever_hears_no_leader() -> None:
    """Its vote may be needed by those who do not know yet that this is committed."""
    found = reason(THEIRS, is_member=False, was_removed=True, is_led=False)
    assert found is Reason.STRANGER and found not in FATAL_REASONS


def test_somebody_else_at_the_peers_address_is_noticed_by_the_one_who_dialled() -> None:
    assert reason(replace(THEIRS, sender=5), replace(MINE, to=2)) is Reason.ADDRESSEE


def test_a_wiped_member_is_told_which_commands_bring_it_back() -> None:
    wiped = replace(THEIRS, incarnation=5)
    denial = judge(
        MINE,
        wiped,
        is_member=True,
        was_removed=False,
        is_led=True,
        met=MET,
        met_speaks=False,
        applied=0,
    )
    assert denial is not None
    assert "member remove 2" in denial.text
    assert "--initial-cluster-state=existing" in denial.text


def test_only_what_changes_is_news() -> None:
    assert not handshake.is_news(THEIRS, MET)
    assert handshake.is_news(THEIRS, None)
    assert handshake.is_news(replace(THEIRS, start_number=4, life=1), MET)


def test_hello_is_pinned() -> None:
    hello = replace(THEIRS, lost_data=True, channel=Channel.BULK, log_end=5)
    body = bytes.fromhex(
        "40 43465031 01 01 02 01"
        "0000000000000007 0000000000000002 0000000000000001"
        "0000000000000016 0000000000000003 00000000000000de 0000000000000005"
        "302e31"
    )
    assert handshake.encode_hello(HELLO, hello) == body
    assert handshake.decode_hello(HELLO, body) == hello
    assert handshake.encode_hello(WELCOME, hello) == b"\x41" + body[1:]


def test_denial_and_ping_are_pinned() -> None:
    denial = Denial(Reason.CLUSTER, "no")
    assert handshake.encode_denial(denial) == b"\x42\x02no"
    assert handshake.decode_denial(b"\x42\x02no") == denial
    older = Denial(Reason.OLDER_COPY, "no", 7)
    assert handshake.encode_denial(older) == b"\x42\x0a" + bytes.fromhex("0000000000000007") + b"no"
    assert handshake.decode_denial(handshake.encode_denial(older)) == older
    ping = bytes.fromhex("43 0000000000000009")
    assert handshake.encode_ping(handshake.PING, 9) == ping
    assert handshake.decode_ping(ping) == 9


@given(st.binary(max_size=120))
def test_noise_is_a_bad_frame(noise: bytes) -> None:
    for read in (handshake.decode_denial, handshake.decode_ping):
        with contextlib.suppress(BadFrame):
            read(noise)
    with pytest.raises(BadFrame):
        handshake.decode_hello(HELLO, b"\x40" + noise)
