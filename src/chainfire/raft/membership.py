"""Membership changes take effect here: when their entry is applied, or with a snapshot.

At apply time, as in etcd and unlike the paper (thesis §4.1 switches on append):
a configuration is then always one that is committed, and need not be undone
when a log is truncated. The price is that a change may be committed and not yet
applied at some members; `campaign` and `pending_conf_index` account for it.
"""

from __future__ import annotations

from chainfire.raft.changes import ConfChange
from chainfire.raft.confchange import Changer
from chainfire.raft.messages import NOBODY, Snapshot
from chainfire.raft.reads import release_held_reads
from chainfire.raft.ready import Role, StepDown
from chainfire.raft.replication import broadcast_append, broadcast_entries, maybe_commit
from chainfire.raft.state import Raft
from chainfire.types import ConfState


def apply_conf_change(raft: Raft, change: ConfChange) -> ConfState:
    """The configuration after the change. Raises InvalidConfChange with nothing changed."""
    changer = Changer(raft.tracker, raft.log.last_index)
    changer.change(change)
    raft.tracker.install(changer.conf, changer.progress)
    raft.note_membership()
    if raft.role is Role.LEADER:
        _lead_under_new_membership(raft)
    return raft.tracker.conf


def _lead_under_new_membership(raft: Raft) -> None:
    """A leader outside it goes on until others have learned of it (thesis §4.2.2). It never counts
    itself and takes nothing new, but must end what is under way: as long as the others hear it,
    nobody else will.
    """
    tracker = raft.tracker
    is_voter = raft.id in tracker.progress and not raft.is_learner
    if not is_voter and raft.config.step_down_on_removal:
        raft.become_follower(raft.term, NOBODY, StepDown.REMOVED)
        return
    if maybe_commit(raft):
        # A smaller quorum may have agreed already.
        release_held_reads(raft)
        broadcast_append(raft)
    else:
        broadcast_entries(raft)  # probe new members now, not at the next heartbeat
    if raft.transferee not in tracker.all_voters:
        raft.transferee = NOBODY


def restore_snapshot(raft: Raft, snapshot: Snapshot) -> bool:
    """Replace log and configuration by a leader's snapshot; False if it brings nothing new."""
    log = raft.log
    if snapshot.index <= log.committed:
        return False
    assert raft.role is Role.FOLLOWER, raft.role
    conf_state = snapshot.conf_state
    if not (
        raft.id in conf_state.voters
        or raft.id in conf_state.learners
        or raft.id in conf_state.voters_outgoing
    ):
        return False  # made before we were added; it would teach us a group without us
    if log.matches(snapshot.index, snapshot.term):
        log.commit_to(snapshot.index)  # the log holds it all, only the commit was unknown
        return False
    log.restore(snapshot)
    raft.tracker.restore(conf_state, log.last_index)
    raft.note_membership()
    return True
