"""Lets through one line of a kind per minute, so that what repeats does not fill the log."""

from __future__ import annotations

from collections.abc import Callable, Hashable

SECONDS = 60.0
KINDS_MAX = 256  # strangers choose some of what a kind is made of


class Seldom:
    """`now` is a clock in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._last: dict[Hashable, float] = {}  # oldest first

    def is_due(self, kind: Hashable) -> bool:
        """Whether it is time for a line of this kind; then it counts as written."""
        now = self._now()
        last = self._last.get(kind)
        if last is not None and now - last < SECONDS:
            return False
        self._last.pop(kind, None)
        self._last[kind] = now
        if len(self._last) > KINDS_MAX:
            del self._last[next(iter(self._last))]
        return True

    def forget(self, kind: Hashable) -> None:
        """What it was about is over: the next line is due at once."""
        self._last.pop(kind, None)
