"""Who hears of a node's turns without having asked for anything: two contracts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from chainfire.storage.staged import Change


class Follower(Protocol):
    """Somebody who is told what is applied, turn by turn. Must not raise."""

    @property
    def wants_changes(self) -> bool:
        """Else it hears of revisions only."""
        ...

    def applied(self, changes: Sequence[Sequence[Change]], revision: int) -> None:
        """The store is at `revision` now; the rows of entries that changed some, in order.

        The first entries may be missing after `wants_changes` was set.
        """
        ...


class Outlet(Protocol):
    """A door by which many answers leave at once. Must not raise."""

    def hold(self) -> None:
        """Answers follow."""
        ...

    def flush(self) -> None:
        """That were all: let them leave."""
        ...
