"""One member's variables, and the changes of role.

The duties live in the files above this one, as functions that take this state:
election, replication, replies, follower, proposals, membership, transfer. Who
gets which message is decided once, in core.

Rule of the two lists: `messages` may leave at once; `after_append` holds
replies that promise something (a vote, an acknowledgement) and waits until all
that was appended before is durable. Messages to this member itself are in the
second list only: a leader counts its own log, a candidate its own vote, when
its own disk has it (etcd#14370, openraft a9f696a9).
"""

from __future__ import annotations

from chainfire.errors import Damaged
from chainfire.raft.config import Config
from chainfire.raft.log import LogReader, RaftLog
from chainfire.raft.messages import NOBODY, Message
from chainfire.raft.readindex import ReadRequest, ReadRounds
from chainfire.raft.ready import ReadState, Role, StepDown
from chainfire.raft.tracker import Tracker


class Raft:
    def __init__(self, config: Config, storage: LogReader) -> None:
        hard_state, conf_state = storage.initial_state()
        self.config = config
        self.id = config.id
        self.term = hard_state.term
        self.vote = hard_state.vote
        self.role = Role.FOLLOWER
        self.leader = NOBODY

        self.log = RaftLog(storage, config.applying_bytes_max)
        # The stored commit index is not synced for its own sake; what is applied was committed.
        commit = max(hard_state.commit, config.applied_index, self.log.committed)
        if commit > self.log.last_index:
            raise Damaged(
                f"entry {commit} was committed here, but the log ends at {self.log.last_index}"
            )
        self.log.commit_to(commit)
        if config.applied_index > self.log.applied:
            self.log.applied_to(config.applied_index)

        self.tracker = Tracker(config.inflight_messages_max, config.inflight_bytes_max)
        self.tracker.restore(conf_state, self.log.last_index)
        self.is_learner = self._find_is_learner()
        self.is_barred = False  # it votes, but must not lead, for reasons that are not Raft's

        self.messages: list[Message] = []
        self.after_append: list[Message] = []
        self.read_states: list[ReadState] = []

        # Leader only. Until this index is applied no other membership change is proposed.
        self.pending_conf_index = 0
        self.uncommitted_bytes = 0  # data of entries of this leadership that are not applied
        self.transferee = NOBODY  # who shall become leader; meanwhile nothing is proposed
        self.reads = ReadRounds()
        self.held_reads: list[ReadRequest] = []  # until an entry of this term is committed
        self.owes_first_append = False  # see `first_append_waits`
        self.inherited_term = 0  # of the last entry that was there when it came to lead

        # Follower: where its leader of this term has other entries than what is committed here.
        self.contradicted_at = 0

        # Follower and candidate: since the leader was heard or the election began.
        # Leader: since the last CheckQuorum.
        self.election_elapsed_ticks = 0
        self.heartbeat_elapsed_ticks = 0  # leader only
        self.election_timeout_ticks = 0  # drawn anew at every change of role or term
        self.stepped_down: tuple[int, StepDown] | None = None  # the last term it led, and its end
        self.reset(self.term)

    # ── questions ───────────────────────────────────────────────────────────

    @property
    def promotable(self) -> bool:
        """May start an election: a voter whose log is not being replaced."""
        peer = self.tracker.progress.get(self.id)
        return (
            peer is not None
            and not peer.is_learner
            and self.log.unstable.snapshot is None
            and not self.is_barred
        )

    @property
    def is_sole_voter(self) -> bool:
        conf = self.tracker.conf
        return conf.voters == (self.id,) and not conf.voters_outgoing

    @property
    def hears_leader(self) -> bool:
        """A leader was heard within the shortest timeout; votes for others are not even read.

        This is what a leader's lease rests on, so it needs CheckQuorum, which
        ends a leadership that has lost its quorum (Raft §6, thesis §4.2.3).
        """
        return (
            self.config.check_quorum
            and self.leader != NOBODY
            and self.election_elapsed_ticks < self.config.election_ticks
        )

    @property
    def committed_in_term(self) -> bool:
        """Some entry of the current term is committed, so the commit index is up to date."""
        return self.log.matches(self.log.committed, self.term)

    # ── changes of role ─────────────────────────────────────────────────────

    def become_follower(self, term: int, leader: int, why: StepDown = StepDown.NEWER_TERM) -> None:
        """`why` is of interest at a leader only."""
        if self.role is Role.LEADER:
            was_asked_to = term > self.term and self.transferee != NOBODY
            self.stepped_down = (self.term, StepDown.HANDED_OVER if was_asked_to else why)
        self.reset(term)
        self.leader = leader
        self.role = Role.FOLLOWER

    def follow_a_candidate(self, term: int) -> None:
        """Go to a term for which somebody asks our vote, without beginning to wait anew.

        Only who leads, and whom we vote for, is waited for (Raft, figure 2). Else a candidate
        with a fast clock and an old log keeps those whose votes it can't get from standing:
        without pre-votes for ever (simulator, seed 6440224).
        """
        was_leader = self.role is Role.LEADER
        waited, timeout = self.election_elapsed_ticks, self.election_timeout_ticks
        self.become_follower(term, NOBODY)
        if not was_leader:
            self.election_elapsed_ticks, self.election_timeout_ticks = waited, timeout

    def become_candidate(self) -> None:
        assert self.role is not Role.LEADER, self.role
        self.reset(self.term + 1)
        self.vote = self.id
        self.role = Role.CANDIDATE

    def become_pre_candidate(self) -> None:
        """Asks before it disturbs: neither term nor vote change (thesis §9.6)."""
        assert self.role is not Role.LEADER, self.role
        self.tracker.votes = {}
        self.leader = NOBODY
        self.role = Role.PRE_CANDIDATE

    def reset(self, term: int) -> None:
        """Forget what belonged to the old role; with a new term also the vote."""
        if term != self.term:
            assert term > self.term, (term, self.term)
            self.term = term
            self.vote = NOBODY
        self.leader = NOBODY
        self.transferee = NOBODY
        self.election_elapsed_ticks = 0
        self.heartbeat_elapsed_ticks = 0
        self.draw_election_timeout()
        self.pending_conf_index = 0
        self.uncommitted_bytes = 0
        self.reads.reset()
        self.held_reads = []
        self.owes_first_append = False
        self.contradicted_at = 0
        tracker = self.tracker
        tracker.votes = {}
        last_index = self.log.last_index
        for id in tracker.progress:
            peer = tracker.new_progress(last_index + 1)
            peer.is_learner = tracker.progress[id].is_learner
            peer.recent_active = False
            tracker.progress[id] = peer
        own = tracker.progress.get(self.id)
        if own is not None:
            # Not all of it need be durable yet, but nothing of it is committed by counting:
            # that takes an entry of the new term, acknowledged by our own disk behind these.
            own.match = last_index

    def draw_election_timeout(self) -> None:
        ticks = self.config.election_ticks
        self.election_timeout_ticks = ticks + self.config.draw(ticks)

    def note_membership(self) -> None:
        """The configuration changed; are we still a voter of it?"""
        self.is_learner = self._find_is_learner()

    def _find_is_learner(self) -> bool:
        peer = self.tracker.progress.get(self.id)
        return peer is not None and peer.is_learner
