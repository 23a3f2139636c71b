"""When committed entries are applied. Pure.

    told       whoever waits for a result that is certain already hears it first (`early`)
    held       where that was all of a page, nobody waits for its apply: it waits, too
    applied    in one go with all that was held

What a put costs alone in its turn is mostly its apply, and one apply of many
costs little more: so it is put off until somebody wants to see the store
(`Driver.catch_up`: reads, watchers, answers that are not certain), until enough
is held, or until HOLD_SECONDS are over. Who looks is then kept waiting, though:
after each time that somebody did, the next pages are applied at once.

Invariants: what is held comes before all pages, and is told; while the first
page is told, nothing is held.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from chainfire.node.applier import Applier
from chainfire.node.early import EarlyAnswers
from chainfire.node.effects import Answer
from chainfire.types import Entry

HOLD_SECONDS: Final = 0.02
HELD_MAX: Final = 64  # entries
HELD_BYTES_MAX: Final = 1 << 20
PAGES_AFTER_A_LOOK: Final = 32  # that are not held


class Applying:
    def __init__(self, applier: Applier, early: EarlyAnswers) -> None:
        self._applier = applier
        self._early = early
        self.pages: deque[Sequence[Entry]] = deque()  # committed, each one page of raft's
        self.is_told = False  # the first one: whoever could hear of it early has heard
        self.is_postponed = False  # it waits for the next turn, and for nothing else
        self.held: list[Entry] = []
        self._held_bytes = 0
        self._not_held = 0  # so many of the next pages

    @property
    def is_stuck(self) -> bool:
        """Storage does not take what is to be applied, or a giant command is under way."""
        return bool(self.pages) and not self.is_postponed

    def foretell(self, entries: Sequence[Entry]) -> None:
        """These will be the next page, the first there is: find out what may be told of it."""
        self._early.foresee(entries)

    def tell(self, *, may_hold: bool) -> list[Answer]:
        """The early answers of the first page, which is not told yet; it may be held then."""
        entries = self.pages[0]
        answers, is_all = self._early.answers(entries)
        if is_all and may_hold and self._hold(entries):
            self.pages.popleft()
        else:
            if self.held:
                self.pages[0] = [*self._let_go(), *entries]
            self.is_told = True
        return answers

    def _hold(self, entries: Sequence[Entry]) -> bool:
        if self._not_held:
            self._not_held -= 1
            return False
        size = self._held_bytes + sum([len(entry.data) for entry in entries])
        if len(self.held) + len(entries) > HELD_MAX or size > HELD_BYTES_MAX:
            return False
        self.held += entries
        self._held_bytes = size
        return True

    def release(self, *, looked_for: bool) -> None:
        """Whatever is held is to be applied next; `looked_for`: somebody waits for it."""
        if self.held:
            self.pages.appendleft(self._let_go())
            self.is_told = True
            if looked_for:
                self._not_held = PAGES_AFTER_A_LOOK

    def _let_go(self) -> list[Entry]:
        held, self.held, self._held_bytes = self.held, [], 0
        return held

    def apply(self) -> int:
        """Apply the first page, which is told; the index up to which that was, 0: to be
        called again, at the next turn.

        Raises Stalled: the same, a little later.
        """
        entries = self.pages[0]
        if not self._applier.apply(entries):
            return 0
        self.pages.popleft()
        self.is_told = False
        return entries[-1].index
