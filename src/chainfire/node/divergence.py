"""Have all members applied the same to the same effect? Asked with each heartbeat.

A leader says where its hash chain stands, a *point*; a follower compares at
that index as soon as it has applied it. Equal: nothing more is said. Else all
say theirs, once a tick for each index:

    L, M, B. M differs.   L: (7, x) to M, B    M: (7, y) to L, B    L: (7, x), B: (7, x) to all
    L, M, B. L differs.   L: (7, x) to M, B    M: (7, y) to L, B    B: (7, y) to L, M

so that every member has all points of one index, and judges alike:

    a quorum of the voters has one hash, and this member another     ODD
    it is one of the quorum                                          it serves
    neither, and this member differs from its leader                 SUSPECT: nobody knows yet

A member whose leader has other entries than those that are committed here has
differed from there on (`raft.follower`); it ends by itself when the leader has
committed its own.

All these serve nothing, because their store may not be what the log makes of
it. SUSPECT mostly lasts for one round trip, or as long as so many members are
away; with two members it is for good.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum
from typing import Final

from chainfire.machine import Machine
from chainfire.node.effects import Effects
from chainfire.node.frames import Chain
from chainfire.raft.rawnode import RawNode
from chainfire.raft.ready import Role

TABLES_MAX: Final = 16  # indexes at which points are kept
SUSPECT_TICKS: Final = 5  # then the alarm is raised: no majority shows itself


class Verdict(Enum):
    SOUND = "sound"
    SUSPECT = "suspect"
    ODD = "odd"


class Divergence:
    def __init__(self, raft: RawNode, machine: Machine, effects: Effects) -> None:
        self._core = raft.raft  # read, never written
        self._machine = machine
        self._effects = effects
        self._tables: dict[int, dict[int, int]] = {}  # index -> member -> hash; oldest first
        self._ahead: set[int] = set()  # indexes heard of that are not applied here
        self._told: set[int] = set()  # indexes at which we have said ours since the last tick
        self._ticks = 0  # since the verdict is what it is
        self.verdict = Verdict.SOUND
        self.is_sound_again = False  # an alarm of ours means nothing any more

    @property
    def is_found(self) -> bool:
        """This member serves nothing of its store."""
        return self.verdict is not Verdict.SOUND or self._core.contradicted_at > 0

    @property
    def wants_alarm(self) -> bool:
        return self.verdict is Verdict.ODD or (
            self.verdict is Verdict.SUSPECT and self._ticks > SUSPECT_TICKS
        )

    def heard(self, sender: int, chain: Chain) -> None:
        if sender in self._core.tracker.progress:
            self._note(sender, chain)
            if chain.index > self._machine.applied_index:
                self._ahead.add(chain.index)
            else:
                self._compare(chain.index)

    def tick(self) -> None:
        core, machine = self._core, self._machine
        self._ticks += 1
        if core.role is Role.LEADER:
            self._tell(machine.applied_index, machine.hash)
        self._told.clear()
        for index in [index for index in self._ahead if index <= machine.applied_index]:
            self._ahead.discard(index)
            self._compare(index)

    def reset(self) -> None:
        """The state was replaced by a snapshot."""
        self._tables.clear()
        self._ahead.clear()
        self._become(Verdict.SOUND, 0)

    def _note(self, sender: int, chain: Chain) -> None:
        self._tables.setdefault(chain.index, {})[sender] = chain.hash
        while len(self._tables) > TABLES_MAX:
            oldest = min(self._tables)
            del self._tables[oldest]
            self._ahead.discard(oldest)

    def _tell(self, index: int, hash_: int) -> None:
        for id in self._core.tracker.progress:
            if id != self._core.id:
                self._effects.send(id, Chain(index, hash_))

    def _compare(self, index: int) -> None:
        """With all points that are known of this index, if this member has applied it."""
        mine = self._machine.hash_at(index)
        points = self._tables.get(index)
        if mine is None or points is None:
            return
        differs = any(hash_ != mine for hash_ in points.values())
        if not differs and self.verdict is Verdict.SOUND:
            return
        if differs and index not in self._told:
            self._told.add(index)
            self._tell(index, mine)
        core = self._core
        voters = core.tracker.all_voters
        points = {**points, core.id: mine}
        of_voters = Counter([points[id] for id in voters if id in points])
        most = of_voters.most_common(1)
        if most and most[0][1] >= len(voters) // 2 + 1:
            self._become(Verdict.SOUND if most[0][0] == mine else Verdict.ODD, index)
        elif self.verdict is Verdict.SOUND and points.get(core.leader, mine) != mine:
            self._become(Verdict.SUSPECT, index)

    def _become(self, verdict: Verdict, index: int) -> None:
        if verdict is not self.verdict:
            self.verdict = verdict
            self.is_sound_again = verdict is Verdict.SOUND
            self._ticks = 0
            # A chain that differs differs from then on: what was equal before says nothing.
            for before in [before for before in self._tables if before < index]:
                del self._tables[before]
