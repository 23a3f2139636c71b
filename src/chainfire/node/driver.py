"""One member's heart: calls, messages, ticks and completions in; work for the shell out.

Pure but for the storage it is handed: no clock, no socket, no thread, so the
simulator runs this very class. One turn takes everything that has arrived:

    propose, read, step, tick        collect
    turn()      proposals -> raft -> log batch (written, not durable)    -> Effects.sync
    synced(n)   witness, raft's own acknowledgements -> committed entries -> early answers
    turn()      machine.apply: one atom -> answers                       -> Effects
    say()       where no turn is due: what others are told, who may read -> Effects

The last step is put off while nobody waits for it (`applying`).

Durable before shown: what raft wants to say after a storage write hangs on
that write (its `responses`) and is stepped only by `synced`. Entries are
applied only after our own disk has them.

Its parts: `proposer` (commands on their way into the log, forwarding), `readgate`
(reads), `leadership` (who leads, since when), `commits` (who hears of the commit
index), `orders` (what raft wants done), `logwriter` (what is written, what hangs on
it), `applying` (when committed entries are applied), `applier` (the machine), `early`
(what is told before it), `renewals`, `leases` (expiry) and `leaseclock` (what is
stamped, and told), `effects` (what comes out). They hold the state; here is only who
is asked, and in which order, so that what is long here is where many of them meet.

A write stall (`Stalled`) leaves the work where it is; it is tried again at
the next turn, and new proposals are refused meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from chainfire.command import CommandKind
from chainfire.errors import CorruptCluster, Stopped, TooManyRequests
from chainfire.lease import UNWRITTEN
from chainfire.machine import Machine
from chainfire.node.applier import Applier
from chainfire.node.applying import Applying
from chainfire.node.commits import Commits
from chainfire.node.duties import Duties
from chainfire.node.early import EarlyAnswers
from chainfire.node.effects import Answer, Effects
from chainfire.node.frames import Chain, Change, Clock, Forward, Frame, Refused, Report
from chainfire.node.handover import HandOver
from chainfire.node.installing import Installing, StatePlace
from chainfire.node.leadership import Leadership
from chainfire.node.leaseclock import LeaseClock
from chainfire.node.leases import LeaseKeeper
from chainfire.node.logstore import LogStore
from chainfire.node.logwriter import LogWriter, WitnessFile
from chainfire.node.orders import Orders
from chainfire.node.proposer import Proposer
from chainfire.node.readgate import ReadGate
from chainfire.node.reads import ReadPending
from chainfire.node.removal import Removal
from chainfire.node.renewals import Renewals
from chainfire.node.reports import Reports
from chainfire.node.soundness import Soundness
from chainfire.node.standing import Stage
from chainfire.proto.cluster_pb2 import Member
from chainfire.proto.kv_pb2 import LINEARIZABLE
from chainfire.raft.changes import ConfChange
from chainfire.raft.messages import NOBODY, Message, MessageType, Snapshot
from chainfire.raft.rawnode import RawNode
from chainfire.raft.ready import Role
from chainfire.types import Pending, RenewResult


@dataclass(slots=True, frozen=True)
class Limits:
    pending_max: int = 5000  # proposals of this member without an answer
    reads_max: int = 20_000  # reads that wait
    request_timeout_ms: int = 7000  # etcd: 5 s + 2 x election timeout
    election_timeout_ms: int = 1000
    learners_max: int = 0  # that a membership change may lead to; 0: any number


class Driver:
    def __init__(
        self,
        *,
        raft: RawNode,
        log: LogStore,
        machine: Machine,
        witness: WitnessFile,
        state_place: StatePlace,
        duties: Duties,
        member_id: int,
        start_number: int,
        stage: Stage,
        limits: Limits,
    ) -> None:
        self.raft = raft
        self._core = raft.raft  # read, never written
        self.log = log
        self.machine = machine
        self.member_id = member_id
        self.duties = duties
        self._now_ms = 0
        self._effects = Effects()
        self._leadership = Leadership(raft, limits.election_timeout_ms)
        self.lease_clock = LeaseClock(raft, machine, self._effects)
        self._leases = LeaseKeeper(machine.leases, self.lease_clock, self._propose_for_leases)
        self._renewals = Renewals(
            machine,
            self.lease_clock,
            self._propose_for_leases,
            lambda reader: self.read(LINEARIZABLE, 0, None, reader),
        )
        self._hand_over = HandOver(raft, machine, self._effects)
        self._commits = Commits(raft)
        self._proposer = Proposer(
            raft,
            self._commits,
            self.lease_clock,
            self._leadership,
            self._hand_over,
            self._effects,
            member_id=member_id,
            start_number=start_number,
            pending_max=limits.pending_max,
            timeout_ms=limits.request_timeout_ms,
            learners_max=limits.learners_max,
        )
        self._gate = ReadGate(
            raft,
            machine,
            start_number=start_number,
            log_end=(log.last_index(), log.term(log.last_index())),
            reads_max=limits.reads_max,
            timeout_ms=limits.request_timeout_ms,
        )
        self._installing = Installing(log, machine, state_place)
        self._writer = LogWriter(log, witness, self._installing)
        self._applying = Applying(
            Applier(raft, machine, self._proposer, duties, self._effects),
            EarlyAnswers(machine, self._proposer),
        )
        self._orders = orders = Orders(
            raft,
            machine,
            self._writer,
            self._applying,
            self._installing,
            self._gate,
            self._proposer,
            self._leadership,
            self._hand_over,
            self._commits,
            self._effects,
            installed=self._installed,
        )
        # Where every turn would go through `_orders`, it goes there directly.
        self._appends = orders.appends
        self._route, self._commit_alone = orders.route, orders.commit_alone
        self._apply_held = orders.apply_held
        self.reports = Reports(raft, machine, self._effects)
        self.soundness = Soundness(raft, machine, duties, self._hand_over, self._effects, stage)
        self.standing = self.soundness.standing
        self.removal = Removal(limits.election_timeout_ms)
        self._divergence = self.soundness.divergence
        self._stopped = False
        log.newest_state = self._newest_state

    def send_through(self, send: Callable[[Effects], None]) -> None:
        """Let frames that are there before this member's disk is written to leave before that:
        `send` is called in the midst of a turn, and carries out the frames of an Effects only.
        """
        self._orders.send = send

    def sync_through(self, begin: Callable[[], None]) -> None:
        """Hear at once of a write of a sole voter that `Effects.sync` will ask to be synced:
        `begin` is called in the midst of a turn.
        """
        self._orders.begin_sync = begin

    @property
    def is_sole_voter(self) -> bool:
        return self._core.is_sole_voter

    @property
    def proposals_pending(self) -> int:
        return len(self._proposer.pending)

    @property
    def reads_timed_out(self) -> int:
        return self._gate.timed_out

    @property
    def slow_read_rounds(self) -> int:
        return self._gate.slow_rounds

    @property
    def leader_changes(self) -> int:
        """Leaders seen, the first one included."""
        return self._leadership.changes

    # ── in ──────────────────────────────────────────────────────────────────

    def propose(
        self,
        kind: int,
        body: bytes,
        pending: Pending,
        *,
        keyspace: int = 0,
        user: str = "",
        auth_revision: int = 0,
    ) -> None:
        """Queue a command for the next turn. Refused at once when too much is waiting."""
        if self._stopped:
            pending.refused(Stopped())
        elif self._divergence.is_found and kind != CommandKind.ALARM:
            pending.refused(CorruptCluster())
        elif self._proposer.pending.full or self._stalled:
            pending.refused(TooManyRequests())
        else:
            self._proposer.add(kind, body, pending, keyspace, user, auth_revision)

    def propose_conf_change(
        self, change: ConfChange, members: Iterable[Member], pending: Pending
    ) -> None:
        """Change the membership; `members` describes whom the change adds, and whose URLs move.

        Its context is made here. Answered when it is applied: entered, if it is a joint one.
        """
        if self._stopped:
            pending.refused(Stopped())
        elif self._proposer.pending.full:
            pending.refused(TooManyRequests())
        else:
            self._proposer.add_change(change, members, pending)

    def read(
        self, level: int, min_revision: int, deadline_ms: int | None, pending: ReadPending
    ) -> bool:
        """True: the store may be read now. False: `pending` hears later, in some turn's Effects."""
        if self._stopped or self._divergence.is_found:
            pending.refused(Stopped() if self._stopped else CorruptCluster())
            return False
        self.catch_up()
        if self.standing.stage is not Stage.FULL and self.standing.has_lost_data:
            level = LINEARIZABLE
        return self._gate.may_read(
            level,
            min_revision,
            self._now_ms,
            deadline_ms,
            pending,
            barred=self.is_barred,
        )

    def received(self, sender: int, frames: Iterable[Frame]) -> bool:
        """What another member says; the transport vouches for `sender`.

        False: no turn is needed for it, and `say` has the answer, if any.
        """
        needs_turn = self._hand_over.is_leaving
        for frame in self.standing.heard(frames):
            match frame:
                case Message(type=MessageType.READ_INDEX) if self._core.role is not Role.LEADER:
                    pass  # who asks finds the leader by itself
                case Message():
                    self.raft.step(frame)
                    continue
                case Clock(term, reading_ms):
                    self.lease_clock.heard(term, reading_ms)
                    continue
                case Chain(index):
                    self.reports.heard_applied(sender, index)
                    self._divergence.heard(sender, frame)
                case Forward(commands):
                    self._proposer.forwarded(sender, commands)
                case Change(data):
                    self._proposer.forwarded_change(data)
                case Report():
                    self.reports.heard(sender, frame, self._now_ms)
                case Refused():
                    self._proposer.refused(frame)
            needs_turn = True
        self._confirm_rounds()
        return needs_turn or self.raft.has_work()

    @property
    def awaits_round(self) -> bool:
        """A read waits for `begin_round` and `say`, or a turn."""
        return bool(self._gate.reads.next_round)

    def begin_round(self) -> None:
        """Ask for the read index of all reads that have come since the last time."""
        if self._gate.reads.next_round:
            self._gate.start_round()
            self._confirm_rounds()

    def _confirm_rounds(self) -> None:
        if self._core.read_states:
            for state in self.raft.take_read_states():
                self._gate.confirm_round(state)

    def unreachable(self, peer: int) -> None:
        """Something for this member was dropped."""
        self.raft.report_unreachable(peer)
        if self._leadership.note_unreachable(peer):
            self._proposer.repeat()

    def gone(self, peer: int) -> bool:
        """This member's process has ended. True: it led; `campaign` after a small random delay."""
        self.reports.gone(peer)
        if peer != self._core.leader:
            return False
        self.raft.forget_leader()
        return True

    def campaign(self) -> None:
        """Stand for election, if there is no leader."""
        if not self._core.leader:
            self.raft.campaign()

    def lost_data(self, peer: int) -> None:
        """This member says that it lost some of what it had acknowledged."""
        self._effects.frames.pop(peer, None)
        self.raft.reset_progress(peer)

    def move_leader(self, target: int, pending: Pending, *, entirely: bool = False) -> None:
        """Hand leadership to this voter; only a leader can. `entirely`: see HandOver.move."""
        self.catch_up()
        self._hand_over.move(target, pending, entirely=entirely)

    @property
    def best_successor(self) -> int:
        """Who would lead best if this leader went; 0: nobody, or it does not lead."""
        return self._hand_over.best() if self._core.role is Role.LEADER else NOBODY

    @property
    def hears_leader(self) -> bool:
        """A leader, or this member leads."""
        return self._core.hears_leader

    @property
    def snapshot_under_way(self) -> int | None:
        """The lowest index of a snapshot being sent: who gets it needs the log behind it."""
        if self._core.role is not Role.LEADER:
            return None
        peers = self._core.tracker.progress.values()
        return min((peer.pending_snapshot for peer in peers if peer.pending_snapshot), default=None)

    def snapshot_received(self, message: Message, staged: str) -> None:
        """A snapshot's files are durable in the staged state directory of this name, ours now."""
        self._installing.stage(message, staged)
        self._orders.arrived = None if self.standing.is_waiting else message
        self._orders.take_arrived()

    def snapshot_sent(self, peer: int, *, arrived: bool) -> None:
        """How one of the `snapshots` of an Effects ended; once for each."""
        self.raft.report_snapshot(peer, arrived)

    def kept(self, ids: Sequence[int], now_ms: int, *, keyspace: int = 0) -> RenewResult:
        """Let the TTLs of these leases begin anew, as far as that needs neither entry nor round.

        UNWRITTEN in the place of a TTL: ask `renew`. So it is for all unless a sole voter is asked.
        """
        if self._stopped or self._divergence.is_found or not self._gate.is_current(self.is_barred):
            ttls_ms = [UNWRITTEN] * len(ids)
        else:
            ttls_ms = self._renewals.kept(keyspace, ids, now_ms)
        return RenewResult(self.machine.revision, ttls_ms)

    def renew(
        self, ids: Sequence[int], pending: Pending, now_ms: int, *, keyspace: int = 0
    ) -> None:
        """Let the TTLs of these leases begin anew, together with all others of this turn.

        `pending` gets a RenewResult in the order of `ids`.
        """
        if self._stopped:
            pending.refused(Stopped())
        else:
            leading = self._core.role is Role.LEADER
            self._renewals.renew(keyspace, ids, pending, now_ms, leading=leading)

    @property
    def renewals_kept(self) -> int:
        """Renewals that no entry was needed for."""
        return self._renewals.kept_count

    def _propose_for_leases(self, kind: int, body: bytes, pending: Pending, keyspace: int) -> None:
        self.propose(kind, body, pending, keyspace=keyspace)

    def lease_clock_ms(self, now_ms: int) -> int:
        """What the replicated lease clock reads; at a follower an estimate."""
        return self.lease_clock.reading(now_ms)

    def begin(self, now_ms: int) -> None:
        """The clock's reading at the start: what comes before the first tick counts from here."""
        self._now_ms = now_ms

    def tick(self, now_ms: int, free_bytes: int) -> None:
        """One heartbeat interval has passed; `now_ms` is monotonic."""
        self._now_ms = now_ms
        self._apply_held(looked_for=False)
        if not self.standing.is_waiting:
            self.raft.tick()
            self._hand_over.tick(self._writer.oldest_unsynced)
        self.soundness.tick(lambda reader: self.read(LINEARIZABLE, 0, None, reader))
        self.reports.tick(now_ms)
        # What waits behind a giant command is committed: late is better than unknown.
        self._proposer.tick(now_ms, may_expire=not self.machine.is_unfinished)
        self._gate.tick(now_ms)
        self.lease_clock.tick(now_ms)
        leading = self._core.role is Role.LEADER
        self._leases.tick(now_ms, leading=leading and not self._stalled)
        self._renewals.tick(leading=leading and not self._stalled)
        if self._core.leader and not self._stalled:
            for duty in self.duties.due(now_ms, leader=leading, free_bytes=free_bytes):
                self.propose(duty.kind, duty.body, duty)

    def remind(self) -> float:
        """An Effects asked for it, a little while ago; then `say`. As its `remind_after`."""
        return _sooner(self._gate.ask_more(), self._commits.tell())

    def foretell(self) -> None:
        """The log is being synced, and nothing else happens before `synced` says that it is: work
        out now what may be told then.
        """
        self._orders.foretell()

    def synced(self, number: int) -> Sequence[Answer]:
        """The log writes up to `number` are durable: what hangs on them may be said, nothing is
        applied. Returns what may be told by then; then a turn, if one `is_due`, or `say`.
        """
        alone, responses = self._writer.durable(number)
        answers = () if alone is None else self._commit_alone(alone)
        if responses:
            self._route(responses)
        return answers

    @property
    def lags(self) -> bool:
        """What was answered waits to be applied: `let_go` and a turn, in HOLD_SECONDS."""
        return bool(self._applying.held)

    def let_go(self) -> None:
        """The next turn applies what waits."""
        self._applying.release(looked_for=False)

    def catch_up(self) -> None:
        """Somebody is going to look: apply all that was answered. A turn is due."""
        self._apply_held(looked_for=True)

    # ── out ─────────────────────────────────────────────────────────────────

    @property
    def is_due(self) -> bool:
        """After `synced`: whether there is anything for a turn to do."""
        return bool(
            self._writer.unsynced is not None
            or self._applying.pages
            or self._appends
            or self._proposer.has_queued
            or self.raft.has_work()
        )

    def say(self) -> Effects:
        """What other members are told, and who may read by what they told, where `received` or
        `is_due` has asked for no turn.

        Every write is acknowledged, every round of reads answered: most turns were that.
        """
        effects, gate = self._effects, self._gate
        if self._core.messages and not self.raft.has_work():
            self._route(self.raft.take_messages())
        said = Effects(effects.frames, effects.snapshots)
        effects.frames, effects.snapshots = {}, []
        if gate.reads.waiting:
            if not self.is_barred:
                said.reads = gate.ready()
            said.more = bool(gate.reads.waiting)
        said.remind_after = gate.begin_wait()
        return said

    def turn(self, now_ms: int = 0) -> Effects:
        """Carry everything that has arrived one step further.

        `now_ms` may be left out where time stands still between ticks.
        """
        if now_ms > self._now_ms:
            self._now_ms = now_ms
        writer, effects, orders = self._writer, self._effects, self._orders
        self._renewals.turn()
        self._leases.turn(self._now_ms, leading=self._core.role is Role.LEADER)
        orders.observe_leader(self._now_ms)
        # Group commit: one sync for everything that arrived during the last one.
        entries = self._proposer.turn(self._now_ms, may_append=writer.unsynced is None)
        if entries:
            orders.append_alone(entries)
        if self._gate.reads.next_round:
            self._gate.start_round()
        applying = self._applying
        if self._core.transferee != NOBODY:
            self.lease_clock.tell(self._core.transferee, self._now_ms)
        applying.is_postponed, orders.has_written = False, bool(entries)
        if applying.held and not orders.may_hold():
            applying.release(looked_for=True)
        orders.pump(self._now_ms)
        if orders.arrived is not None and not applying.pages:
            orders.take_arrived()
            orders.pump(self._now_ms)
        self._gate.note_leadership()
        self._hand_over.observe()
        effects.stalled = self._stalled
        effects.sync = writer.unsynced
        effects.remind_after = _sooner(self._gate.begin_wait(), self._commits.begin_wait())
        if self._gate.reads.waiting and not effects.stalled and self.machine.may_be_read:
            effects.reads += self._gate.ready()
        if effects.answers and self._leases.goes_on(effects.answers):
            effects.more = True
        return effects.take()

    def refuse_new(self) -> None:
        """Whoever comes from now on hears Stopped: others say that this member was removed.

        Who waits may still hear more, if the entry is on its way that removes it.
        """
        self._stopped = True

    def stop(self) -> Effects:
        """Answer everybody who waits: what is applied with its result, the rest with Stopped.

        And whoever comes. A member that was removed takes part in Raft for a while yet.
        """
        self.refuse_new()
        effects = Effects(answers=self._effects.answers)
        self._effects.answers = []
        self._renewals.stop(Stopped())
        waiting = [*self._proposer.stop(), *self._hand_over.stop()]
        effects.answers += [Answer(pending, Stopped()) for pending in waiting]
        for reader in self._gate.stop():
            reader.refused(Stopped())
        return effects

    @property
    def is_barred(self) -> bool:
        """Nothing may be read now: memory is ahead of the rows, or a change is half done."""
        return self._stalled or not self.machine.may_be_read

    # ── inside a turn ───────────────────────────────────────────────────────

    @property
    def _stalled(self) -> bool:
        return bool(self._appends) or self._applying.is_stuck

    def _installed(self) -> None:
        """What hung on the old state goes on with the new one."""
        self._divergence.reset()
        self._leases.reopened(self.machine.leases)
        self._proposer.leader_changed()  # what the snapshot has swallowed is answered as unknown
        self._effects.installed = True

    def _newest_state(self) -> Snapshot | None:
        machine = self.machine
        return Snapshot(machine.applied_index, machine.applied_term, machine.conf_state)


def _sooner(one: float, other: float) -> float:
    """Of two times in seconds, 0 being never."""
    return min(one, other) or one or other
