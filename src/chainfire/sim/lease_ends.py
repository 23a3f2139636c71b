"""When each lease came to its end: the moment at which some member applied it first."""

from __future__ import annotations

from collections.abc import Sequence

from chainfire.machine import Machine
from chainfire.sim.check_lease import LeaseEnd
from chainfire.sim.history import LeaseCall


class LeaseEnds:
    """Looks at whoever is ahead, after each turn. `calls` grows while it does."""

    def __init__(self, calls: Sequence[LeaseCall]) -> None:
        self._calls = calls
        self._read = 0  # calls up to here are known
        self._index = 0  # the highest that was looked at
        self._waited_for: dict[int, None] = {}  # granted, maybe, and not seen yet
        self._alive: dict[int, None] = {}
        self._revoked: set[int] = set()  # somebody asked for it
        self.ends: list[LeaseEnd] = []

    @property
    def alive(self) -> list[int]:
        return list(self._alive)

    def look(self, machine: Machine, now: int) -> None:
        if machine.applied_index <= self._index:
            return
        self._index = machine.applied_index
        for call in self._calls[self._read :]:
            if not call.ttl:
                self._revoked.add(call.lease)
            elif not call.renews:
                self._waited_for[call.lease] = None
        self._read = len(self._calls)
        exists = machine.leases.exists
        for lease in [lease for lease in self._alive if not exists(0, lease)]:
            del self._alive[lease]
            self.ends.append(LeaseEnd(lease, now, lease in self._revoked))
        for lease in [lease for lease in self._waited_for if exists(0, lease)]:
            del self._waited_for[lease]
            self._alive[lease] = None
