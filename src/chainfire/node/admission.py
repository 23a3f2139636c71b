"""May this member promise anything under its id? Others must have answered first. Pure.

Empty directory. Its predecessor on another disk may have voted and
acknowledged. Whoever saw that remembers the incarnation; ⌈n/2⌉ other voters of
n that never met another one leave the predecessor no quorum that it can have
been counted in. Until they have said so (their Welcome) the member neither
votes nor acknowledges: the driver does not hear what others send. A sole voter
asks nobody. Whether a cluster exists already does not matter. So a fresh
cluster of three forms when all three are up.

Lost data. The incarnation is known, but not what was promised under it. Every
quorum that this member was counted in had ⌊n/2⌋ others in it; so of any ⌈n/2⌉
others that have lost nothing one knows the newest term in which that can have
been. Their newest term is where this member goes on, as a follower without a
vote (`standing`).
"""

from __future__ import annotations

from collections.abc import Set

from chainfire.types import ConfState


class Admission:
    def __init__(self, member_id: int, conf_state: ConfState, *, lost_data: bool = False) -> None:
        voters = {*conf_state.voters, *conf_state.voters_outgoing}
        self._size = len(voters | {member_id})
        self._others = voters - {member_id}
        self._needed = (self._size + 1) // 2 if self._size > 1 else 0
        self._welcomed: set[int] = set()
        self._terms: dict[int, int] = {}  # as the others have reported them since
        self._without_data: set[int] = set()
        self.lost_data = lost_data

    @property
    def is_granted(self) -> bool:
        return len(self._others - set(self.missing)) >= self._needed

    @property
    def missing(self) -> list[int]:
        """The voters that have not said so yet."""
        answered = self._welcomed - self._without_data
        return sorted(
            self._others - (answered & self._terms.keys() if self.lost_data else answered)
        )

    @property
    def term(self) -> int:
        """The newest one that those who answered know of; 0 where nobody need be asked."""
        return max((self._terms.get(id, 0) for id in self._others - set(self.missing)), default=0)

    @property
    def without_data(self) -> list[int]:
        """Other voters that say the same of themselves: what they answer does not count."""
        return sorted(self._without_data)

    @property
    def is_hopeless(self) -> bool:
        """So many have lost data that no quorum is left which holds all that was acknowledged."""
        return self.lost_data and not leaves_quorum(self._size, 1 + len(self._without_data))

    def met(self, peer: int, *, lost_data: bool) -> None:
        """A handshake with this member is complete, and says whether it has lost data."""
        if lost_data and peer in self._others:
            self._without_data.add(peer)
        else:
            self._without_data.discard(peer)

    def welcomed(self, peer: int) -> None:
        """This member knows us by no other incarnation, and has stored this one."""
        if peer in self._others:
            self._welcomed.add(peer)

    def reported(self, peer: int, term: int) -> None:
        """This member has reached that term, and says so to this life of ours."""
        self._terms[peer] = max(term, self._terms.get(peer, 0))


def is_quorum_without(lost: Set[int], conf_state: ConfState) -> bool:
    """Whether a majority of each half is left without those that have lost data."""
    halves = [half for half in (conf_state.voters, conf_state.voters_outgoing) if half]
    return all(leaves_quorum(len(half), len(lost & {*half})) for half in halves)


def leaves_quorum(voters: int, lost: int) -> bool:
    """Whether a majority of the voters is left without those that have lost data."""
    return voters - lost >= voters // 2 + 1
