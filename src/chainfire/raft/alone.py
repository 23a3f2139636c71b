"""The short way of a leader without any other member: no message to itself, and no Ready.

    append      proposals -> entries for its own disk
    stored      its disk has them: they are committed, and handed out to be applied

Each does to the state what the general way does (tests/raft/test_alone.py holds both against
each other), or nothing and says so. What a group of one was asked alone in a turn costs half of
that turn on the general way.
"""

from __future__ import annotations

from collections.abc import Sequence

from chainfire.raft.progress import Progress, ProgressState
from chainfire.raft.proposals import make_entries
from chainfire.raft.ready import Role
from chainfire.raft.state import Raft
from chainfire.types import Entry


def append(raft: Raft, datas: Sequence[bytes]) -> list[Entry] | None:
    """As `propose`, and as if the entries were taken to be written. None: go the general way."""
    unstable = raft.log.unstable
    if unstable.entries or unstable.snapshot is not None or _own_progress(raft) is None:
        return None
    entries = make_entries(raft, datas)
    if entries:
        raft.log.append(entries)
        unstable.accept()
    return entries


def stored(raft: Raft, last: Entry) -> list[Entry] | None:
    """Commit up to `last`, the last one of `append`. None: go the general way."""
    log = raft.log
    own = _own_progress(raft)
    if (
        own is None
        or last.term != raft.term
        or last.index != log.unstable.last_index
        or raft.held_reads  # they have waited for this commit
    ):
        return None
    entries = log.commit_stored()
    if entries is not None:
        own.recent_active = True
        own.maybe_update(last.index)
    return entries


def _own_progress(raft: Raft) -> Progress | None:
    """Of a leader that has nobody to tell anything, and has acknowledged something before."""
    progress = raft.tracker.progress
    own = progress.get(raft.id)
    if (
        own is None
        or len(progress) != 1
        or raft.role is not Role.LEADER
        or own.state is not ProgressState.REPLICATE
    ):
        return None
    return own
