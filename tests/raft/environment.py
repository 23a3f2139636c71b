"""A group of members driven by a script, one directive at a time.

Verbs and output shapes are those of etcd/raft's interaction scripts; a few
verbs and options more, for our own scripts, stand under "our own" below.
State machines append the data of what they apply to a string.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from chainfire.raft.changes import ConfChange
from chainfire.raft.config import UNLIMITED, Config, ReadOnly
from chainfire.raft.messages import (
    LOCAL_APPEND_THREAD,
    LOCAL_APPLY_THREAD,
    Message,
    MessageType,
    ProposalDropped,
    Refusal,
    Snapshot,
)
from chainfire.raft.rawnode import RawNode
from chainfire.raft.ready import Role
from chainfire.raft.tracker import sorted_conf
from chainfire.types import ConfState, Entry, EntryType, HardState
from tests.raft import render
from tests.raft.datadriven import Directive
from tests.raft.memory_log import MemoryLog

_LOCAL = (LOCAL_APPEND_THREAD, LOCAL_APPLY_THREAD)
_REFUSALS = {
    Refusal.PROPOSAL_DROPPED: "raft proposal dropped",
    Refusal.PEER_NOT_FOUND: "raft: cannot step as peer not found",
    Refusal.LOCAL_MESSAGE: "raft: cannot step raft local message",
}
_ROUNDS_MAX = 1000  # of stabilize; a group that is busy for longer never settles


class ScriptError(Exception):
    """What a directive prints instead of its output, muted or not."""


@dataclass
class Node:
    config: Config
    storage: MemoryLog
    raw: RawNode = field(init=False)
    history: list[Snapshot] = field(default_factory=list)  # states after each applied entry
    append_work: list[Message] = field(default_factory=list)
    apply_work: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.raw = RawNode(self.config, self.storage)

    def write(self, state: HardState | None, entries: object, snapshot: Snapshot | None) -> None:
        if state is not None:
            self.storage.hard_state = state
        if snapshot is not None:
            assert not entries
            self.storage.install(snapshot)
            self.history.append(snapshot)
        else:
            self.storage.append(entries)  # type: ignore[arg-type]

    def apply(self, entries: list[Entry]) -> None:
        for entry in entries:
            data, conf = entry.data, None
            if entry.type is not EntryType.NORMAL:
                change = ConfChange.decode(entry.data)
                data, conf = change.context, self.raw.apply_conf_change(change)
            last = self.history[-1]
            self.history.append(
                Snapshot(entry.index, entry.term, conf or last.conf_state, last.data + data)
            )
            self.storage.latest = self.history[-1]
            self.storage.conf_state = self.history[-1].conf_state


class Environment:
    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.messages: list[Message] = []  # under way
        self.lines: list[str] = []
        self.indent = ""
        self.level = "debug"

    # ── output ──────────────────────────────────────────────────────────────

    def print(self, text: str) -> None:
        self.lines.extend(
            self.indent + line if line else "" for line in text.rstrip("\n").split("\n")
        )

    def heading(self, text: str, work: Callable[[], None]) -> None:
        self.print(text)
        before, self.indent = self.indent, self.indent + "  "
        try:
            work()
        finally:
            self.indent = before

    def run(self, directive: Directive) -> str:
        self.lines = []
        try:
            getattr(self, "do_" + directive.verb.replace("-", "_"))(directive)
        except ScriptError as error:
            if self.level == "none":
                return str(error)
            self.print(str(error))
        if self.level == "none" and directive.verb != "log-level":
            return "ok"
        return "\n".join(self.lines) or "ok"

    # ── members ─────────────────────────────────────────────────────────────

    def node(self, id: int) -> Node:
        return self.nodes[id - 1]

    def do_add_nodes(self, d: Directive) -> None:
        conf = sorted_conf(
            map(int, d.options.get("voters", ())), map(int, d.options.get("learners", ()))
        )
        index = int(d.option("index", "0"))
        content = d.option("content").encode()
        start = Snapshot(index, 1 if index else 0, conf, content)
        for _ in range(d.ids[0]):
            if (conf != ConfState() or content) and index <= 1:
                raise ScriptError("index must be specified as > 1 due to bootstrap")
            storage = MemoryLog(conf)
            if index:
                storage.install(start)
            node = Node(self._config(len(self.nodes) + 1, d), storage, history=[start])
            self.nodes.append(node)

    def _config(self, id: int, d: Directive) -> Config:
        return Config(
            id=id,
            draw=lambda ticks: ticks - 1,
            election_ticks=3,
            heartbeat_ticks=1,
            async_storage_writes=d.flag("async-storage-writes"),
            inflight_messages_max=int(d.option("inflight", "1000000")),
            pre_vote=d.flag("prevote"),
            check_quorum=d.flag("checkquorum"),
            applying_bytes_max=int(d.option("max-committed-size-per-ready", str(UNLIMITED))),
            validate_conf_changes=not d.flag("disable-conf-change-validation"),
            read_only=ReadOnly(d.option("read-only", "safe")),
            step_down_on_removal=d.flag("step-down-on-removal"),
            # our own
            append_bytes_max=int(d.option("max-size-per-msg", str(UNLIMITED))),
            inflight_bytes_max=int(d.option("inflight-bytes", "0")),
            uncommitted_bytes_max=int(d.option("max-uncommitted-size", str(UNLIMITED))),
        )

    # ── what happens to a member ────────────────────────────────────────────

    def do_campaign(self, d: Directive) -> None:
        self.node(d.ids[0]).raw.campaign()

    def do_propose(self, d: Directive) -> None:
        node = self.node(int(d.arguments[0]))
        data = d.arguments[1].strip('"').encode() if len(d.arguments) > 1 else b""
        self._propose(lambda: node.raw.propose([data]))

    def do_propose_conf_change(self, d: Directive) -> None:
        node = self.node(d.ids[0])
        steps = render.parse_steps(d.input)
        transition = render.TRANSITIONS[d.option("transition", "auto")]
        v1 = d.flag("v1")
        if v1 and (len(steps) > 1 or transition is not render.TRANSITIONS["auto"]):
            raise ScriptError("v1 conf change can only have one operation and no transition")
        type = EntryType.CONF_CHANGE if v1 else EntryType.CONF_CHANGE_V2
        self._propose(lambda: node.raw.propose_conf_change(ConfChange(steps, transition), type))

    def _propose(self, work: Callable[[], None]) -> None:
        try:
            work()
        except ProposalDropped as dropped:
            raise ScriptError(str(dropped)) from None

    def do_tick_election(self, d: Directive) -> None:
        node = self.node(d.ids[0])
        for _ in range(node.config.election_ticks):
            node.raw.tick()

    def do_tick_heartbeat(self, d: Directive) -> None:
        node = self.node(d.ids[0])
        for _ in range(node.config.heartbeat_ticks):
            node.raw.tick()

    def do_set_randomized_election_timeout(self, d: Directive) -> None:
        ticks = int(d.option("timeout"))
        self.node(d.ids[0]).raw.raft.election_timeout_ticks = ticks

    def do_transfer_leadership(self, d: Directive) -> None:
        self.node(int(d.option("from"))).raw.transfer_leader(int(d.option("to")))

    def do_forget_leader(self, d: Directive) -> None:
        self.node(d.ids[0]).raw.forget_leader()

    def do_report_unreachable(self, d: Directive) -> None:
        self.node(d.ids[0]).raw.report_unreachable(d.ids[1])

    def do_send_snapshot(self, d: Directive) -> None:
        sender, to = d.ids
        node = self.node(sender)
        term = node.raw.raft.term
        message = Message(MessageType.SNAPSHOT, to, sender, term, snapshot=node.history[-1])
        self.messages.append(message)
        self.print(render.message(message))

    def do_compact(self, d: Directive) -> None:
        id, index = d.ids
        self.node(id).storage.compact(index)
        self._print_log(id)

    def do__breakpoint(self, d: Directive) -> None:
        """For a debugger's sake."""

    # ── turns ───────────────────────────────────────────────────────────────

    def _each(self, ids: list[int], heading: str, work: Callable[[int], None]) -> None:
        for id in ids:
            if len(ids) == 1:
                work(id)
            else:
                self.heading(f"> {id} {heading}", lambda id=id: work(id))  # type: ignore[misc]

    def do_process_ready(self, d: Directive) -> None:
        self._each(d.ids, "handling Ready", self._process_ready)

    def do_process_append_thread(self, d: Directive) -> None:
        self._each(d.ids, "processing append thread", self._process_append)

    def do_process_apply_thread(self, d: Directive) -> None:
        self._each(d.ids, "processing apply thread", self._process_apply)

    def _process_ready(self, id: int) -> None:
        node = self.node(id)
        ready = node.raw.ready()
        self.print(render.ready(ready))
        synchronous = not node.config.async_storage_writes
        if synchronous:
            node.write(ready.hard_state, ready.entries, ready.snapshot)
            node.apply(list(ready.committed))
        for message in ready.messages:
            if message.type is MessageType.STORAGE_APPEND:
                node.append_work.append(message)
            elif message.type is MessageType.STORAGE_APPLY:
                node.apply_work.append(message)
            else:
                self.messages.append(message)
        if synchronous:
            node.raw.advance()

    def _process_append(self, id: int) -> None:
        node = self.node(id)
        if not node.append_work:
            self.print("no append work to perform")
            return
        work = node.append_work.pop(0)
        self._print_work(work)
        has_state = work.term or work.vote or work.commit
        state = HardState(work.term, work.vote, work.commit) if has_state else None
        node.write(state, work.entries, work.snapshot)
        self._respond(work)

    def _process_apply(self, id: int) -> None:
        node = self.node(id)
        if not node.apply_work:
            self.print("no apply work to perform")
            return
        work = node.apply_work.pop(0)
        self._print_work(work)
        node.apply(list(work.entries))
        self._respond(work)

    def _print_work(self, work: Message) -> None:
        self.print("Processing:\n" + render.message(replace(work, responses=())))

    def _respond(self, work: Message) -> None:
        self.print("Responses:")
        for response in work.responses:
            self.print(render.message(response))
            self.messages.append(response)

    def do_deliver_msgs(self, d: Directive) -> None:
        type = render.MESSAGE_TYPES[d.option("type")] if "type" in d.options else None
        dropped = [int(id) for id in d.options.get("drop", ())]
        count = 0
        for id in d.ids:
            count += self._deliver(id, type, reverse=d.flag("reverse"))
        for id in dropped:
            count += self._deliver(id, type, drop=True)
        if not count:
            self.print("no messages")

    def _take(self, id: int, type: MessageType | None, keep_local: bool) -> list[Message]:
        """Remove the messages to this member from those under way. Local ones cannot be lost."""
        taken, left = [], []
        for message in self.messages:
            local = message.sender == message.to or message.sender in _LOCAL
            fits = message.to == id and (type is None or message.type is type)
            (taken if fits and not (local and keep_local) else left).append(message)
        self.messages = left
        return taken

    def _deliver(
        self, id: int, type: MessageType | None, *, drop: bool = False, reverse: bool = False
    ) -> int:
        taken = self._take(id, type, drop)
        for message in reversed(taken) if reverse else taken:
            if drop:
                self.print("dropped: " + render.message(message))
                continue
            self.print(render.message(message))
            refusal = self.node(id).raw.step(message)
            if refusal is not None:
                self.print(_REFUSALS[refusal])
        return len(taken)

    def do_stabilize(self, d: Directive) -> None:
        level = self.level
        if "log-level" in d.options:
            self.level = d.option("log-level")
        ids = d.ids or [node.config.id for node in self.nodes]
        for _ in range(_ROUNDS_MAX):
            if not self._stabilize_once(ids):
                break
        else:
            raise AssertionError(f"{d.place}: not quiet after {_ROUNDS_MAX} rounds")
        if self.level == "none":
            self.lines = []
        self.level = level

    def _stabilize_once(self, ids: list[int]) -> bool:
        busy = False
        for id in ids:
            if self.node(id).raw.has_ready():
                busy = True
                self.heading(f"> {id} handling Ready", lambda id=id: self._process_ready(id))  # type: ignore[misc]
        for id in ids:
            if any(message.to == id for message in self.messages):
                busy = True
                self.heading(f"> {id} receiving messages", lambda id=id: self._deliver(id, None))  # type: ignore[misc]
        for id in ids:
            if self.node(id).append_work:
                busy = True
                self.heading(
                    f"> {id} processing append thread", lambda id=id: self._all_appends(id)
                )  # type: ignore[misc]
        for id in ids:
            if self.node(id).apply_work:
                busy = True
                self.heading(f"> {id} processing apply thread", lambda id=id: self._all_applies(id))  # type: ignore[misc]
        return busy

    def _all_appends(self, id: int) -> None:
        while self.node(id).append_work:
            self._process_append(id)

    def _all_applies(self, id: int) -> None:
        while self.node(id).apply_work:
            self._process_apply(id)

    # ── looking ─────────────────────────────────────────────────────────────

    def do_log_level(self, d: Directive) -> None:
        self.level = d.arguments[0].lower()

    def do_status(self, d: Directive) -> None:
        raft = self.node(d.ids[0]).raw.raft
        if raft.role is Role.LEADER:
            self.print(render.progress_map(raft.tracker.progress))

    def do_raft_state(self, d: Directive) -> None:
        for node in self.nodes:
            raft = node.raw.raft
            voter = "(Voter)" if raft.id in raft.tracker.all_voters else "(Non-Voter)"
            self.print(
                f"{raft.id}: {render.ROLES[raft.role]} {voter} Term:{raft.term} Lead:{raft.leader}"
            )

    def do_raft_log(self, d: Directive) -> None:
        self._print_log(d.ids[0])

    def _print_log(self, id: int) -> None:
        storage = self.node(id).storage
        first, last = storage.first_index(), storage.last_index()
        if last < first:
            self.print(f"log is empty: first index={first}, last index={last}")
        else:
            self.print(render.entries(storage.log))

    # ── our own ─────────────────────────────────────────────────────────────

    def do_read_index(self, d: Directive) -> None:
        """read-index id context: ask for a linearizable read."""
        if not self.node(int(d.arguments[0])).raw.read_index(d.arguments[1].encode()):
            raise ScriptError("no leader to ask")

    def do_duplicate_msgs(self, d: Directive) -> None:
        """duplicate-msgs id… [type=]: what is under way to these members will arrive twice."""
        type = render.MESSAGE_TYPES[d.option("type")] if "type" in d.options else None
        for id in d.ids:
            taken = self._take(id, type, True)
            for message in taken:
                self.print("duplicated: " + render.message(message))
            self.messages += taken + taken

    def do_resend(self, d: Directive) -> None:
        """resend from to round=N: another copy of an old answer to a heartbeat comes up."""
        sender, to = d.ids
        term = self.node(to).raw.raft.term
        context = int(d.option("round")).to_bytes(8, "big")
        self.messages.append(
            Message(MessageType.HEARTBEAT_REPLY, to, sender, term, context=context)
        )

    def do_restart(self, d: Directive) -> None:
        """restart id: the process dies; what its storage was not asked for in time is gone."""
        for id in d.ids:
            node = self.node(id)
            node.append_work, node.apply_work = [], []
            self._take(id, None, False)
            last = node.history[-1]
            node.storage.conf_state = last.conf_state
            node.raw = RawNode(replace(node.config, applied_index=last.index), node.storage)

    def do_applied(self, d: Directive) -> None:
        """applied: what each state machine holds."""
        for node in self.nodes:
            last = node.history[-1]
            self.print(f'{node.config.id}: index={last.index} "{last.data.decode()}"')
