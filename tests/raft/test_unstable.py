from __future__ import annotations

from chainfire.raft.unstable import Unstable
from chainfire.types import Entry
from tests.raft.build import snapshot


def unstable(*terms: int, stored: int = 4, in_progress: int = 0) -> Unstable:
    made = Unstable(stored)
    if terms:
        made.append([Entry(term, stored + 1 + at) for at, term in enumerate(terms)])
    made.in_progress += in_progress
    return made


def test_appending_behind_keeps_what_is_being_written() -> None:
    log = unstable(1, 1, in_progress=2)
    log.append([Entry(1, 7)])
    assert (log.offset, log.in_progress, log.last_index) == (5, 7, 7)
    assert log.next_entries() == [Entry(1, 7)]


def test_replacing_stored_entries_writes_them_anew() -> None:
    log = unstable(1, 1, in_progress=2)
    log.append([Entry(2, 3)])
    assert (log.offset, log.in_progress, log.last_index) == (3, 3, 3)


def test_replacing_entries_under_way_writes_only_the_new_ones() -> None:
    log = unstable(1, 1, 1, in_progress=3)
    log.append([Entry(2, 6)])
    assert log.next_entries() == [Entry(2, 6)]
    assert log.term(5) == 1 and log.term(6) == 2 and log.term(7) is None


def test_late_write_of_a_replaced_entry_makes_nothing_stable() -> None:
    log = unstable(1, in_progress=1)
    log.append([Entry(2, 5)])
    log.stable_to(5, 1)
    assert log.offset == 5 and log.entries == [Entry(2, 5)]
    log.stable_to(5, 2)
    assert log.offset == 6 and not log.entries


def test_write_of_a_prefix_leaves_the_rest() -> None:
    log = unstable(1, 1, 1)
    log.stable_to(6, 1)
    assert log.entries == [Entry(1, 7)] and (log.offset, log.in_progress) == (7, 7)
    log.stable_to(6, 1)
    assert log.offset == 7


def test_snapshot_replaces_everything_and_is_handed_out_once() -> None:
    log = unstable(1, 1)
    log.restore(snapshot(20, 3))
    assert (log.offset, log.last_index, log.term(20), log.term(19)) == (21, 20, 3, None)
    assert log.next_snapshot() == snapshot(20, 3)
    log.accept()
    assert log.next_snapshot() is None and log.snapshot is not None
    log.stable_snapshot_to(19)
    assert log.snapshot is not None
    log.stable_snapshot_to(20)
    assert log.snapshot is None


def test_second_snapshot_in_quick_succession_supersedes_the_first() -> None:
    """etcd#18055."""
    log = unstable(1)
    log.restore(snapshot(20, 3))
    log.accept()
    log.restore(snapshot(30, 3))
    log.stable_snapshot_to(20)
    assert log.next_snapshot() == snapshot(30, 3) and log.last_index == 30
