"""Commands of this member that have not been answered yet, by sequence.

A command's id is (member id, start number, sequence). It is settled once its
caller has an answer, "unknown" included, or is gone; every envelope says which
sequences of its sender are all settled, so that the machine need not remember
those.

A command is kept whole until then, because it is proposed again, under the
same id, when what was proposed may be lost.

Invariant: _lowest <= every pending sequence < _next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from chainfire.raft.changes import ConfChange
from chainfire.types import Pending


@dataclass(slots=True, init=False)
class Own:
    """One command of ours, or a membership change (`change`; `body` then describes members)."""

    sequence: int
    pending: Pending
    kind: int
    body: bytes
    keyspace: int
    user: str
    auth_revision: int
    change: ConfChange | None
    is_out: bool  # proposed or forwarded before: a copy of it may be in some log

    def __init__(
        self,
        sequence: int,
        pending: Pending,
        kind: int,
        body: bytes,
        keyspace: int = 0,
        user: str = "",
        auth_revision: int = 0,
        change: ConfChange | None = None,
        is_out: bool = False,
    ) -> None:
        self.sequence = sequence
        self.pending = pending
        self.kind = kind
        self.body = body
        self.keyspace = keyspace
        self.user = user
        self.auth_revision = auth_revision
        self.change = change
        self.is_out = is_out


class Proposals:
    def __init__(self, *, pending_max: int, timeout_ms: int) -> None:
        self.pending_max = pending_max
        self._timeout_ms = timeout_ms
        self._pending: dict[int, Own] = {}  # in the order of sequences
        self._next = 1
        self._lowest = 1
        self._deadlines: deque[tuple[int, int]] = deque()  # (ms, sequences below it)

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def full(self) -> bool:
        return len(self._pending) >= self.pending_max

    @property
    def lowest_unsettled(self) -> int:
        """Every sequence below is settled. Amortised O(1)."""
        lowest, pending = self._lowest, self._pending
        while lowest < self._next and lowest not in pending:
            lowest += 1
        self._lowest = lowest
        return lowest

    def add(
        self,
        pending: Pending,
        kind: int,
        body: bytes,
        keyspace: int = 0,
        user: str = "",
        auth_revision: int = 0,
        change: ConfChange | None = None,
    ) -> Own:
        """Take the next sequence for this caller's command."""
        sequence = self._next
        self._next = sequence + 1
        own = Own(sequence, pending, kind, body, keyspace, user, auth_revision, change)
        self._pending[sequence] = own
        return own

    def unsettled(self) -> list[Own]:
        """All of them, in the order in which they came."""
        return list(self._pending.values())

    def wanted(self, commands: Iterable[Own]) -> list[Own]:
        """Those of these that somebody waits for. Whose caller is gone is settled.

        Nobody is told then what became of it, just as at its deadline: a copy that is in some log
        may be applied, once, or be void, since later envelopes call it settled.
        """
        pending = self._pending
        wanted: list[Own] = []
        for own in commands:
            if own.sequence in pending:
                if own.pending.finished:
                    del pending[own.sequence]
                else:
                    wanted.append(own)
        return wanted

    def settle(self, sequence: int) -> Pending | None:
        """Who waits for this sequence; None when it was answered before."""
        own = self._pending.pop(sequence, None)
        return own.pending if own is not None else None

    def mark_turn(self, now_ms: int) -> None:
        """Start the clock of everything added since the last mark."""
        if not self._deadlines or self._deadlines[-1][1] != self._next:
            self._deadlines.append((now_ms + self._timeout_ms, self._next))

    def overdue(self, now_ms: int) -> list[Pending]:
        """Take out those whose time is over: their outcome is unknown."""
        late: list[Pending] = []
        while self._deadlines and self._deadlines[0][0] <= now_ms:
            _, below = self._deadlines.popleft()
            for sequence in range(self.lowest_unsettled, below):
                pending = self.settle(sequence)
                if pending is not None:
                    late.append(pending)
        return late

    def take_all(self) -> list[Pending]:
        """Everybody who waits: the member stops."""
        waiting = [own.pending for own in self._pending.values()]
        self._pending.clear()
        return waiting
