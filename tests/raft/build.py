"""Members for unit tests: one core with its log in memory; the others are messages by hand."""

from __future__ import annotations

from typing import Any

from chainfire.raft.config import Config
from chainfire.raft.messages import Message, MessageType, Snapshot
from chainfire.raft.rawnode import RawNode
from chainfire.raft.ready import Ready, Role
from chainfire.types import ConfState, Entry, HardState
from tests.raft.memory_log import MemoryLog

M = MessageType


def log_of(*terms: int, base: tuple[int, int] = (0, 0)) -> MemoryLog:
    """A stored log with entries of these terms behind `base` (index, term)."""
    storage = MemoryLog()
    storage.base = base
    storage.log = [Entry(term, base[0] + 1 + at) for at, term in enumerate(terms)]
    return storage


def member(
    voters: tuple[int, ...] = (1, 2, 3),
    *,
    id: int = 1,
    learners: tuple[int, ...] = (),
    storage: MemoryLog | None = None,
    term: int = 0,
    vote: int = 0,
    commit: int = 0,
    **config: Any,
) -> RawNode:
    storage = storage or MemoryLog()
    storage.conf_state = ConfState(voters, learners)
    storage.hard_state = HardState(term, vote, commit)
    defaults: dict[str, Any] = {
        "draw": lambda ticks: 0,
        "election_ticks": 10,
        "pre_vote": False,
        "check_quorum": False,
    }
    return RawNode(Config(id=id, **(defaults | config)), storage)


def turn(node: RawNode) -> Ready:
    """One Ready, carried out with synchronous storage."""
    ready = node.ready()
    storage = node.raft.log.storage
    assert isinstance(storage, MemoryLog)
    if ready.hard_state is not None:
        storage.hard_state = ready.hard_state
    if ready.snapshot is not None:
        storage.install(ready.snapshot)
    storage.append(ready.entries)
    node.advance()
    return ready


def settle(node: RawNode) -> list[Message]:
    """All turns until there is nothing to do; what was sent."""
    sent: list[Message] = []
    for _ in range(100):
        if not node.has_ready():
            return sent
        sent += turn(node).messages
    raise AssertionError("never quiet")


def leader(voters: tuple[int, ...] = (1, 2, 3), **arguments: Any) -> RawNode:
    """Elected by all voters; its first entry is stored here and known nowhere else."""
    node = member(voters, **arguments)
    assert node.campaign()
    settle(node)
    for voter in voters:
        if voter != node.raft.id:
            node.step(Message(M.VOTE_REPLY, node.raft.id, voter, node.raft.term))
    assert node.raft.role is Role.LEADER
    settle(node)
    return node


def acknowledge(node: RawNode, sender: int, index: int | None = None) -> None:
    """A follower holds everything up to `index`, by default all there is."""
    index = node.raft.log.last_index if index is None else index
    node.step(Message(M.APPEND_REPLY, node.raft.id, sender, node.raft.term, 0, index))


def append(
    node: RawNode, prev: tuple[int, int], *terms: int, term: int | None = None, commit: int = 0
) -> None:
    """The leader, member 2, sends entries of these terms behind `prev` (index, term)."""
    entries = [Entry(each, prev[0] + 1 + at) for at, each in enumerate(terms)]
    term = node.raft.term if term is None else term
    node.step(Message(M.APPEND, node.raft.id, 2, term, prev[1], prev[0], entries, commit))


def snapshot(index: int, term: int, voters: tuple[int, ...] = (1, 2, 3)) -> Snapshot:
    return Snapshot(index, term, ConfState(voters))
