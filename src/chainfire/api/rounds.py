"""What watch streams need from time to time: word of progress, and an end when no leader is left.

One timer serves all streams of a member, and runs only while there are any.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

LOOKS_PER_LIMIT = 10  # for a leader: so exact is the end of the time without one


class WatchRounds:
    def __init__(
        self,
        *,
        progress_seconds: float,
        leaderless_seconds: float,
        tell_progress: Callable[[], None],
        has_leader: Callable[[], bool],
    ) -> None:
        self._progress_seconds = progress_seconds
        self._leaderless_seconds = leaderless_seconds
        self._tell_progress = tell_progress
        self._has_leader = has_leader
        self._streams = 0
        self._progress: asyncio.TimerHandle | None = None
        self._needing: dict[object, Callable[[], None]] = {}  # streams that require a leader
        self._look: asyncio.TimerHandle | None = None
        self._leader_seen = 0.0

    def begin(self, stream: object, on_leader_lost: Callable[[], None] | None) -> None:
        """`on_leader_lost`: the stream's client requires a leader. Owes an `end`."""
        self._streams += 1
        if self._progress is None:
            self._schedule_progress()
        if on_leader_lost is not None:
            self._needing[stream] = on_leader_lost
            if self._look is None:
                self._look_for_leader()

    def end(self, stream: object) -> None:
        self._streams -= 1
        if not self._streams and self._progress is not None:
            self._progress.cancel()
            self._progress = None
        self._needing.pop(stream, None)
        if not self._needing and self._look is not None:
            self._look.cancel()
            self._look = None

    def _schedule_progress(self) -> None:
        loop = asyncio.get_running_loop()
        self._progress = loop.call_later(self._progress_seconds, self._progress_due)

    def _progress_due(self) -> None:
        self._schedule_progress()
        self._tell_progress()

    def _look_for_leader(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._look is None or self._has_leader():
            self._leader_seen = now
        elif now - self._leader_seen >= self._leaderless_seconds:
            lost, self._needing = self._needing, {}
            for on_leader_lost in lost.values():
                on_leader_lost()
            self._look = None
            return
        pause = self._leaderless_seconds / LOOKS_PER_LIMIT
        self._look = loop.call_later(pause, self._look_for_leader)
