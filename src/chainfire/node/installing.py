"""A snapshot takes the place of state and log: the order in which that is safe.

    files durable in a staged directory      by whoever received it
    witness lowered, `installing` durable    a crash up to here: the old state goes on
    CURRENT switched, the new state open     a crash from here on: the start finishes it
    log emptied behind the snapshot          term and vote stay this member's own
    acknowledged                             after the log's sync

Entries are applied on the same thread, one storage message after the other:
no apply is under way meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from chainfire.machine import Machine
from chainfire.node.logstore import LogStore
from chainfire.raft.messages import Message, Snapshot
from chainfire.types import HardState


class StatePlace(Protocol):
    """The live state directory, and those that may take its place, by name."""

    def switch_state(self, staged: str) -> None:
        """Make it the live one, durably, and open it under the same backend."""
        ...

    def discard_state(self, staged: str) -> None:
        """Nobody wants it."""
        ...


class Installing:
    def __init__(self, log: LogStore, machine: Machine, place: StatePlace) -> None:
        self._log = log
        self._machine = machine
        self._place = place
        self._staged: dict[tuple[int, int], str] = {}  # by index and term
        self._switched = (0, 0)  # whose state is the live one already

    def stage(self, message: Message, staged: str) -> None:
        """A snapshot was received; Raft is told of it next."""
        assert message.snapshot is not None
        key = message.snapshot.index, message.snapshot.term
        if key in self._staged:
            self._place.discard_state(staged)  # the same once more
        else:
            self._staged[key] = staged

    def keep_only(self, wanted: Iterable[Snapshot]) -> None:
        """Raft has decided: these are being installed, the others go."""
        keys = {(snapshot.index, snapshot.term) for snapshot in wanted}
        for other in self._staged.keys() - keys:
            self._place.discard_state(self._staged.pop(other))

    def install(self, snapshot: Snapshot, hard_state: HardState) -> None:
        """On return all but the log's last sync is done. May be called again after Stalled."""
        key = snapshot.index, snapshot.term
        staged = self._staged[key]
        if self._switched != key:
            self._log.begin_install(*key, staged)
            self._place.switch_state(staged)
            self._machine.reopen()
            self._switched = key
            assert self._machine.applied_index == snapshot.index, (
                self._machine.applied_index,
                snapshot.index,
            )
        self._log.finish_install(*key, hard_state)
        del self._staged[key]
