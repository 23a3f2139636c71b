from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chainfire.raft.changes import ChangeKind, ChangeStep, ConfChange, Transition
from chainfire.raft.confchange import Changer, InvalidConfChange
from chainfire.raft.tracker import Tracker
from chainfire.types import ConfState

STEPS = st.builds(ChangeStep, st.sampled_from(ChangeKind), st.integers(0, 6))
CHANGES = st.builds(ConfChange, st.lists(STEPS, max_size=4).map(tuple), st.sampled_from(Transition))


def tracker(conf: ConfState) -> Tracker:
    made = Tracker(10, 0)
    made.restore(conf, 5)
    return made


@given(st.lists(CHANGES, max_size=8))
def test_any_sequence_keeps_the_invariants_and_old_and_new_quorums_overlap(
    changes: list[ConfChange],
) -> None:
    at = tracker(ConfState((1, 2, 3)))
    for change in changes:
        before, progress = at.conf, dict(at.progress)
        changer = Changer(at, 9)
        try:
            changer.change(change)
        except InvalidConfChange:
            assert at.conf == before and at.progress == progress
            continue
        at.install(changer.conf, changer.progress)  # asserts what must hold of it
        old = set(before.voters_outgoing or before.voters) if at.is_joint else set(before.voters)
        if at.is_joint:
            assert set(at.conf.voters_outgoing) == old
        else:
            assert len(old ^ set(at.conf.voters)) <= 1 or before.voters_outgoing
        for id in progress.keys() & at.progress.keys():
            assert at.progress[id].match == 0


def test_restored_joint_configuration_is_joint() -> None:
    """raft e515a67: the outgoing half was dropped, and a majority of one half decided."""
    stored = ConfState((2, 3), (4,), (1, 2), (1,), True)
    at = tracker(stored)
    assert at.conf == stored and at.is_joint
    assert at.all_voters == (1, 2, 3) and list(at.progress) == [1, 2, 3, 4]


def test_promoted_learner_keeps_what_is_known_of_it() -> None:
    at = tracker(ConfState((1,), (2,)))
    at.progress[2].match = 4
    changer = Changer(at, 9)
    changer.simple([ChangeStep(ChangeKind.ADD_VOTER, 2)])
    at.install(changer.conf, changer.progress)
    assert at.progress[2].match == 4 and not at.progress[2].is_learner


def test_removed_and_added_again_is_a_stranger() -> None:
    at = tracker(ConfState((1, 2)))
    at.progress[2].match = 4
    changer = Changer(at, 9)
    changer.simple([ChangeStep(ChangeKind.REMOVE, 2), ChangeStep(ChangeKind.ADD_VOTER, 2)])
    at.install(changer.conf, changer.progress)
    assert at.progress[2].match == 0


def test_restoring_the_only_voter_beside_learners() -> None:
    """raft-rs#290."""
    at = tracker(ConfState((1,), (2, 3)))
    changer = Changer(at, 9)
    changer.simple([ChangeStep(ChangeKind.REMOVE, 2)])
    assert changer.conf == ConfState((1,), (3,))
