"""The face of the core: events in, one `Ready` per turn out.

Synchronous storage: carry out a Ready in the order of its fields, send its
messages, call `advance`, and only then ask for the next one.

Asynchronous storage: `ready` may be asked again at once. Work for the own
storage comes as messages, each with the responses that become true with it.
Entries applied are always durable here first.

    A writes 5 in term 1 (slow disk); B, leading term 2, replaces 5; A writes the new 5;
    B loses; C, leading term 3, puts back 5 of term 1; now A's first write reports back.
    "5 of term 1 is stored" is true of the log as it shall be and false of the disk.

So a completion carries the core's term when it was asked for, too, and means
nothing in another one. What is durable is then reported by the next write,
which is why a write without entries may carry a completion as well.
"""

from __future__ import annotations

from collections.abc import Sequence

from chainfire.raft import alone
from chainfire.raft.changes import ConfChange
from chainfire.raft.config import Config
from chainfire.raft.core import applied_to, step, tick
from chainfire.raft.election import campaign
from chainfire.raft.log import LogReader
from chainfire.raft.membership import apply_conf_change
from chainfire.raft.messages import (
    LOCAL_APPEND_THREAD,
    LOCAL_APPLY_THREAD,
    NOBODY,
    Message,
    MessageType,
    ProposalDropped,
    Refusal,
)
from chainfire.raft.proposals import propose, propose_entry
from chainfire.raft.readindex import ReadRequest
from chainfire.raft.reads import ask_all, start_read
from chainfire.raft.ready import ReadState, Ready, Role, SoftState, StepDown, Work
from chainfire.raft.replication import broadcast_append, tell_commit
from chainfire.raft.replies import on_snapshot_report, on_unreachable
from chainfire.raft.state import Raft
from chainfire.raft.status import Status, status_of
from chainfire.raft.transfer import forget_leader, pass_on_transfer_leader, transfer_leader
from chainfire.types import ConfState, Entry, EntryType, HardState

_REPLIES = frozenset(
    {
        MessageType.APPEND_REPLY,
        MessageType.HEARTBEAT_REPLY,
        MessageType.PRE_VOTE_REPLY,
        MessageType.VOTE_REPLY,
        MessageType.READ_INDEX_REPLY,
        MessageType.STORAGE_APPEND_REPLY,
        MessageType.STORAGE_APPLY_REPLY,
    }
)
_WITHOUT_TERM = frozenset(
    {MessageType.PROPOSE, MessageType.READ_INDEX, MessageType.STORAGE_APPLY_REPLY}
)
_LOCAL_SENDER = {
    MessageType.STORAGE_APPEND: NOBODY,  # nobody steps work items, only their replies
    MessageType.STORAGE_APPLY: NOBODY,
    MessageType.STORAGE_APPEND_REPLY: LOCAL_APPEND_THREAD,
    MessageType.STORAGE_APPLY_REPLY: LOCAL_APPLY_THREAD,
}


class RawNode:
    """`raft` is there to be read (term, leader, role, log.committed …), never written."""

    def __init__(self, config: Config, storage: LogReader) -> None:
        """Raises Damaged when the stored log is shorter than what was committed here."""
        self.raft = Raft(config, storage)
        self._sync_storage = not config.async_storage_writes
        self._role = self.raft.role
        self._leader = self.raft.leader
        self._term = self.raft.term
        self._vote = self.raft.vote
        self._commit = self.raft.log.committed
        self._on_advance: list[Message] | None = None  # synchronous: steps due after the writes

    # ── events ──────────────────────────────────────────────────────────────

    def step(self, message: Message) -> Refusal | None:
        """A message arrived, or storage work is done. A refused one changed nothing.

        The transport vouches for `sender`. No SNAPSHOT while entries are being applied: it brings
        a membership that no older change may be applied to.
        """
        type = message.type
        if type in _LOCAL_SENDER:
            if message.sender != _LOCAL_SENDER[type]:
                return Refusal.LOCAL_MESSAGE
        elif type in _REPLIES and message.sender not in self.raft.tracker.progress:
            return Refusal.PEER_NOT_FOUND
        if not message.term and type not in _WITHOUT_TERM:
            return Refusal.LOCAL_MESSAGE
        return step(self.raft, message)

    def tick(self) -> None:
        """One tick of the clock. After a stall: first step what has arrived, then tick once."""
        tick(self.raft)

    def propose(self, datas: Sequence[bytes]) -> None:
        """Append a turn's proposals in this order, all or none; a follower passes them on.

        Raises ProposalDropped with nothing done: no leader, a transfer under
        way, removed, or too much uncommitted. Taken is not committed: a change
        of leader may still lose them.
        """
        if not propose(self.raft, datas):
            raise ProposalDropped

    def propose_alone(self, datas: Sequence[bytes]) -> list[Entry]:
        """As `propose`, by the short way (`alone`): the entries, which the caller writes to its own
        disk at once. `stored_alone` is due then. Asynchronous storage only.

        Empty, with nothing done: this is no leader of itself alone, or has more to do; `propose`.
        """
        if self.has_ready():
            return []
        return alone.append(self.raft, datas) or []

    def stored_alone(self, last: Entry) -> list[Entry]:
        """What `propose_alone` returned, up to `last`, is durable.

        Returns entries to be applied, after which `applied_to` is due; empty where they come the
        general way instead, with a Ready.
        """
        entries = None if self.has_ready() else alone.stored(self.raft, last)
        if entries is None:
            for message in self._own_replies(last):
                self.step(message)
            return []
        self._commit = last.index
        return entries

    def work_of(self, entries: Sequence[Entry]) -> Message:
        """The STORAGE_APPEND of what `propose_alone` returned, for who could not write at once."""
        message = Message(
            MessageType.STORAGE_APPEND, LOCAL_APPEND_THREAD, self.raft.id, entries=entries
        )
        message.responses = self._own_replies(entries[-1])
        return message

    def propose_conf_change(
        self, change: ConfChange, entry_type: EntryType = EntryType.CONF_CHANGE_V2
    ) -> None:
        """Raises as `propose` does. If another change is under way, or the configuration is joint
        and this does not leave it, an empty entry is appended instead.
        """
        assert entry_type is not EntryType.NORMAL
        if not propose_entry(self.raft, entry_type, change.encode()):
            raise ProposalDropped

    def apply_conf_change(self, change: ConfChange) -> ConfState:
        """Called when the change's entry is applied, before its STORAGE_APPLY is answered.

        Raises InvalidConfChange, with nothing changed, for one that cannot be
        made; every member then skips it alike.
        """
        return apply_conf_change(self.raft, change)

    def campaign(self) -> bool:
        """Stand for election now; False if this member may not."""
        return campaign(self.raft)

    def read_index(self, context: bytes) -> bool:
        """Ask for an index at which a linearizable read may be answered; it comes as a ReadState
        with this context, or never (messages get lost, leaders change): ask again then, with a
        new context. False when no leader is known.
        """
        raft = self.raft
        if raft.role is Role.LEADER:
            start_read(raft, ReadRequest(raft.id, context))
        elif raft.leader != NOBODY:
            term = raft.term if raft.config.asking_confirms else 0
            raft.messages.append(
                Message(MessageType.READ_INDEX, raft.leader, raft.id, term, context=context)
            )
        else:
            return False
        return True

    def ask_all(self) -> None:
        """As a leader with `rounds_ask_few`: let everybody confirm the rounds that are open."""
        if self.raft.role is Role.LEADER:
            ask_all(self.raft)

    def tell_commit(self, id: int) -> bool:
        """As a leader with `commits_wait`: let this member hear of the commit index now, by a
        message of its own. False if there is nothing to say.
        """
        return self.raft.role is Role.LEADER and tell_commit(self.raft, id)

    def transfer_leader(self, transferee: int) -> bool:
        """Ask the leader, maybe ourselves, to hand over; False when no leader is known."""
        raft = self.raft
        if raft.role is Role.LEADER:
            transfer_leader(raft, transferee)
            return True
        return raft.role is Role.FOLLOWER and pass_on_transfer_leader(raft, transferee)

    def forget_leader(self) -> None:
        """The leader is known to be dead: as a follower, grant votes to others from now on."""
        if self.raft.role is Role.FOLLOWER:
            forget_leader(self.raft)

    def step_down(self, why: StepDown) -> None:
        """As a leader that finds itself unfit (its disk stalls): follow, in the same term."""
        if self.raft.role is Role.LEADER:
            self.raft.become_follower(self.raft.term, NOBODY, why)

    def bar(self, barred: bool) -> None:
        """Whether this member is kept from standing for election; one that leads, leads on."""
        self.raft.is_barred = barred

    def report_unreachable(self, id: int) -> None:
        """The last messages to this member were probably lost."""
        peer = self.raft.tracker.progress.get(id)
        if peer is not None and self.raft.role is Role.LEADER:
            on_unreachable(peer)

    def report_snapshot(self, id: int, arrived: bool) -> None:
        """The transfer to this member ended. To be called once for each SNAPSHOT message sent."""
        peer = self.raft.tracker.progress.get(id)
        if peer is not None and self.raft.role is Role.LEADER:
            on_snapshot_report(peer, arrived=arrived)

    def reset_progress(self, id: int) -> None:
        """This member has lost part of what it had acknowledged: believe nothing of it any more.

        Only for a member that says so itself, before it is sent anything else.
        """
        raft, tracker = self.raft, self.raft.tracker
        tracker.votes.pop(id, None)
        # A heartbeat on its way would tell it to commit what it does not hold any more.
        raft.messages = [message for message in raft.messages if message.to != id]
        if id in tracker.progress and id != self.raft.id:
            peer = tracker.new_progress(self.raft.log.last_index + 1)
            peer.is_learner = tracker.progress[id].is_learner
            tracker.progress[id] = peer

    def renounce(self, term: int) -> None:
        """What this member had voted is lost: go on in this term at least, its vote used up.

        Nobody else is given the vote of a term in which somebody may have it already.
        """
        raft = self.raft
        if term > raft.term:
            raft.become_follower(term, NOBODY)
        raft.vote = raft.id

    # ── the turn ────────────────────────────────────────────────────────────

    def has_ready(self) -> bool:
        return bool(self.raft.messages) or self.has_work()

    def has_work(self) -> bool:
        """Whether a Ready would hold more than messages that may leave at once."""
        raft = self.raft
        unstable = raft.log.unstable
        return bool(
            raft.after_append
            or raft.read_states
            or unstable.in_progress <= unstable.last_index
            or raft.log.committed != self._commit
            or raft.role is not self._role
            or raft.leader != self._leader
            or raft.term != self._term
            or raft.vote != self._vote
            or (unstable.snapshot is not None and not unstable.snapshot_in_progress)
            or (
                raft.log.applying < raft.log.committed
                and raft.log.has_next_committed(self._sync_storage)
            )
        )

    def take_messages(self) -> list[Message]:
        """What may be said at once, where `has_work` says that there is nothing else.

        None of it is of AFTER_SYNC: a vote is asked for in a new term, which is work.
        """
        messages, self.raft.messages = self.raft.messages, []
        return messages

    def take_read_states(self) -> list[ReadState]:
        """The reads that may be answered, where `has_work` has no other reason; else they come with
        the rest, which may be that another leads.
        """
        raft = self.raft
        states, raft.read_states = raft.read_states, []
        if states and self.has_work():
            raft.read_states = states
            return []
        return states

    def work(self) -> Work | None:
        """As `ready`, by the short way: what is to be applied is named and not put into messages.

        Asynchronous storage only. None, with nothing done, where role, leader, term or vote have
        changed, or a snapshot is to be stored: `ready`.
        """
        raft = self.raft
        log, unstable = raft.log, raft.log.unstable
        if (
            raft.role is not self._role
            or raft.leader != self._leader
            or raft.term != self._term
            or raft.vote != self._vote
            or unstable.snapshot is not None
        ):
            return None
        append: Message | None = None
        commit = log.committed
        entries = unstable.next_entries() if unstable.entries else ()
        if entries or raft.after_append or commit != self._commit:
            append = Message(
                MessageType.STORAGE_APPEND, LOCAL_APPEND_THREAD, raft.id, entries=entries
            )
            if commit != self._commit:
                self._commit = append.commit = commit
                append.term, append.vote = raft.term, raft.vote
            append.responses = responses = raft.after_append
            raft.after_append = []
            if unstable.entries:
                responses.append(self._stored_reply(unstable.entries[-1]))
                unstable.accept()
        committed, size = log.next_committed(False) if log.applying < commit else ((), 0)
        if committed:
            log.accept_applying(committed[-1].index, size, False)
        work = Work(raft.messages, raft.read_states, append, committed)
        raft.messages, raft.read_states = [], []
        return work

    def ready(self) -> Ready:
        """The work of this turn; calling it is accepting it."""
        assert self._on_advance is None, "advance() is due"
        raft = self.raft
        if raft.owes_first_append:
            raft.owes_first_append = False
            broadcast_append(raft)
        log = raft.log
        unstable = log.unstable
        ready = Ready(
            entries=unstable.next_entries(),
            snapshot=unstable.next_snapshot(),
            read_states=raft.read_states,
            messages=raft.messages,
        )
        self._note_states(ready)
        committed, committed_bytes = log.next_committed(self._sync_storage)
        ready.committed = committed
        after_append = raft.after_append
        if self._sync_storage:
            ready.messages.extend([m for m in after_append if m.to != raft.id])
            self._on_advance = [m for m in after_append if m.to == raft.id]
            self._on_advance.extend(self._append_replies(ready))
            if committed:
                self._on_advance.append(self._apply_reply(committed))
        else:
            if after_append or ready.entries or ready.hard_state or ready.snapshot:
                ready.messages.append(self._storage_append(ready, after_append))
            if committed:
                ready.messages.append(self._storage_apply(committed))

        raft.messages, raft.after_append, raft.read_states = [], [], []
        unstable.accept()
        if committed:
            log.accept_applying(committed[-1].index, committed_bytes, self._sync_storage)
        return ready

    def advance(self) -> None:
        """Synchronous storage only: the last Ready is carried out, entries applied included."""
        assert self._on_advance is not None, "no Ready is out"
        due, self._on_advance = self._on_advance, None
        for message in due:
            step(self.raft, message)

    def applied_to(self, index: int) -> None:
        """The state machine holds everything up to `index` by other ways than STORAGE_APPLY."""
        applied_to(self.raft, index)

    def status(self) -> Status:
        return status_of(self.raft)

    # ── inside ──────────────────────────────────────────────────────────────

    def _own_replies(self, last: Entry) -> list[Message]:
        """What hangs on the write of a leader's own entries, by itself."""
        id, term, index = self.raft.id, last.term, last.index
        return [
            Message(MessageType.APPEND_REPLY, id, id, term, index=index),
            Message(MessageType.STORAGE_APPEND_REPLY, id, LOCAL_APPEND_THREAD, term, term, index),
        ]

    def _stored_reply(self, last: Entry) -> Message:
        """Entries up to `last` are durable; means nothing in another term than the present one."""
        raft, kind = self.raft, MessageType.STORAGE_APPEND_REPLY
        return Message(kind, raft.id, LOCAL_APPEND_THREAD, raft.term, last.term, last.index)

    def _note_states(self, ready: Ready) -> None:
        raft = self.raft
        if raft.role is not self._role or raft.leader != self._leader:
            self._role, self._leader = raft.role, raft.leader
            ready.soft_state = SoftState(raft.leader, raft.role)
        term, vote, commit = raft.term, raft.vote, raft.log.committed
        promised = term != self._term or vote != self._vote
        if promised or commit != self._commit:
            self._term, self._vote, self._commit = term, vote, commit
            ready.hard_state = HardState(term, vote, commit)
        ready.must_sync = promised or bool(ready.entries)

    def _storage_append(self, ready: Ready, after_append: list[Message]) -> Message:
        message = Message(
            MessageType.STORAGE_APPEND,
            LOCAL_APPEND_THREAD,
            self.raft.id,
            entries=ready.entries,
            snapshot=ready.snapshot,
        )
        state = ready.hard_state
        if state is not None:
            message.term, message.vote, message.commit = state.term, state.vote, state.commit
        message.responses = after_append + self._append_replies(ready)
        return message

    def _append_replies(self, ready: Ready) -> list[Message]:
        """Due when entries are not known to be durable, older ones included: an earlier reply may
        have come to nothing by a change of term (see the top of the file).
        """
        unstable = self.raft.log.unstable
        if not unstable.entries and ready.snapshot is None:
            return []
        message = self._stored_reply(unstable.entries[-1] if unstable.entries else Entry(0, 0))
        message.snapshot = ready.snapshot
        return [message]

    def _storage_apply(self, committed: list[Entry]) -> Message:
        return Message(
            MessageType.STORAGE_APPLY,
            LOCAL_APPLY_THREAD,
            self.raft.id,
            entries=committed,
            responses=(self._apply_reply(committed),),
        )

    def _apply_reply(self, committed: list[Entry]) -> Message:
        return Message(
            MessageType.STORAGE_APPLY_REPLY,
            self.raft.id,
            LOCAL_APPLY_THREAD,
            entries=committed,
        )
