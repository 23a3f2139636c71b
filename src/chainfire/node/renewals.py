"""Renewals of leases: those that need no entry, and those on their way into the log.

kept        the stored deadline is late enough already (`lease.spare`): that is an answer, if
            this member leads still and all that is committed is applied, as for a
            linearizable read: nothing to do for a sole voter, else one round for all
            that came in a turn
written     what else callers of this member ask for in one turn is one command of ids; at a
            follower that is all of it
ahead       of those kept, the ones that the next renewal would find too old: written together
            at the next tick, with nobody waiting
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final

from chainfire.command import CommandKind
from chainfire.errors import RequestError
from chainfire.lease import UNWRITTEN
from chainfire.machine import Machine
from chainfire.node.leaseclock import LeaseClock
from chainfire.node.reads import ReadPending
from chainfire.proto.command_pb2 import LeaseRenew
from chainfire.types import Nobody, Pending, RenewResult, Result

RENEWED_PER_COMMAND_MAX: Final = 5000

# Queue a command: kind, body, who waits, keyspace.
Propose = Callable[[int, bytes, Pending, int], None]


class Renewals:
    """Part of the driver, which calls `tick` and `turn`."""

    def __init__(
        self,
        machine: Machine,
        clock: LeaseClock,
        propose: Propose,
        may_read: Callable[[ReadPending], bool],
    ) -> None:
        """`may_read` is a linearizable `Driver.read`."""
        self._machine = machine
        self._clock = clock
        self._propose = propose
        self._may_read = may_read
        self._commands: list[_Command] = []  # of this turn, in order
        self._open: dict[int, _Command] = {}  # those that take more, by keyspace
        self._unproved: list[tuple[_Asked, list[int]]] = []  # places that are kept if it leads
        self._ahead: defaultdict[int, dict[int, None]] = defaultdict(dict)  # by keyspace
        self.kept_count = 0  # renewals that no entry was needed for

    def kept(self, keyspace: int, ids: Sequence[int], now_ms: int) -> list[int]:
        """As `Lessor.kept`; the caller knows that this member leads and has applied everything."""
        ahead = self._ahead[keyspace]
        before = len(ahead)
        reading_ms = self._clock.reading(now_ms)
        ttls_ms = self._machine.leases.kept(keyspace, ids, reading_ms, ahead)
        self.kept_count += len(ids) - ttls_ms.count(UNWRITTEN) - (len(ahead) - before)
        return ttls_ms

    def renew(
        self, keyspace: int, ids: Sequence[int], pending: Pending, now_ms: int, *, leading: bool
    ) -> None:
        """Let these TTLs begin anew; `pending` gets a RenewResult in the order of `ids`."""
        if leading:
            reading_ms = self._clock.reading(now_ms)
            ttls_ms = self._machine.leases.kept(keyspace, ids, reading_ms, {})
        else:
            ttls_ms = [UNWRITTEN] * len(ids)
        asked = _Asked(keyspace, ids, pending)
        unproved = [at for at, ttl_ms in enumerate(ttls_ms) if ttl_ms != UNWRITTEN]
        if unproved:
            asked.parts += 1
            self._unproved.append((asked, unproved))
        if len(unproved) < len(ids):
            self._write(asked, [at for at, ttl_ms in enumerate(ttls_ms) if ttl_ms == UNWRITTEN])

    def _write(self, asked: _Asked, places: list[int]) -> None:
        asked.parts += 1
        command = self._open.get(asked.keyspace)
        if command is None or len(command.ids) + len(places) > RENEWED_PER_COMMAND_MAX:
            command = self._open[asked.keyspace] = _Command(asked.keyspace)
            self._commands.append(command)
        command.add(asked, places)

    def tick(self, *, leading: bool) -> None:
        for keyspace, ids in self._ahead.items():
            if ids and leading:
                named = list(ids)
                for start in range(0, len(named), RENEWED_PER_COMMAND_MAX):
                    part = named[start : start + RENEWED_PER_COMMAND_MAX]
                    self._propose_ids(keyspace, part, Nobody())
            ids.clear()

    def turn(self) -> None:
        """Propose, and ask for proof of, what came since the last one."""
        if self._commands:
            commands, self._commands = self._commands, []
            self._open.clear()
            for command in commands:
                self._propose_ids(command.keyspace, command.ids, command)
        if self._unproved:
            unproved, self._unproved = self._unproved, []
            proof = _Proof(self, unproved)
            if self._may_read(proof):
                proof.ready()

    def _propose_ids(self, keyspace: int, ids: list[int], pending: Pending) -> None:
        body = LeaseRenew(ids=ids).SerializeToString()
        self._propose(CommandKind.LEASE_RENEW, body, pending, keyspace)

    def proved(self, asked: _Asked, places: list[int]) -> None:
        """This member has led until after it was asked: what it knows now counts."""
        ids = [asked.ids[at] for at in places]
        ttls_ms = self.kept(asked.keyspace, ids, self._clock.now_ms)
        too_old = [at for at, ttl_ms in zip(places, ttls_ms, strict=True) if ttl_ms == UNWRITTEN]
        if too_old:  # by now: goes into the log with the next turn
            self._write(asked, too_old)
        asked.told(self._machine.revision, places, ttls_ms)

    def stop(self, error: RequestError) -> None:
        """Those that neither Raft nor a read knows of end with this error."""
        commands, self._commands = self._commands, []
        self._open.clear()
        for command in commands:
            command.refused(error)
        unproved, self._unproved = self._unproved, []
        for asked, _ in unproved:
            asked.refused(error)


class _Asked:
    """What one caller asked for, answered in one or two parts."""

    __slots__ = ("ids", "keyspace", "parts", "pending", "ttls_ms")

    def __init__(self, keyspace: int, ids: Sequence[int], pending: Pending) -> None:
        self.keyspace = keyspace
        self.ids = ids
        self.pending: Pending | None = pending
        self.ttls_ms = [0] * len(ids)
        self.parts = 0  # not answered yet

    def told(self, revision: int, places: Sequence[int], ttls_ms: Sequence[int]) -> None:
        for at, ttl_ms in zip(places, ttls_ms, strict=True):
            self.ttls_ms[at] = ttl_ms
        self.parts -= 1
        if not self.parts and self.pending is not None:
            self.pending.done(RenewResult(revision, self.ttls_ms))

    def refused(self, error: RequestError) -> None:
        pending, self.pending = self.pending, None
        if pending is not None:
            pending.refused(error)


class _Command:
    """One command's ids, and who asked for which of them; its Pending."""

    __slots__ = ("_askers", "ids", "keyspace")

    def __init__(self, keyspace: int) -> None:
        self.keyspace = keyspace
        self.ids: list[int] = []
        self._askers: list[tuple[_Asked, list[int]]] = []  # and the places of its ids, in order

    @property
    def finished(self) -> bool:
        return False  # a renewal counts, whoever hears of it

    def add(self, asked: _Asked, places: list[int]) -> None:
        self.ids += [asked.ids[at] for at in places]
        self._askers.append((asked, places))

    def done(self, result: Result) -> None:
        assert isinstance(result, RenewResult), result
        start = 0
        for asked, places in self._askers:
            end = start + len(places)
            asked.told(result.revision, places, result.ttls_ms[start:end])
            start = end

    def refused(self, error: RequestError) -> None:
        for asked, _ in self._askers:
            asked.refused(error)


class _Proof:
    """Waits for the store as a linearizable read does: a ReadPending."""

    __slots__ = ("_renewals", "_unproved")

    def __init__(self, renewals: Renewals, unproved: Sequence[tuple[_Asked, list[int]]]) -> None:
        self._renewals = renewals
        self._unproved = unproved

    @property
    def finished(self) -> bool:
        return False

    def ready(self) -> None:
        for asked, places in self._unproved:
            self._renewals.proved(asked, places)

    def refused(self, error: RequestError) -> None:
        for asked, _ in self._unproved:
            asked.refused(error)
