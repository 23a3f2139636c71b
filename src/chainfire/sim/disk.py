"""A member's disk: two databases and the witness, with what a crash, and a bad day, do to them.

    kill          the process dies, the machine goes on: what was written is there
    power loss    what was synced, and of each database a random prefix of the later
                  batches; of the witness any version since its last fsync
    power cut     a power loss in the middle of a turn: at the n-th step from now on
    ambush        the same, n steps after the log's end is next replaced or a snapshot installed
    audit         at each of the steps around these, whether a kill right there would lose anything
    failures      sync that fails, disk full, a stall, slow syncs
    snapshots     lie beside the live state, durable as they are, until one takes its place

A sync makes durable what was written when it began, and takes its time.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, Final, NamedTuple

from chainfire.storage.backend import LOG_FAMILIES, STATE_FAMILIES, WriteBatch
from chainfire.storage.memory import MemoryBackend, MemoryBatch
from chainfire.storage.witness import Promise

AUDITED_STEPS: Final = 6  # of a turn, from something rare on


class PowerCut(BaseException):
    """The member is no more. Not an Exception: nobody may catch it on the way."""


class Power:
    """Counts the steps that a turn makes on its disk, and ends them."""

    def __init__(self) -> None:
        self.cut_after = -1  # steps; below zero: never
        self.ambush_after = -1  # steps after something rare; below zero: no ambush
        self.in_turn = False
        self.audit: Callable[[], None] | None = None  # what a kill here and now would leave
        self._audits_left = 0

    def step(self) -> None:
        if self._audits_left:
            self._audits_left -= 1
            self._look()
        if self.cut_after >= 0:
            if self.cut_after == 0:
                raise PowerCut
            self.cut_after -= 1

    def rarely(self) -> None:
        """What comes next is a step that turns seldom make."""
        if not self.in_turn:
            return
        self._audits_left = AUDITED_STEPS
        if self.ambush_after >= 0:
            self.cut_after, self.ambush_after = self.ambush_after, -1

    def turn_ended(self) -> None:
        """Between two turns is a place to die, too."""
        self.in_turn = False
        if self._audits_left:
            self._audits_left = 0
            self._look()

    def _look(self) -> None:
        if self.audit is not None:
            self.audit()

    def hold(self) -> None:
        """Nothing that was planned comes to pass."""
        self.cut_after = self.ambush_after = -1
        self._audits_left = 0


class SimBatch(MemoryBatch):
    """Knows whether it takes whole ranges away."""

    takes_ranges = False

    def delete_range(self, family: str, lower: bytes, upper: bytes) -> None:
        self.takes_ranges = True
        super().delete_range(family, lower, upper)


class SimBackend(MemoryBackend):
    """A database on this disk."""

    def __init__(
        self, families: Sequence[str], image: Any = None, batches: Iterable[list[Any]] = ()
    ) -> None:
        super().__init__(families, image, batches)
        self.power = Power()  # of nobody, until a Disk takes it
        self.written = 0  # batches

    def fail_no_sync(self) -> None:
        self._next_sync_fails = False

    def copy(self) -> SimBackend:
        """What a checkpoint of it would hold."""
        return self.crash(self.unsynced_batches)

    def batch(self) -> SimBatch:
        return SimBatch()

    def write(self, batch: WriteBatch) -> None:
        assert isinstance(batch, SimBatch)
        if batch.takes_ranges:
            self.power.rarely()
        self.power.step()
        super().write(batch)
        self.written += 1

    def sync_to(self, written: int) -> None:
        """A sync ends that began when so many batches were written."""
        durable = self.written - self.unsynced_batches
        self.sync_first(min(max(0, written - durable), self.unsynced_batches))


class _Slot(NamedTuple):
    """What of a promise changes."""

    start_number: int
    last_index: int
    last_term: int
    term: int
    vote: int

    @classmethod
    def of(cls, promise: Promise) -> _Slot:
        return cls(*attrgetter(*cls._fields)(promise))


class SimWitness:
    """storage.witness.Witness in memory. Its file has no write that can fail."""

    def __init__(self, power: Power, promise: Promise) -> None:
        self._power = power
        self._directory = promise  # which one it is of, as all its promises say
        self._slot = _Slot.of(promise)
        self._since_fsync = [self._slot]  # the first one is durable

    @property
    def promise(self) -> Promise:
        """As written."""
        return replace(self._directory, **self._slot._asdict())

    def note(self, last_index: int, last_term: int, term: int, vote: int) -> None:
        self._power.step()
        self._write(_Slot(self._slot.start_number, last_index, last_term, term, vote))

    def begin(self, start_number: int) -> None:
        assert start_number > self._slot.start_number, (start_number, self._slot)
        self._write(self._slot._replace(start_number=start_number))
        self.fsync()

    def lower(self, last_index: int, last_term: int) -> None:
        slot = self._slot
        if slot.last_index > last_index:
            self.note(last_index, last_term, slot.term, slot.vote)
            self.fsync()

    def fsync(self) -> None:
        self._power.step()
        self._since_fsync = [self._slot]

    def lose_power(self, dice: random.Random) -> None:
        """Pages reach the disk whenever they like; the other slot covers a torn one."""
        self._slot = dice.choice(self._since_fsync)
        self._since_fsync = [self._slot]

    def _write(self, slot: _Slot) -> None:
        self._slot = slot
        self._since_fsync.append(slot)


class Disk:
    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self.power = Power()
        self.log = SimBackend(LOG_FAMILIES)
        self.state = SimBackend(STATE_FAMILIES)
        self.witness: SimWitness | None = None
        self.live = "state-1"  # the name of the live state, as CURRENT has it
        self.staged: dict[str, SimBackend] = {}
        self._states_made = 1
        self.full = False
        self.stalled = False
        self.lost_data = False  # it took the place of one that was lost, and has not caught up
        self.slow = 1.0  # how much longer a sync takes
        self._attach()

    def _attach(self) -> None:
        for backend in self._backends():
            backend.power = self.power
            backend.full, backend.stalled = self.full, self.stalled

    def _backends(self) -> Sequence[SimBackend]:
        return self.log, self.state

    # ── snapshots ───────────────────────────────────────────────────────────

    def stage(self, snapshot: SimBackend) -> str:
        """Keep what was received; its name."""
        self._states_made += 1
        name = f"state-{self._states_made}"
        self.staged[name] = snapshot
        return name

    def switch_state(self, staged: str) -> None:
        """CURRENT is renamed over: before it the old state is the live one, after it the new."""
        self.power.rarely()
        self.power.step()
        self.live = staged
        self.state.become(self.staged.pop(staged))
        self.power.step()

    def discard_state(self, staged: str) -> None:
        del self.staged[staged]

    def replace(self) -> None:
        """An empty one takes its place."""
        self.log, self.state = SimBackend(LOG_FAMILIES), SimBackend(STATE_FAMILIES)
        self.staged.clear()
        self._states_made += 1
        self.live = f"state-{self._states_made}"
        self.lost_data = True
        self._attach()

    # ── copies ──────────────────────────────────────────────────────────────

    def image(self) -> Disk:
        """What a copy of all its files would hold."""
        assert self.witness is not None
        copy = Disk(self._dice)
        copy.log, copy.state, copy.live = self.log.copy(), self.state.copy(), self.live
        copy.witness = SimWitness(copy.power, self.witness.promise)
        return copy

    def set_back(self, image: Disk) -> None:
        """While its member is down: it holds what it held when that copy was made."""
        assert image.witness is not None
        self.log, self.state, self.live = image.log, image.state, image.live
        self.witness = SimWitness(self.power, image.witness.promise)
        self.staged.clear()
        self._attach()

    # ── failures ────────────────────────────────────────────────────────────

    def set_full(self, full: bool) -> None:
        self.full = full
        self._attach()

    def set_stalled(self, stalled: bool) -> None:
        self.stalled = stalled
        self._attach()

    def fail_next_sync(self) -> None:
        self._dice.choice(self._backends()).fail_next_sync()

    def heal(self) -> None:
        """Nothing more goes wrong."""
        self.full = self.stalled = False
        self.slow = 1.0
        self.power.hold()
        self._attach()
        for backend in self._backends():
            backend.fail_no_sync()

    # ── ends of a process ───────────────────────────────────────────────────

    def kill(self) -> None:
        """The engine recovers all that was written; after a failed sync nobody knows."""
        self._reopen(lambda one: self._any_of(one) if one.failed else one.unsynced_batches)

    def lose_power(self) -> None:
        self._reopen(self._any_of)
        if self.witness is not None:
            self.witness.lose_power(self._dice)

    def _any_of(self, backend: SimBackend) -> int:
        return self._dice.randint(0, backend.unsynced_batches)

    def _reopen(self, keep: Callable[[SimBackend], int]) -> None:
        self.power.hold()
        self.power.in_turn = False
        self.staged.clear()  # left-overs; a start removes them
        self.log = self.log.crash(keep(self.log))
        self.state = self.state.crash(keep(self.state))
        self._attach()
