"""Each rule of recovery.py, broken alone, is noticed and named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chainfire.errors import DataDirMismatch
from chainfire.node.logstore import Identity, LogMeta
from chainfire.node.recovery import Found, check_identity, damaged, losses
from chainfire.storage.witness import Promise
from chainfire.types import HardState

ME = Identity(cluster_id=1, member_id=2, incarnation=3)
PROMISED = Promise(
    cluster_id=1,
    member_id=2,
    incarnation=3,
    start_number=4,
    last_index=100,
    last_term=5,
    term=6,
    vote=2,
)
META = LogMeta(ME, HardState(6, 2, 99), 4, truncated_index=10, truncated_term=1, state_durable=50)
FOUND = Found(
    META,
    first_index=8,  # of a record over the border
    last_index=100,
    last_term=5,
    promised_term=5,
    state_applied=99,
    state_term=4,
    applied_in_log=4,
)


def found(**meta: object) -> Found:
    return replace(FOUND, meta=replace(META, **meta))


def test_an_intact_disk_breaks_no_promise() -> None:
    assert losses(PROMISED, FOUND) == []


def test_more_than_promised_is_fine() -> None:
    assert losses(PROMISED, replace(FOUND, last_index=120)) == []
    assert losses(PROMISED, found(hard_state=HardState(7, 0, 99), start_number=5)) == []


def test_a_promised_entry_that_was_cut_off_the_front_is_not_missed() -> None:
    cut = replace(META, truncated_index=100, state_durable=100)
    assert losses(PROMISED, replace(FOUND, meta=cut, promised_term=1, state_applied=100)) == []


@pytest.mark.parametrize(
    ("broken", "word"),
    [
        (replace(FOUND, last_index=99, promised_term=None), "ends at index 99"),
        (replace(FOUND, promised_term=4), "with term 4"),
        (replace(FOUND, first_index=12), "misses entries 11 to 11"),
        (found(hard_state=HardState(5, 2, 99)), "knows term 5"),
        (found(hard_state=HardState(6, 0, 99)), "lost the vote"),
        (found(start_number=3), "start number 3"),
        (replace(FOUND, state_applied=101), "state/ has applied 101"),
        (replace(FOUND, applied_in_log=3), "applied it with term 4"),
        (replace(FOUND, state_applied=49), "50 was durable"),
        (found(identity=None), "log/ is empty"),
        (found(identity=Identity(1, 2, 4)), "different"),
    ],
)
def test_each_loss_is_named_with_advice(broken: Found, word: str) -> None:
    [lost] = losses(PROMISED, broken)
    assert word in lost
    assert "--force-new-cluster" in damaged(lost).detail


def test_a_directory_of_another_cluster_or_member_is_refused() -> None:
    check_identity(ME, ME, (2, 9))
    with pytest.raises(DataDirMismatch, match=r"cluster 9.*=existing"):
        check_identity(ME, replace(ME, cluster_id=9), (2, 9))
    with pytest.raises(DataDirMismatch, match=r"member 9.*--name"):
        check_identity(ME, replace(ME, member_id=9), (2, 9))


def test_who_was_added_in_the_place_of_a_founder_is_not_told_to_check_names() -> None:
    with pytest.raises(DataDirMismatch, match=r"member 9.*was added.*=existing") as caught:
        check_identity(ME, replace(ME, member_id=9), (2, 7))
    assert "--name" not in caught.value.detail
