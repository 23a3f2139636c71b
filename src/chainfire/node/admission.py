"""May a member with an empty directory promise anything under its id? Pure.

Its predecessor on another disk may have voted and acknowledged. Whoever saw
that remembers the incarnation; ⌈n/2⌉ other voters of n that never met another
one leave the predecessor no quorum that it can have been counted in. Until
they have said so (their Welcome) the member neither votes nor acknowledges:
the driver does not hear what others send. A sole voter asks nobody.

Whether a cluster exists already does not matter. So a fresh cluster of three
forms when all three are up.
"""

from __future__ import annotations

from chainfire.types import ConfState


class Admission:
    def __init__(self, member_id: int, conf_state: ConfState) -> None:
        voters = {*conf_state.voters, *conf_state.voters_outgoing}
        size = len(voters | {member_id})
        self._others = voters - {member_id}
        self._needed = (size + 1) // 2 if size > 1 else 0
        self._welcomed: set[int] = set()

    @property
    def is_granted(self) -> bool:
        return len(self._welcomed) >= self._needed

    @property
    def missing(self) -> list[int]:
        """The voters that have not said so yet."""
        return sorted(self._others - self._welcomed)

    def welcomed(self, peer: int) -> None:
        """This member knows us by no other incarnation, and has stored this one."""
        if peer in self._others:
            self._welcomed.add(peer)
