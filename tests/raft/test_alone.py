"""The short way of a leader of itself alone does what the general way does: twins, step by step."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from chainfire.raft.changes import ChangeKind, ChangeStep, ConfChange
from chainfire.raft.messages import Message, ProposalDropped
from chainfire.raft.ready import Role, StepDown
from chainfire.types import Entry
from tests import report
from tests.raft.build import M, member

LEARNER = 7


class Twin:
    """A member with asynchronous storage whose disk and machine work when they are told to."""

    def __init__(self, *, takes_short_way: bool) -> None:
        self.node = member(
            (1,), async_storage_writes=True, applying_bytes_max=200, uncommitted_bytes_max=400
        )
        self.raft = self.node.raft
        self.takes_short_way = takes_short_way
        self.short = 0  # proposals and commits that went that way
        self.unsynced: deque[Entry | Message] = deque()  # written; what is due when it is durable
        self.applies: deque[Sequence[Entry]] = deque()
        self.said: list[Any] = []  # whatever somebody else would hear

    def propose(self, datas: list[bytes]) -> bool:
        try:
            if self.takes_short_way and not self.unsynced:
                entries = self.node.propose_alone(datas)
                if entries:
                    self.short += 1
                    self.write(entries)
                    self.unsynced.append(entries[-1])
                    return True
            self.node.propose(datas)
        except ProposalDropped:
            return False
        return True

    def propose_unwritable(self, datas: list[bytes]) -> None:
        """As if the disk had asked to wait: the write is done as a message."""
        entries = self.node.propose_alone(datas) if self.takes_short_way else []
        if entries:
            self.carry_out(self.node.work_of(entries))
        else:
            self.propose(datas)

    def sync(self) -> None:
        """Everything that is written is durable."""
        due, self.unsynced = self.unsynced, deque()
        for what in due:
            if isinstance(what, Message):
                self.node.step(what)
                continue
            committed = self.node.stored_alone(what)
            if committed:
                self.short += 1
                self.applies.append(committed)

    def apply(self) -> None:
        if self.applies:
            entries = self.applies.popleft()
            for entry in entries:
                if entry.type:
                    self.node.apply_conf_change(ConfChange.decode(entry.data))
            self.node.applied_to(entries[-1].index)

    def drain(self) -> None:
        while self.node.has_ready():
            ready = self.node.ready()
            self.said += ready.read_states
            for message in ready.messages:
                self.carry_out(message)

    def carry_out(self, message: Message) -> None:
        if message.type is M.STORAGE_APPEND:
            self.write(message.entries)
            self.unsynced.extend(message.responses)
        elif message.type is M.STORAGE_APPLY:
            self.applies.append(message.entries)
        else:
            self.said.append(message)

    def write(self, entries: Sequence[Entry]) -> None:
        self.raft.log.storage.append(entries)  # type: ignore[attr-defined]

    def state(self) -> dict[str, Any]:
        raft, log, unstable = self.raft, self.raft.log, self.raft.log.unstable
        return {
            "status": self.node.status(),
            "noted": (self.node._role, self.node._term, self.node._vote, self.node._commit),
            "pending": (raft.messages, raft.after_append, raft.read_states, raft.held_reads),
            "uncommitted": (raft.uncommitted_bytes, raft.pending_conf_index),
            "applying": (log.applying, log._applying_bytes, list(log._applying_pages)),
            "paused": log.is_paused,
            "unstable": (unstable.entries, unstable.offset, unstable.in_progress),
            "stored": (log.storage.log, log.storage.hard_state),  # type: ignore[attr-defined]
            "applies": [list(entries) for entries in self.applies],
            "said": self.said,
        }


CHANGES = {
    "add": ConfChange((ChangeStep(ChangeKind.ADD_LEARNER, LEARNER),)),
    "remove": ConfChange((ChangeStep(ChangeKind.REMOVE, LEARNER),)),
}
DATAS = st.lists(st.sampled_from([b"", b"x", b"y" * 40, b"z" * 150]), min_size=1, max_size=3)
ACTIONS = st.one_of(
    st.tuples(st.just("propose"), DATAS),
    st.tuples(st.just("propose_unwritable"), DATAS),
    st.tuples(st.sampled_from(["sync", "apply", "sync", "apply", "tick", "campaign"])),
    st.tuples(st.sampled_from(["step_down", "change", "read", "answer"]), st.integers(0, 3)),
)


def act(twin: Twin, name: str, argument: Any = None) -> None:
    node, raft = twin.node, twin.raft
    match name:
        case "tick" | "campaign":
            getattr(node, name)()
        case "step_down":
            node.step_down(StepDown.DISK_STALLS)
        case "change":
            change = CHANGES["add" if argument % 2 else "remove"]
            try:
                node.propose_conf_change(change)
            except ProposalDropped:
                twin.said.append("dropped")
        case "read":
            twin.said.append(node.read_index(b"%d" % argument))
        case "answer":  # of the learner: all there is, or that somebody leads a later term
            term = raft.term + (argument == 0)
            node.step(
                Message(M.APPEND_REPLY, raft.id, LEARNER, term, index=raft.log.last_index)
                if argument
                else Message(M.HEARTBEAT, raft.id, LEARNER, term)
            )
        case "propose":
            twin.said.append(twin.propose(argument))
        case _:
            getattr(twin, name)(*([] if argument is None else [argument]))


@settings(max_examples=400)
@given(st.lists(ACTIONS, max_size=60))
def test_the_short_way_leads_where_the_general_way_leads(actions: list[tuple[Any, ...]]) -> None:
    short, general = Twin(takes_short_way=True), Twin(takes_short_way=False)
    for action in [("campaign",), ("sync",), ("sync",), *actions]:
        for twin in (short, general):
            act(twin, *action)
            twin.drain()
        assert short.state() == general.state(), action
    report.count("steps of a leader alone, by both ways", len(actions))


def test_a_leader_alone_needs_no_message_for_a_proposal() -> None:
    twin = Twin(takes_short_way=True)
    act(twin, "campaign")
    for _ in range(3):  # its vote, its first entry
        twin.drain()
        twin.sync()
    twin.apply()
    assert twin.raft.role is Role.LEADER
    for number in range(1, 4):
        assert twin.propose([b"one"])
        assert not twin.node.has_ready()
        twin.sync()
        assert not twin.node.has_ready()
        twin.apply()
        assert twin.short == 2 * number


def test_with_a_learner_there_is_no_short_way() -> None:
    twin = Twin(takes_short_way=True)
    for action in ["campaign", "sync", "sync", "apply"]:
        act(twin, action)
        twin.drain()
    act(twin, "change", 1)
    for action in ["drain", "sync", "drain", "apply"]:
        act(twin, action)
    assert LEARNER in twin.raft.tracker.progress
    assert not twin.node.propose_alone([b"one"])
