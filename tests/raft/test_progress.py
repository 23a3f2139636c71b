from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chainfire.raft.inflights import Inflights
from chainfire.raft.progress import Progress, ProgressState


def progress(match: int, next: int, state: ProgressState = ProgressState.PROBE) -> Progress:
    peer = Progress(next, Inflights(3, 0))
    peer.match, peer.state = match, state
    return peer


def test_probe_sends_entries_once_and_waits() -> None:
    peer = progress(5, 6)
    peer.sent_entries(2, 10)
    assert peer.paused and peer.next == 6


def test_replicate_sends_ahead_until_the_window_is_full() -> None:
    peer = progress(5, 6, ProgressState.REPLICATE)
    for _ in range(3):
        assert not peer.paused
        peer.sent_entries(2, 10)
    assert peer.paused and peer.next == 12


def test_stale_refusal_in_replicate_is_ignored() -> None:
    peer = progress(5, 10, ProgressState.REPLICATE)
    assert not peer.maybe_decrease(5, 3)
    assert peer.next == 10


def test_refusal_of_another_probe_is_ignored() -> None:
    peer = progress(0, 10)
    assert not peer.maybe_decrease(7, 3)
    assert peer.next == 10


def test_hint_below_match_cannot_pull_next_below_it() -> None:
    """raft#149."""
    peer = progress(5, 10)
    assert peer.maybe_decrease(9, 2)
    assert peer.next == 6


def test_probe_after_a_snapshot_goes_on_behind_it() -> None:
    peer = progress(3, 4)
    peer.become_snapshot(20)
    assert peer.paused and peer.next == 21
    peer.become_probe()
    assert peer.next == 21 and not peer.paused and not peer.pending_snapshot


def test_refused_entries_take_back_what_commit_was_told() -> None:
    peer = progress(5, 10, ProgressState.REPLICATE)
    peer.note_commit_sent(9)
    assert not peer.can_bump_commit(9)
    assert peer.maybe_decrease(9, 5)
    peer.next = 10
    assert peer.can_bump_commit(9)


@given(
    st.integers(0, 20),
    st.lists(st.tuples(st.sampled_from("udrps"), st.integers(0, 30), st.integers(0, 30))),
)
def test_next_stays_above_match_whatever_comes(
    match: int, events: list[tuple[str, int, int]]
) -> None:
    peer = progress(match, match + 1)
    for kind, one, two in events:
        before = peer.match
        if kind == "u":
            peer.maybe_update(one)
        elif kind == "d":
            peer.maybe_decrease(one, two)
        elif kind == "r":
            peer.become_replicate()
        elif kind == "p":
            peer.become_probe()
        else:
            peer.become_snapshot(peer.match + one + 1)
        assert before <= peer.match < peer.next
