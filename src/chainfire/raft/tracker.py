"""The configuration of a group, and the progress of each of its members.

The configuration is a `ConfState` whose tuples are sorted; while it is joint,
`voters_outgoing` is not empty and every decision needs both halves.

Invariants: `progress` has exactly the voters of both halves and the learners,
in rising order of id (so that messages leave in an order a seed replays);
learners are no voters; `learners_next` are outgoing voters.
"""

from __future__ import annotations

from collections.abc import Iterable

from chainfire.raft.inflights import Inflights
from chainfire.raft.progress import Progress
from chainfire.raft.quorum import (
    Verdict,
    joint_committed_index,
    joint_vote_verdict,
    majority_index,
)
from chainfire.types import ConfState


def sorted_conf(
    voters: Iterable[int],
    learners: Iterable[int] = (),
    outgoing: Iterable[int] = (),
    learners_next: Iterable[int] = (),
    auto_leave: bool = False,
) -> ConfState:
    return ConfState(
        tuple(sorted(voters)),
        tuple(sorted(learners)),
        tuple(sorted(outgoing)),
        tuple(sorted(learners_next)),
        auto_leave,
    )


class Tracker:
    def __init__(self, inflight_messages_max: int, inflight_bytes_max: int) -> None:
        self.inflight_messages_max = inflight_messages_max
        self.inflight_bytes_max = inflight_bytes_max
        self.conf = ConfState()
        self.progress: dict[int, Progress] = {}
        self.all_voters: tuple[int, ...] = ()  # of both halves, sorted
        self.votes: dict[int, bool] = {}

    # ── configuration ───────────────────────────────────────────────────────

    def new_progress(self, next_index: int) -> Progress:
        return Progress(next_index, Inflights(self.inflight_messages_max, self.inflight_bytes_max))

    def install(self, conf: ConfState, progress: dict[int, Progress]) -> None:
        """Take over a configuration with the progress of exactly its members."""
        voters = set(conf.voters) | set(conf.voters_outgoing)
        learners = set(conf.learners)
        assert not voters & learners, conf
        assert set(conf.learners_next) <= set(conf.voters_outgoing), conf
        assert not set(conf.learners_next) & set(conf.voters), conf
        assert not conf.auto_leave or conf.voters_outgoing, conf
        assert progress.keys() == voters | learners, (conf, sorted(progress))
        self.conf = conf
        self.all_voters = tuple(sorted(voters))
        self.progress = {id: progress[id] for id in sorted(progress)}
        for id, peer in self.progress.items():
            peer.is_learner = id in learners

    def restore(self, conf_state: ConfState, last_index: int) -> None:
        """Start from a stored configuration, joint or not (raft e515a67 dropped the joint half)."""
        conf = sorted_conf(
            conf_state.voters,
            conf_state.learners,
            conf_state.voters_outgoing,
            conf_state.learners_next,
            conf_state.auto_leave,
        )
        members = {*conf.voters, *conf.voters_outgoing, *conf.learners}
        self.install(conf, {id: self.new_progress(max(last_index, 1)) for id in members})

    @property
    def is_joint(self) -> bool:
        return bool(self.conf.voters_outgoing)

    @property
    def is_singleton(self) -> bool:
        return len(self.conf.voters) == 1 and not self.conf.voters_outgoing

    # ── decisions ───────────────────────────────────────────────────────────

    def committed(self) -> int:
        """The highest index that a quorum is known to hold durably."""
        conf, progress = self.conf, self.progress
        voters = conf.voters
        if len(voters) == 1 and not conf.voters_outgoing:
            return progress[voters[0]].match
        if conf.voters_outgoing:
            matches = {id: progress[id].match for id in self.all_voters}
            return joint_committed_index(voters, conf.voters_outgoing, matches)
        return majority_index([progress[id].match for id in voters])

    def verdict(self, votes: dict[int, bool]) -> Verdict:
        return joint_vote_verdict(self.conf.voters, self.conf.voters_outgoing, votes)

    def is_quorum(self, ids: Iterable[int]) -> bool:
        return self.verdict(dict.fromkeys(ids, True)) is Verdict.WON

    def quorum_active(self) -> bool:
        """A quorum of voters was heard from since the last call of `forget_activity`."""
        active = {id: self.progress[id].recent_active for id in self.all_voters}
        return self.verdict(active) is Verdict.WON

    # ── votes of the current election ───────────────────────────────────────

    def record_vote(self, id: int, granted: bool) -> None:
        """The first answer counts; later ones of the same member change nothing."""
        self.votes.setdefault(id, granted)

    def election_verdict(self) -> Verdict:
        return self.verdict(self.votes)
