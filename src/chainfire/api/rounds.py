"""Word of progress for watch streams, from time to time.

One timer serves all streams of a member, and runs only while there are any.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class WatchRounds:
    def __init__(self, progress_seconds: float, tell_progress: Callable[[], None]) -> None:
        self._progress_seconds = progress_seconds
        self._tell_progress = tell_progress
        self._streams = 0
        self._progress: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """There is a stream more. Owes an `end`."""
        self._streams += 1
        if self._progress is None:
            self._schedule_progress()

    def end(self) -> None:
        self._streams -= 1
        if not self._streams and self._progress is not None:
            self._progress.cancel()
            self._progress = None

    def _schedule_progress(self) -> None:
        loop = asyncio.get_running_loop()
        self._progress = loop.call_later(self._progress_seconds, self._progress_due)

    def _progress_due(self) -> None:
        self._schedule_progress()
        self._tell_progress()
