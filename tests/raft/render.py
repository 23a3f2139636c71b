"""Core objects in the notation of etcd/raft's scripts. Nothing here is known to the core."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from chainfire.raft.changes import ChangeKind, ChangeStep, ConfChange, Transition
from chainfire.raft.messages import (
    LOCAL_APPEND_THREAD,
    LOCAL_APPLY_THREAD,
    NOBODY,
    Message,
    MessageType,
    Snapshot,
)
from chainfire.raft.progress import Progress, ProgressState
from chainfire.raft.ready import Ready, Role
from chainfire.types import ConfState, Entry, EntryType, HardState

MESSAGE_NAMES = {
    MessageType.APPEND: "MsgApp",
    MessageType.APPEND_REPLY: "MsgAppResp",
    MessageType.HEARTBEAT: "MsgHeartbeat",
    MessageType.HEARTBEAT_REPLY: "MsgHeartbeatResp",
    MessageType.SNAPSHOT: "MsgSnap",
    MessageType.TIMEOUT_NOW: "MsgTimeoutNow",
    MessageType.PRE_VOTE: "MsgPreVote",
    MessageType.PRE_VOTE_REPLY: "MsgPreVoteResp",
    MessageType.VOTE: "MsgVote",
    MessageType.VOTE_REPLY: "MsgVoteResp",
    MessageType.PROPOSE: "MsgProp",
    MessageType.READ_INDEX: "MsgReadIndex",
    MessageType.READ_INDEX_REPLY: "MsgReadIndexResp",
    MessageType.TRANSFER_LEADER: "MsgTransferLeader",
    MessageType.STORAGE_APPEND: "MsgStorageAppend",
    MessageType.STORAGE_APPEND_REPLY: "MsgStorageAppendResp",
    MessageType.STORAGE_APPLY: "MsgStorageApply",
    MessageType.STORAGE_APPLY_REPLY: "MsgStorageApplyResp",
}
MESSAGE_TYPES = {name: type for type, name in MESSAGE_NAMES.items()}
ROLES = {
    Role.FOLLOWER: "StateFollower",
    Role.PRE_CANDIDATE: "StatePreCandidate",
    Role.CANDIDATE: "StateCandidate",
    Role.LEADER: "StateLeader",
}
STATES = {
    ProgressState.PROBE: "StateProbe",
    ProgressState.REPLICATE: "StateReplicate",
    ProgressState.SNAPSHOT: "StateSnapshot",
}
ENTRY_TYPES = {
    EntryType.NORMAL: "EntryNormal",
    EntryType.CONF_CHANGE: "EntryConfChange",
    EntryType.CONF_CHANGE_V2: "EntryConfChangeV2",
}
TARGETS = {NOBODY: "None", LOCAL_APPEND_THREAD: "AppendThread", LOCAL_APPLY_THREAD: "ApplyThread"}
LETTERS = {
    "v": ChangeKind.ADD_VOTER,
    "l": ChangeKind.ADD_LEARNER,
    "r": ChangeKind.REMOVE,
    "u": ChangeKind.UPDATE,
}
LETTER_OF = {kind: letter for letter, kind in LETTERS.items()}
TRANSITIONS = {
    "auto": Transition.AUTO,
    "implicit": Transition.JOINT_IMPLICIT,
    "explicit": Transition.JOINT_EXPLICIT,
}


def parse_steps(text: str) -> tuple[ChangeStep, ...]:
    """`v1 l2 r3 u4`: add voter, add learner, remove, update."""
    return tuple(ChangeStep(LETTERS[word[0]], int(word[1:])) for word in text.split())


def target(id: int) -> str:
    return TARGETS.get(id) or format(id, "x")


def indented(text: str, by: str = "  ") -> str:
    return "".join(f"{by}{line}\n" if line else "\n" for line in text.splitlines())


def entry(item: Entry) -> str:
    if item.type is EntryType.NORMAL:
        quoted = item.data.decode().replace("\\", "\\\\").replace('"', '\\"')
        text = f'"{quoted}"'
    else:
        steps = ConfChange.decode(item.data).steps
        text = " ".join(f"{LETTER_OF[step.kind]}{step.id}" for step in steps)
    return f"{item.term}/{item.index} {ENTRY_TYPES[item.type]} {text}".rstrip()


def entries(items: Iterable[Entry]) -> str:
    return "".join(entry(item) + "\n" for item in items)


def numbers(items: Iterable[int]) -> str:
    return "[" + " ".join(map(str, items)) + "]"


def snapshot(item: Snapshot) -> str:
    conf = item.conf_state
    return (
        f"Index:{item.index} Term:{item.term} ConfState:Voters:{numbers(conf.voters)} "
        f"VotersOutgoing:{numbers(conf.voters_outgoing)} Learners:{numbers(conf.learners)} "
        f"LearnersNext:{numbers(conf.learners_next)} AutoLeave:{str(conf.auto_leave).lower()}"
    )


def message(item: Message, indent: str = "") -> str:
    text = (
        f"{indent}{target(item.sender)}->{target(item.to)} {MESSAGE_NAMES[item.type]} "
        f"Term:{item.term} Log:{item.log_term}/{item.index}"
    )
    if item.reject:
        text += f" Rejected (Hint: {item.reject_hint})"
    if item.commit:
        text += f" Commit:{item.commit}"
    if item.vote:
        text += f" Vote:{item.vote}"
    if item.context and item.type in (MessageType.HEARTBEAT, MessageType.HEARTBEAT_REPLY):
        text += f" Round:{int.from_bytes(item.context, 'big')}"  # ours; etcd's notation has none
    if len(item.entries) == 1:
        text += f" Entries:[{entry(item.entries[0])}]"
    elif item.entries:
        inner = "".join(f"\n{indent}  {entry(one)}" for one in item.entries)
        text += f" Entries:[{inner}\n{indent}]"
    if item.snapshot is not None:
        text += f"\n{indent}  Snapshot: {snapshot(item.snapshot)}"
    if item.responses:
        inner = "".join("\n" + message(one, indent + "  ") for one in item.responses)
        text += f" Responses:[{inner}\n{indent}]"
    return text


def hard_state(state: HardState) -> str:
    vote = f" Vote:{state.vote}" if state.vote else ""
    return f"Term:{state.term}{vote} Commit:{state.commit}"


def ready(item: Ready) -> str:
    text = ""
    if item.soft_state is not None:
        text += f"Lead:{item.soft_state.leader} State:{ROLES[item.soft_state.role]}\n"
    if item.hard_state is not None:
        text += f"HardState {hard_state(item.hard_state)}\n"
    if item.read_states:
        states = " ".join(f"{{{s.index} {s.context.decode()}}}" for s in item.read_states)
        text += f"ReadStates [{states}]\n"
    if item.entries:
        text += "Entries:\n" + entries(item.entries)
    if item.snapshot is not None:
        text += f"Snapshot {snapshot(item.snapshot)}\n"
    if item.committed:
        text += "CommittedEntries:\n" + entries(item.committed)
    if item.messages:
        text += "Messages:\n" + "".join(message(one) + "\n" for one in item.messages)
    if not text:
        return "<empty Ready>\n"
    return f"Ready MustSync={str(item.must_sync).lower()}:\n{text}"


def progress(peer: Progress) -> str:
    text = f"{STATES[peer.state]} match={peer.match} next={peer.next}"
    if peer.is_learner:
        text += " learner"
    if peer.paused:
        text += " paused"
    if peer.pending_snapshot:
        text += f" pendingSnap={peer.pending_snapshot}"
    if not peer.recent_active:
        text += " inactive"
    if len(peer.inflights):
        text += f" inflight={len(peer.inflights)}" + ("[full]" if peer.inflights.full else "")
    return text


def progress_map(peers: Mapping[int, Progress]) -> str:
    return "".join(f"{id}: {progress(peers[id])}\n" for id in sorted(peers))


def config(conf: ConfState) -> str:
    def ids(items: Iterable[int]) -> str:
        return "(" + " ".join(map(str, items)) + ")"

    text = f"voters={ids(conf.voters)}"
    if conf.voters_outgoing:
        text += f"&&{ids(conf.voters_outgoing)}"
    if conf.learners:
        text += f" learners={ids(conf.learners)}"
    if conf.learners_next:
        text += f" learners_next={ids(conf.learners_next)}"
    return text + (" autoleave" if conf.auto_leave else "")
