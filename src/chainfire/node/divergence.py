"""Has this member applied the same to the same effect as its leader? Asked with each heartbeat.

A leader says where its hash chain stands; a follower compares at that index
as soon as it has applied it. One that differs says so for good: its store is
not what the log makes of it, and it serves no more of it.
"""

from __future__ import annotations

from chainfire.machine import Machine
from chainfire.node.effects import Effects
from chainfire.node.frames import Chain
from chainfire.raft.rawnode import RawNode
from chainfire.raft.ready import Role


class Divergence:
    def __init__(self, raft: RawNode, machine: Machine, effects: Effects) -> None:
        self._core = raft.raft  # read, never written
        self._machine = machine
        self._effects = effects
        self._heard: Chain | None = None  # of the leader, not compared yet
        self.is_found = False

    def heard(self, sender: int, chain: Chain) -> None:
        """Older ones of another leader are as good: what was applied there is applied here."""
        if sender in self._core.tracker.progress and (
            self._heard is None or self._heard.index < self._machine.applied_index
        ):
            self._heard = chain
        self._compare()

    def tick(self) -> None:
        core, machine = self._core, self._machine
        if core.role is Role.LEADER:
            chain = Chain(machine.applied_index, machine.hash)
            for id in core.tracker.progress:
                if id != core.id:
                    self._effects.send(id, chain)
        self._compare()

    def reset(self) -> None:
        """The state was replaced by a snapshot."""
        self._heard, self.is_found = None, False

    def _compare(self) -> None:
        chain = self._heard
        if chain is None or chain.index > self._machine.applied_index:
            return
        self._heard = None
        mine = self._machine.hash_at(chain.index)
        if mine is not None and mine != chain.hash:
            self.is_found = True
