"""Rounds that prove a leader still leads, for reads that must be linearizable.

A round remembers the commit index of its start and is confirmed when a quorum
has answered a heartbeat sent after that. Its number is this core's own count,
never the reader's context: a caller that repeats its request would otherwise
let answers to the first confirm the second, after a pause in which another
leader committed (etcd#20418, raft#397).

    A leads; read x starts; B answers the heartbeat twice (duplicated); A is paused.
    C is elected with B and commits. A goes on, the reader repeats x: with rounds named
    by x, B's second, old answer would confirm a stale index. By number it names round 1.

An answer to round n also proves leadership for every earlier round.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from chainfire.raft.quorum import joint_committed_index
from chainfire.types import ConfState


@dataclass(slots=True, frozen=True)
class ReadRequest:
    """Who asked; `context` is handed back unread."""

    sender: int
    context: bytes
    confirms: bool = False  # asking, the sender said that it is in the leader's term


@dataclass(slots=True, frozen=True)
class ReadRound:
    number: int
    index: int  # commit index when the round started
    request: ReadRequest


class ReadRounds:
    """The rounds of one term of leadership; numbers go on rising across terms."""

    def __init__(self) -> None:
        self._last = 0
        self._rounds: deque[ReadRound] = deque()
        self._answered: dict[int, int] = {}  # member: highest round it has answered
        self.helpers: tuple[int, ...] = ()  # whose answers confirmed the last round

    def __len__(self) -> int:
        return len(self._rounds)

    def reset(self) -> None:
        """Leadership begins or ends: nothing of before proves anything."""
        self._rounds.clear()
        self._answered.clear()
        self.helpers = ()

    @property
    def oldest(self) -> int:
        """The number of the first round that is not confirmed; 0: there is none."""
        return self._rounds[0].number if self._rounds else 0

    @property
    def newest(self) -> int:
        """The number of the last round."""
        return self._last

    def start(self, index: int, request: ReadRequest, own_id: int) -> bytes:
        """A new round; the context for its heartbeats."""
        self._last += 1
        self._rounds.append(ReadRound(self._last, index, request))
        self._answered[own_id] = self._last
        return self.context()

    def context(self) -> bytes:
        """What heartbeats carry: the last unconfirmed round, nothing if there is none."""
        return self._last.to_bytes(8, "big") if self._rounds else b""

    def answered(self, member: int, context: bytes, conf: ConfState) -> list[ReadRound]:
        """A member answered a heartbeat; the rounds that this confirms, oldest first."""
        number = int.from_bytes(context, "big")
        if not self._rounds or not self._rounds[0].number <= number <= self._last:
            return []
        self._answered[member] = max(number, self._answered.get(member, 0))
        confirmed = joint_committed_index(conf.voters, conf.voters_outgoing, self._answered)
        released: list[ReadRound] = []
        while self._rounds and self._rounds[0].number <= confirmed:
            released.append(self._rounds.popleft())
        if released and not self.helpers:
            self.helpers = tuple(id for id, last in self._answered.items() if last >= confirmed)
        return released
