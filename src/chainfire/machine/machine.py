"""The replicated state machine: one `apply` for whatever the log holds, the same on every member.

A turn's entries go through here in three steps:

    decode   every entry (`decoding`); an unknown one stops the member before anything is applied
    stage    effects of entry after entry, until the batch is full; each entry
             adds one link to the hash chain
    write    the batch: effects, counters, senders and the position (applied
             index, term, revision, hash, clock), all or nothing

`stage` and `write` repeat until no entry is left; where the batches are cut
changes no row. The checks of one command come in this order, here only:

    1. void?    sent twice, settled, or by an earlier start of its sender
    2. alarms   CORRUPT refuses data commands, NOSPACE those that may grow
    3. the command's own handler (mvcc, lease, cluster)

A refused command has used up its id: it is never applied later.

A write that fails with Stalled or DiskFull has changed nothing on the disk;
the machine keeps what it staged. The caller hands over the same entries
again: those taken before are not applied twice, and the results of all come
back then. Until then memory is ahead of the backend: serve no reads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Final

from chainfire import quota
from chainfire.errors import Outdated, RequestError
from chainfire.lease import Lessor
from chainfire.machine import rows
from chainfire.machine.applied import Applied
from chainfire.machine.chain import HashChain
from chainfire.machine.cluster import Cluster
from chainfire.machine.deciding import Deciding
from chainfire.machine.decoding import Decoded, Decoder
from chainfire.machine.foresight import Foresight
from chainfire.machine.giant import GiantCommands
from chainfire.machine.handlers import Handler, Handlers
from chainfire.machine.plain import PUT, Plain, PlainCommands
from chainfire.machine.rows import Position
from chainfire.machine.runs import run_of
from chainfire.machine.sender import Sender
from chainfire.machine.slices import Giant
from chainfire.machine.statistics import MachineStatistics
from chainfire.mvcc.store import Mvcc
from chainfire.mvcc.txn import Branch
from chainfire.proto.cluster_pb2 import Member
from chainfire.proto.command_pb2 import Command, ConfChangeContext
from chainfire.storage.backend import StorageBackend
from chainfire.storage.staged import Change, Staged
from chainfire.types import AckResult, Alarm, ConfState, Entry, PutResult, Result

BATCH_BYTES_MAX: Final = 4 * 1024 * 1024  # of digested rows; then the batch is written


class Machine:
    """One member's copy of the replicated state."""

    def __init__(self, backend: StorageBackend, *, cache_bytes: int) -> None:
        """Open what `bootstrap`, an earlier run or a snapshot left.

        Raises UnknownFormat (a newer version's directory), Damaged (rows are
        missing) or Corrupt.
        """
        self._backend = backend
        self._cache_bytes = cache_bytes
        self._opened = 0  # how often
        self.reopen()

    def reopen(self) -> None:
        """Begin anew with what the backend holds now; all parts are others afterwards."""
        backend = self._backend
        position = rows.read_position(backend)
        self._opened += 1
        self._cluster = Cluster(backend)
        self._senders = rows.read_senders(backend)
        self.store = Mvcc(backend, cache_bytes=self._cache_bytes, revision=position.revision)
        self._staged = Staged(backend)
        lease_counts = [(space, state.leases) for space, state in self.store.keyspaces.items()]
        self.leases = Lessor(backend, lease_counts, position.leader_clock_ms)
        self._handlers = Handlers(self.store, self._staged, self._cluster, self.leases)
        self._chain = HashChain(position.index, position.hash)
        self._plain = PlainCommands(self.store, self._staged, self._chain, self._handlers)
        self._giants = GiantCommands(
            backend, self.store, self._staged, self.leases, self._handlers.leases, self._chain
        )
        self._deciding = Deciding(self.store, self._staged)
        self._term = position.term  # of the last staged entry, as the clock and the chain's end
        self._written = position  # invariant: _written.index <= _chain.index
        self._changed_senders: set[int] = set()
        self._waiting: deque[Decoded] = deque()  # decoded, not staged
        self._copies = 0  # being made of the state between two entries: no giant command begins
        self._held_up: Entry | None = None  # a giant command that has waited for one
        self._results: list[Applied] = []  # of staged entries, not returned yet
        self._foresight = Foresight(self._plain, self._senders, self.leases)
        self._decoder = Decoder(self._handlers, self._plain, self._foresight)
        self._decode = self._decoder.decode
        self.keeps_changes = False  # for somebody who takes them after every apply
        self._staged_changes: list[list[Change]] = []
        self._changes: list[list[Change]] = []  # written, not taken yet
        self._void_commands = 0
        self._refused_commands = 0
        self._digested_bytes = 0
        self._opened_at = position.index

    # ── what is applied (and written) ───────────────────────────────────────

    @property
    def applied_index(self) -> int:
        return self._written.index

    @property
    def applied_term(self) -> int:
        return self._written.term

    @property
    def revision(self) -> int:
        return self._written.revision

    @property
    def hash(self) -> int:
        """The end of the hash chain, at `applied_index`."""
        return self._written.hash

    @property
    def leader_clock_ms(self) -> int:
        """The replicated clock: the newest reading that an applied command brought."""
        return self._written.leader_clock_ms

    @property
    def conf_state(self) -> ConfState:
        return self._cluster.conf_state

    @property
    def cluster_version(self) -> str:
        return self._cluster.version

    @property
    def members(self) -> Mapping[int, Member]:
        """By id. Treat the messages as frozen."""
        return self._cluster.members

    @property
    def membership_changes(self) -> tuple[int, int]:
        """Another one after each change of `members`."""
        return self._opened, self._cluster.changes

    @property
    def removed_members(self) -> Set[int]:
        """Ids that a membership change has removed; they never come back."""
        return self._cluster.removed

    @property
    def alarms(self) -> Sequence[Alarm]:
        """In the order of member ids and types."""
        return self._cluster.alarms_in_order

    @property
    def has_alarms(self) -> bool:
        return bool(self._cluster.alarms)

    def ensure_may_grow(self) -> None:
        """Raise what a command that may add something would be refused with by alarms."""
        self._cluster.ensure_allowed(grows=True)

    def hash_at(self, index: int) -> int | None:
        """The chain's link at one of the last 10,000 entries that this run has applied."""
        return self._chain.at(index) if index <= self._written.index else None

    def start_number(self, member_id: int) -> int:
        """The newest start of this sender whose commands were applied; 0 if none was."""
        sender = self._senders.get(member_id)
        return sender.start_number if sender is not None else 0

    @property
    def is_unfinished(self) -> bool:
        """Whether `apply` wants to be called again."""
        return bool(self._waiting or self._giants.under_way)

    @property
    def is_held(self) -> bool:
        """Whether readers see the store as at `applied_index`, while more is being written."""
        return self.store.view.is_held

    @property
    def may_be_read(self) -> bool:
        """Not while a change that a crash has interrupted is half done."""
        return not self._giants.bars_reads

    @property
    def is_half_deleted(self) -> bool:
        """Whether a giant command is under way: a copy made meanwhile holds half of it."""
        return self._giants.under_way is not None or self._giants.bars_reads

    def hold_up_giants(self) -> None:
        """The next giant command, and all behind it, wait for a `let_giants_go` for each call.

        One that is under way, or that a crash has interrupted, goes on. `apply` is to be called
        again meanwhile: the machine `is_unfinished`.
        """
        self._copies += 1

    def let_giants_go(self) -> None:
        self._copies -= 1

    def usage(self, keyspace: int) -> int:
        """Logical bytes of the keyspace, history included: what a quota is held against."""
        state = self.store.keyspace(keyspace)
        return state.live_bytes + state.history_bytes + state.leases * quota.LEASE_BYTES

    def statistics(self) -> MachineStatistics:
        return MachineStatistics.of(
            self._handlers,
            applied_entries=self._written.index - self._opened_at,
            void_commands=self._void_commands,
            refused_commands=self._refused_commands,
            digested_bytes=self._digested_bytes,
        )

    # ── apply ───────────────────────────────────────────────────────────────

    def apply(self, entries: Sequence[Entry]) -> list[Applied]:
        """Apply committed normal entries, in order and without gaps; one Applied per command.

        What is returned is written, not synced. Raises UnknownFormat before
        anything of `entries` is applied; Stalled and DiskFull as the module's
        docstring says; other storage errors are the end of this object. While it
        `is_unfinished` afterwards, call it again with the same entries, soon.
        """
        waiting = self._waiting
        expected = self._chain.index + len(waiting) + 1
        if self._giants.under_way is not None:
            expected += 1
        waiting += self._decode(entries, expected)
        while waiting or self._chain.index > self._written.index or self._giants.under_way:
            giant = self._giants.under_way
            if giant is not None:
                self._go_on_with(giant)
                break
            if self._chain.index == self._written.index:
                self._stage()
            if self._chain.index > self._written.index:
                self._write()
            elif self._giants.under_way is None:
                break  # the next one is held up, or not decided yet
        results, self._results = self._results, []
        if self._foresight.told:
            self._foresight.came_true(results)
        return results

    def foresee(self, entries: Sequence[Entry]) -> list[Applied]:
        """What `apply` will return for the first of these, as many as are certain already.

        They follow on what is applied or was foreseen; `apply` is owed, with all of it. See
        `machine.foresight`.
        """
        if (
            self._waiting
            or self._giants.under_way
            or self._chain.index > self._written.index
            or self._cluster.alarms
        ):
            return []
        return self._foresight.see(entries, self._written.index, self.store.revision)

    def take_changes(self) -> list[list[Change]]:
        """The rows of each entry that changed some, in order, written since the last call."""
        changes, self._changes = self._changes, []
        return changes

    def apply_conf_change(
        self, entry: Entry, context: ConfChangeContext, enter: Callable[[], ConfState]
    ) -> list[Applied]:
        """Take over a membership change; as `apply` otherwise, for one entry.

        `enter` makes the change in Raft and returns the configuration; what it
        refuses, as a RequestError, every member must refuse alike. It is called
        once, and not for a void command.
        """
        assert not self._waiting
        if entry.index > self._chain.index:
            assert self._chain.index == self._written.index, "a write is unfinished"
            result: Result | RequestError = AckResult(self.store.revision)
            code = 0
            try:
                if context.sequence and not self._accept(context):
                    raise Outdated
                self._cluster.apply_conf_change(enter(), context.members, self._staged)
            except RequestError as error:
                result, code = error.with_traceback(None), error.code
            self._chain.link(entry.index, entry.term, self.store.revision, code, ())
            self._term = entry.term
            if context.sequence:
                of = context.member_id, context.start_number, context.sequence
                self._results.append(Applied(entry.index, *of, result))
        if self._chain.index > self._written.index:
            self._write()
        results, self._results = self._results, []
        return results

    def _accept(self, context: ConfChangeContext) -> bool:
        sender = self._senders.setdefault(context.member_id, Sender())
        accepted = sender.accept(context.start_number, context.sequence, context.lowest_unsettled)
        if accepted:
            self._changed_senders.add(context.member_id)
        return accepted

    def _stage(self) -> None:
        """Effects of waiting entries into the staged rows, until the batch is full."""
        waiting, stage_plain = self._waiting, self._stage_plain
        size = 0
        self._giants.ensure_next(waiting[0][0])
        while waiting and size < BATCH_BYTES_MAX and self._giants.under_way is None:
            entry, decoded = waiting[0]
            handler: Handler | None = None
            if decoded is not None and len(decoded) == 2:
                handler = self._handler_of(entry, *decoded)
                if handler is None:
                    break
            waiting.popleft()
            assert entry.term >= self._term, (entry.term, self._term)
            self._term = entry.term
            if decoded is None:
                size += self._chain.link(entry.index, entry.term, self.store.revision, 0, ())
            elif len(decoded) == 2:
                assert handler is not None
                size += self._stage_command(entry, decoded[0], handler)
            else:
                size += stage_plain(entry, decoded)
        self._digested_bytes += size

    def _handler_of(self, entry: Entry, command: Command, handler: Handler) -> Handler | None:
        """Who carries out the command that comes next, `handler` in general; None: not yet."""
        giants = self._giants
        branch: Branch | None = None
        if command.HasField("txn") and not giants.bars_reads:
            branch = self._deciding.branch(entry, command)
            if branch is None:
                return None
        if entry is self._held_up or giants.is_giant(command, branch):
            if self._chain.index > self._written.index:
                return None  # what is before it is written first
            if self._copies and not giants.bars_reads:
                self._held_up = entry
                return None
            return self._beginning(entry, branch)
        return handler if branch is None else self._handlers.txn_taking(branch)

    def _beginning(self, entry: Entry, branch: Branch | None) -> Handler:
        """Of a command to be applied in slices, unless it is refused like any other."""

        def begin(message: Command) -> Result:
            self._giants.begin(entry, message, branch)
            return AckResult(self.store.revision)  # stands for the result to come

        return begin

    def _stage_plain(self, entry: Entry, plain: Plain) -> int:
        """Returns the number of bytes digested, as all that stage an entry do."""
        member_id, start_number, sequence, lowest_unsettled, clock_ms, kind, row_keys = plain
        sender = self._senders.get(member_id)
        is_expected = (
            sender is not None
            and not self._cluster.alarms
            and sender.expects(start_number, sequence)
        )
        if is_expected and kind == PUT and self._waiting:
            size = self._stage_run(entry, plain)
            if size:
                return size
        changes: list[Change] | None = [] if self.keeps_changes else None
        if (
            sender is None
            or not is_expected
            or (result := self._plain.stage(entry, kind, row_keys, changes)) is None
        ):
            return self._stage_command(entry, *self._decoder.decode_command(entry))
        sender.accept(start_number, sequence, lowest_unsettled)
        self._changed_senders.add(member_id)
        if clock_ms > self.leases.clock_ms:
            self.leases.clock_ms = clock_ms
        self._results.append(Applied(entry.index, member_id, start_number, sequence, result))
        if changes:
            self._staged_changes.append(changes)
        return self._plain.digested_bytes

    def _stage_run(self, entry: Entry, plain: Plain) -> int:
        """A run of puts whose first one is expected; 0, with nothing done, where it is none."""
        # What is digested of an entry is a little more than its data and its key's last row.
        run = run_of(entry, plain, self._waiting, BATCH_BYTES_MAX // 4)
        if run is None:
            return 0
        changes: list[list[Change]] | None = [] if self.keeps_changes else None
        before = self.store.revision
        count = self._plain.stage_puts(run.entries, run.row_keys, changes)
        if not count:
            return 0
        run.cut(count)
        for _ in range(count - 1):
            self._waiting.popleft()
        member_id, start_number, first, *_ = plain
        lowest_unsettled = max(plain[3] for plain in run.plains)
        self._senders[member_id].accept_run(first + count - 1, lowest_unsettled)
        self._changed_senders.add(member_id)
        clock_ms = max(plain[4] for plain in run.plains)
        if clock_ms > self.leases.clock_ms:
            self.leases.clock_ms = clock_ms
        results = self._foresight.of_run(entry.index, count) or [
            Applied(
                entry.index + at, member_id, start_number, first + at, PutResult(before + 1 + at)
            )
            for at in range(count)
        ]
        assert results[-1].result == PutResult(self.store.revision), (results[-1], entry.index)
        self._results += results
        if changes:
            self._staged_changes += changes
        return self._plain.digested_bytes

    def _stage_command(self, entry: Entry, message: Command, handler: Handler) -> int:
        code = 0
        member_id, start_number, sequence = (
            message.member_id,
            message.start_number,
            message.sequence,
        )
        sender = self._senders.get(member_id)
        if sender is None:
            sender = self._senders[member_id] = Sender()
        result: Result | RequestError
        if sender.accept(start_number, sequence, message.lowest_unsettled):
            self._changed_senders.add(member_id)
            if message.leader_clock_ms > self.leases.clock_ms:
                self.leases.clock_ms = message.leader_clock_ms
            try:
                if self._cluster.alarms:
                    self._handlers.check_alarms(message)
                result = handler(message)
            except RequestError as error:
                self._refused_commands += 1
                # Without its traceback: that would keep this frame, and all it holds.
                result, code = error.with_traceback(None), error.code
        else:
            self._void_commands += 1
            result, code = Outdated(), Outdated.code
        self._results.append(Applied(entry.index, member_id, start_number, sequence, result))
        if self._giants.under_way is not None:  # its end brings result and link
            self._results.pop()
            return 0
        changes = self._staged.take_rows()
        assert not (code and changes), (entry.index, code, len(changes))
        if changes and self.keeps_changes:
            self._staged_changes.append(changes)
        return self._chain.link(entry.index, entry.term, self.store.revision, code, changes)

    def _go_on_with(self, giant: Giant) -> None:
        """One slice more; the last one is a batch like any other."""
        if not giant.is_staged:
            self._giants.stage(giant)
        if giant.result is None:
            batch = self._backend.batch()
            self._staged.drain_into(batch)
            self._backend.write(batch)
            self._staged.clear()
            self._giants.written()
            return
        message = giant.command
        self._handlers.count(giant.result)
        of = message.member_id, message.start_number, message.sequence
        self._results.append(Applied(giant.entry.index, *of, giant.result))
        self._write()

    def _write(self) -> None:
        """Write what is staged, as one batch, and show it. May be called again after it raised."""
        chain, staged = self._chain, self._staged
        position = Position(
            chain.index, self._term, self.store.revision, chain.hash, self.leases.clock_ms
        )
        batch = self._backend.batch()
        staged.drain_into(batch)
        self.store.save(batch)
        for member_id in sorted(self._changed_senders):
            row = rows.encode_sender(self._senders[member_id])
            batch.put(rows.FAMILY, rows.sender_key(member_id), row)
        batch.put(rows.FAMILY, rows.APPLIED, rows.encode_position(position))
        self._backend.write(batch)
        self.store.committed(staged)
        staged.clear()
        self._changed_senders.clear()
        self._written = position
        self._giants.written()
        if self._staged_changes:
            self._changes += self._staged_changes
            self._staged_changes.clear()
