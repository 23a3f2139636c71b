"""What the upkeep does on one member, for one life of it: state syncs, cutting the log, removing
old revisions; as the shell's does it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any, Final, Protocol

from chainfire.errors import Stalled
from chainfire.mvcc.compact import Compaction
from chainfire.node.driver import Driver
from chainfire.sim.disk import Disk, SimWitness
from chainfire.sim.schedule import MS, below, pick
from chainfire.sim.shape import Options, Shape

UPKEEP_US: Final = 200 * MS


class Later(Protocol):
    """Does a step of this life after so many simulated microseconds, if the member still lives."""

    def __call__(self, delay: int, do: Callable[..., None], *args: Any) -> None: ...


class MemberUpkeep:
    def __init__(
        self,
        disk: Disk,
        driver: Driver,
        witness: SimWitness,
        options: Options,
        shape: Shape,
        dice: Random,
        branches: Counter[str],
        later: Later,
        sync_us: Callable[[], int],
    ) -> None:
        """`sync_us`: how long the next sync takes."""
        self._disk = disk
        self._driver = driver
        self._witness = witness
        self._options = options
        self._shape = shape
        self._dice = dice
        self._branches = branches
        self._later = later
        self._sync_us = sync_us
        self._syncs_state = False
        self._compaction: Compaction | None = None
        self._gone_to = -1  # the revision up to which old ones are removed

    def begin(self) -> None:
        self._later(UPKEEP_US, self._look)

    def installed(self) -> None:
        """A snapshot has replaced the state."""
        self._compaction, self._gone_to = None, -1

    def remove_old_revisions(self) -> None:
        """If any are compacted that are still there."""
        space = self._driver.machine.store.keyspace(0)
        if self._compaction is None and space.compacted > max(space.finished, self._gone_to):
            self._compaction = Compaction(self._disk.state, self._driver.machine.store, 0)
            self._later(self._shape.turn_us, self._compact)

    def _look(self) -> None:
        driver = self._driver
        self._later(UPKEEP_US, self._look)
        self._witness.fsync()
        applied = driver.machine.applied_index
        if applied >= driver.log.state_durable + self._options.state_sync_entries or (
            applied > driver.log.state_durable and self._dice.random() < 0.2
        ):
            self._sync_state(applied)

    def _sync_state(self, applied: int) -> None:
        if not self._syncs_state:
            self._syncs_state = True
            written = self._disk.state.written
            self._later(2 * self._sync_us(), self._state_synced, applied, written)

    def _state_synced(self, applied: int, written: int) -> None:
        driver = self._driver
        self._syncs_state = False
        if applied < driver.log.state_durable:
            return  # of a state that a snapshot has replaced
        self._disk.state.sync_to(written)
        with suppress(Stalled):
            driver.log.note_state_durable(applied)
            catchup = self._options.catchup_entries
            cut = min(applied, driver.machine.applied_index - catchup)
            under_way = driver.snapshot_under_way
            if under_way is not None:
                cut = min(cut, under_way)
            if cut - driver.log.first_index() >= max(1, catchup // 10):
                driver.log.truncate_front(cut)
                self._branches["logs cut"] += 1

    def _compact(self) -> None:
        compaction = self._compaction
        if compaction is None:
            return
        try:
            done = compaction.step(pick(self._dice, (1, 3, 20)))
        except Stalled:
            self._compaction = None
            return
        if not done:
            pace_us = below(self._dice, self._shape.compaction_pace_us)
            self._later(self._shape.turn_us + pace_us, self._compact)
            return
        self._compaction, self._gone_to = None, compaction.revision
        self._driver.duties.note_compaction_finished(compaction.revision, compaction.freed_bytes)
