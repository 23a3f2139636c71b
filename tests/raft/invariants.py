"""What must hold over a whole cluster at every moment (Raft figure 3), checked from outside.

The oracle sees every member's log, durable and not, which no member does.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from chainfire.raft.rawnode import RawNode
from chainfire.raft.ready import Role
from chainfire.raft.state import Raft
from chainfire.types import Entry
from tests.raft.memory_log import MemoryLog


class Oracle:
    def __init__(self) -> None:
        self.leaders: dict[int, tuple[int, int]] = {}  # term: (member, its start)
        self.committed: dict[int, int] = {}  # index: term
        self.applied: dict[int, Entry] = {}
        self.last_committed = 0  # what the next leader, and the next read, must not miss
        self.durable_states: dict[int, tuple[int, int]] = {}  # member: (term, vote)

    def start(self, index: int, term: int) -> None:
        """The history begins with a snapshot that everybody has."""
        self.committed[index] = term
        self.last_committed = index

    def look(self, node: RawNode, start: int, logs: Iterable[MemoryLog]) -> None:
        """After anything happened to a member."""
        raft = node.raft
        log = raft.log
        assert log.applied <= log.applying <= log.committed <= log.last_index
        for id, peer in raft.tracker.progress.items():
            assert peer.match < peer.next, (raft.id, id, peer.match, peer.next)
        if raft.role is Role.LEADER:
            self._election_safety(raft, start)
        while self.last_committed < log.committed:
            self._commit(raft, self.last_committed + 1, logs)

    def _election_safety(self, raft: Raft, start: int) -> None:
        """One leader per term, and it has every entry that was committed before."""
        leader = self.leaders.setdefault(raft.term, (raft.id, start))
        assert leader == (raft.id, start), f"term {raft.term}: {leader} and {raft.id, start}"
        log = raft.log
        newest = max((i for i, term in self.committed.items() if term < raft.term), default=0)
        if newest >= log.first_index - 1:
            term = log.term(newest)
            assert term == self.committed[newest], f"leader {raft.id} lacks committed {newest}"

    def _commit(self, raft: Raft, index: int, logs: Iterable[MemoryLog]) -> None:
        term = raft.log.term(index)
        if term is None:  # by a snapshot, from somebody whom we saw commit it
            raise AssertionError(f"{raft.id} committed {index} before anybody else did")
        holders = {log.member for log in logs if _holds(log, index, term)}
        for half in (raft.tracker.conf.voters, raft.tracker.conf.voters_outgoing):
            quorum = len(half) // 2 + 1
            assert not half or len(holders & set(half)) >= quorum, (
                f"{raft.id} committed {index}, durable on {sorted(holders)} of {half}"
            )
        self.committed[index] = term
        self.last_committed = index

    def persist(self, member: int, term: int, vote: int) -> None:
        """Terms never fall on disk, and a vote in a term never changes."""
        old_term, old_vote = self.durable_states.get(member, (0, 0))
        assert term >= old_term, (member, term, old_term)
        if term == old_term and old_vote:
            assert vote == old_vote, (member, term, vote, old_vote)
        self.durable_states[member] = (term, vote)

    def apply(self, member: int, expected_index: int, entries: Sequence[Entry]) -> None:
        """State machine safety: every member applies the same entry at an index, without gaps."""
        for index, entry in enumerate(entries, expected_index):
            assert entry.index == index, (member, entry.index, index)
            first = self.applied.setdefault(index, entry)
            assert entry == first, f"member {member} applied {entry}, another {first}"
            assert self.committed.get(index) == entry.term, (member, entry)

    def log_matching(self, logs: Sequence[MemoryLog]) -> None:
        """Two logs with the same term at an index are the same up to there."""
        for one, other in itertools.pairwise(logs):
            low = max(one.first_index(), other.first_index())
            agree = False
            for index in range(min(one.last_index(), other.last_index()), low - 1, -1):
                same_term = one.term(index) == other.term(index)
                assert same_term or not agree, (one.member, other.member, index)
                if same_term:
                    agree = True
                    mine, theirs = (
                        one.log[index - one.base[0] - 1],
                        other.log[index - other.base[0] - 1],
                    )
                    assert mine == theirs, (one.member, other.member, mine, theirs)


def _holds(log: MemoryLog, index: int, term: int) -> bool:
    if index <= log.base[0]:
        return True  # in its state, which only committed entries enter
    return index <= log.last_index() and log.term(index) == term
