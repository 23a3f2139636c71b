"""Which commands of one sender have been applied: each at most once, in whatever order they come.

A command id is (member id, start number, sequence). A member counts its start
number up at every start, and says in each command which of its sequences are
all settled (answered): below that nothing need be remembered, and nothing may
be applied any more, since its caller was told that it knows the outcome.

Commands mostly arrive in order, so what is remembered is a few closed
intervals, usually one. The representation is canonical: the same history in
whatever order gives the same row.
"""

from __future__ import annotations

from bisect import bisect_right


class Sender:
    """The ids of one member's commands, as far as applied."""

    __slots__ = ("firsts", "lasts", "lowest_unsettled", "start_number")

    def __init__(self, start_number: int = 0, lowest_unsettled: int = 0) -> None:
        self.start_number = start_number
        self.lowest_unsettled = lowest_unsettled
        # Invariant: lowest_unsettled <= firsts[0] <= lasts[0] < firsts[1] - 1, and so on.
        self.firsts: list[int] = []
        self.lasts: list[int] = []

    def accept(self, start_number: int, sequence: int, lowest_unsettled: int) -> bool:
        """Whether the command is to be applied; if so it is remembered as applied.

        False (and no change): an earlier start's, one below the sender's
        lowest unsettled sequence, or one that was accepted before.
        """
        lasts = self.lasts
        if start_number != self.start_number:
            if start_number < self.start_number:
                return False
            self.start_number = start_number
            self.lowest_unsettled = 0
            self.firsts, lasts = [], []
            self.lasts = lasts
        elif sequence < self.lowest_unsettled:
            return False
        if lasts and sequence == lasts[-1] + 1:
            lasts[-1] = sequence
        elif not self._insert(sequence):
            return False
        if lowest_unsettled > self.lowest_unsettled:
            self._settle(lowest_unsettled)
        return True

    def accept_run(self, last_sequence: int, lowest_unsettled: int) -> None:
        """Accept all sequences up to this one, of which it `expects` the first."""
        self.lasts[-1] = last_sequence
        if lowest_unsettled > self.lowest_unsettled:
            self._settle(lowest_unsettled)

    def expects(self, start_number: int, sequence: int) -> bool:
        """Whether this is the command behind all others; such a one is accepted."""
        lasts = self.lasts
        return (
            start_number == self.start_number
            and sequence >= self.lowest_unsettled
            and bool(lasts)
            and sequence == lasts[-1] + 1
        )

    def _insert(self, sequence: int) -> bool:
        """Add one sequence to the intervals; False when it is there."""
        firsts, lasts = self.firsts, self.lasts
        at = bisect_right(firsts, sequence)  # intervals before `at` start at or below it
        if at and sequence <= lasts[at - 1]:
            return False
        joins_left = at > 0 and lasts[at - 1] + 1 == sequence
        joins_right = at < len(firsts) and firsts[at] == sequence + 1
        if joins_left and joins_right:
            lasts[at - 1] = lasts.pop(at)
            del firsts[at]
        elif joins_left:
            lasts[at - 1] = sequence
        elif joins_right:
            firsts[at] = sequence
        else:
            firsts.insert(at, sequence)
            lasts.insert(at, sequence)
        return True

    def _settle(self, lowest: int) -> None:
        """Forget what lies below `lowest`."""
        self.lowest_unsettled = lowest
        firsts, lasts = self.firsts, self.lasts
        while lasts and lasts[0] < lowest:
            del firsts[0], lasts[0]
        if firsts and firsts[0] < lowest:
            firsts[0] = lowest
