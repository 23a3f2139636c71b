"""May the store be read now, at this level? If not, the read waits in `reads` for what it lacks.

after a start   nothing before all is applied that the last life may have shown: what the log
                held, or, where a leader has replaced some of it, an entry of a newer term
after the first at every level as if linearizable, until a leader has told how far the
                others are: who joins would show clients less than the member it replaces
linearizable    a ReadIndex round, but for a sole voter that has committed in its term; a leader
                asks those who answered first the last time, and soon all others if they are silent
while a write is stalled the machine's memory is ahead of its store: nothing
while a sole voter applies a giant command: the state before it

Why an entry of a newer term will do: whatever the last life has shown was committed, and
terms do not go down along a log. So it lies before any committed entry whose term is newer
than that of all that the log held. A leader commits such an entry in its first round, so
what was never committed keeps nobody waiting for long.
"""

from __future__ import annotations

from typing import Final

from chainfire.errors import Timeout, TooManyRequests
from chainfire.machine import Machine
from chainfire.node.reads import ReadPending, Reads
from chainfire.proto.kv_pb2 import LINEARIZABLE, LOCAL
from chainfire.raft.rawnode import RawNode
from chainfire.raft.ready import ReadState, Role
from chainfire.types import Nobody

WAIT_SECONDS: Final = 0.001
PATIENCE = 5  # times that
READ_ROUND_TICKS = 5  # etcd asks again after 500 ms


class ReadGate:
    def __init__(
        self,
        raft: RawNode,
        machine: Machine,
        *,
        start_number: int,
        log_end: tuple[int, int],
        reads_max: int,
        timeout_ms: int,
    ) -> None:
        """`log_end`: index and term of the last entry that the last life has left."""
        self._raft = raft
        self._core = raft.raft  # read, never written
        self._machine = machine
        # Nothing is read before this is applied, or an entry of a newer term than that. Who joins
        # (and is at 0) has nothing to show before its first snapshot.
        self._gate_index, self._gate_term = max(1, log_end[0]), log_end[1]
        self._is_shut = True
        self._asks_first = self._core.log.committed <= 1  # there was no last life
        self._reads_max = reads_max
        self.reads = Reads(timeout_ms, start_number)
        self._is_local = False  # a linearizable read needs no round of heartbeats
        self._local_term = 0  # while it leads in this one
        self._ticks = 0
        self._asked: int | None = None  # as a leader: a round that few were asked to confirm
        self._patience = 0  # so many more times it is waited for
        self.timed_out = 0  # reads, by our own patience
        self.slow_rounds = 0

    def may_read(
        self,
        level: int,
        min_revision: int,
        now_ms: int,
        deadline_ms: int | None,
        pending: ReadPending,
        *,
        barred: bool,
    ) -> bool:
        """False: `pending` hears later, from `ready`, `tick` or `stop`; or was refused."""
        machine, reads = self._machine, self.reads
        index = 0 if level == LOCAL else self._core.log.committed
        if self._is_local and machine.is_held:
            index = 0  # nobody was told anything of what is being applied
        needs_round = (level == LINEARIZABLE or self._asks_first) and not self._is_local
        if (
            not needs_round
            and not (barred or self.is_shut)
            and machine.applied_index >= index
            and machine.revision >= min_revision
        ):
            return True
        if len(reads) >= self._reads_max:
            pending.refused(TooManyRequests())
        elif needs_round:
            reads.wait_for_round(min_revision, now_ms, deadline_ms, pending)
        else:
            reads.wait(index, min_revision, now_ms, deadline_ms, pending)
        return False

    @property
    def is_shut(self) -> bool:
        """Whether what was shown before may be missing still."""
        if self._is_shut:
            applied, term = self._machine.applied_index, self._machine.applied_term
            self._is_shut = applied < self._gate_index and term <= self._gate_term
        return self._is_shut

    def is_current(self, barred: bool) -> bool:
        """Whether a linearizable read need not wait for anything: at a sole voter, mostly."""
        if barred or not self._is_local or self.is_shut:
            return False
        return self._machine.applied_index >= self._core.log.committed

    def start_round(self) -> None:
        """One ReadIndex round for all that came since the last one."""
        if self._core.leader:
            context = self.reads.start_round()
            if context is not None:
                self._raft.read_index(context)

    def begin_wait(self) -> float:
        """In how many seconds `ask_more` is wanted, 0: not at all; once for each call of it."""
        rounds = self._core.reads
        if self._asked is not None or not (rounds.helpers and rounds.oldest):
            return 0.0
        self._asked, self._patience = rounds.newest, PATIENCE
        return WAIT_SECONDS

    def ask_more(self) -> float:
        """Silence of the few who were asked is made good by others. As `begin_wait`.

        A follower that is busy answers late, and is not given up for it.
        """
        rounds = self._core.reads
        if self._asked is None:
            return 0.0
        if not 0 < rounds.oldest <= self._asked:
            self._asked = None
            return self.begin_wait()
        self._patience -= 1
        if self._patience:
            return WAIT_SECONDS
        self._asked = None
        self._raft.ask_all()
        return 0.0

    def confirm_round(self, state: ReadState) -> None:
        if self._asks_first:
            self._asks_first, self._is_shut = False, True
            self._gate_index, self._gate_term = state.index, self._core.term
        self.reads.confirm_round(state.context, state.index)

    def leader_changed(self) -> None:
        """An index that an old leader names later must not answer anybody (etcd#21375)."""
        self.reads.repeat_rounds()

    def note_leadership(self) -> None:
        """After each turn: ReadIndex of a sole voter is its own commit index.

        Nobody else can have been elected; but it counts only when an entry of
        its own term is committed (Raft §8).
        """
        core = self._core
        conf = core.tracker.conf
        if core.role is not Role.LEADER or conf.voters != (core.id,) or conf.voters_outgoing:
            self._is_local = False
        elif not self._is_local or self._local_term != core.term:
            self._is_local, self._local_term = core.committed_in_term, core.term
            self._asks_first = self._asks_first and not self._is_local

    def ready(self) -> list[ReadPending]:
        """Take out those that may be answered now."""
        if self.is_shut:
            return []
        return self.reads.ready(self._machine.applied_index, self._machine.revision)

    def tick(self, now_ms: int) -> None:
        self._ticks += 1
        if self._asks_first and self._core.leader and not self._is_local and not len(self.reads):
            self.reads.wait_for_round(0, now_ms, None, Nobody())
        if self._ticks % READ_ROUND_TICKS == 0:
            self.slow_rounds += self.reads.repeat_rounds()  # its messages may be lost
        for reader, error in self.reads.overdue(now_ms):
            self.timed_out += isinstance(error, Timeout)
            reader.refused(error)

    def stop(self) -> list[ReadPending]:
        """Everybody who waits."""
        return self.reads.take_all()
