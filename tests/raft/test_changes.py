from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainfire.errors import UnknownFormat
from chainfire.raft.changes import LEAVE_JOINT, ChangeKind, ChangeStep, ConfChange, Transition

STEPS = st.builds(ChangeStep, st.sampled_from(ChangeKind), st.integers(0, 2**64 - 1))
CHANGES = st.builds(
    ConfChange, st.lists(STEPS, max_size=5).map(tuple), st.sampled_from(Transition), st.binary()
)


@given(CHANGES)
def test_what_is_encoded_is_decoded(change: ConfChange) -> None:
    assert ConfChange.decode(change.encode()) == change


@given(st.binary(min_size=1))
def test_bytes_of_no_known_format_are_refused_and_never_guessed(data: bytes) -> None:
    try:
        change = ConfChange.decode(data)
    except UnknownFormat:
        return
    assert change.encode() == data


def test_bytes_of_a_change() -> None:
    step = ChangeStep(ChangeKind.ADD_LEARNER, 0x1122)
    change = ConfChange((step,), Transition.JOINT_EXPLICIT, b"who")
    golden = "01 02 00000001 03 0000000000001122 77686f"
    assert change.encode() == bytes.fromhex(golden)
    assert LEAVE_JOINT.encode() == b""


def test_a_longer_count_than_steps_is_refused() -> None:
    with pytest.raises(UnknownFormat):
        ConfChange.decode(bytes.fromhex("01 00 00000002 00 0000000000000001"))


def test_several_steps_are_joint_and_left_automatically() -> None:
    step = ChangeStep(ChangeKind.ADD_VOTER, 1)
    assert not ConfChange((step,)).enters_joint
    assert ConfChange((step, step)).enters_joint and ConfChange((step, step)).auto_leave
    assert not ConfChange((step,), Transition.JOINT_EXPLICIT).auto_leave
    assert LEAVE_JOINT.leaves_joint and not ConfChange((step,)).leaves_joint
