"""When to compact by itself: etcd's two modes as pure deciders. Time is an argument.

periodic: keep the revisions of the last period. Every tenth of the period (an
hour at most) the revision is sampled; once the oldest sample is a period old,
compact to it, at most once per min(period, 1 h).
revision: every five minutes, keep the newest N revisions.
(etcd server/etcdserver/api/v3compactor; only the leader asks.)
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

_HOUR_MS = 3_600_000
_REVISION_INTERVAL_MS = 300_000
_SAMPLES_PER_PERIOD = 10


class AutoCompactor(Protocol):
    def due(self, now_ms: int, revision: int) -> int | None:
        """The revision to compact to now, or None. `now_ms` is monotonic."""
        ...


class Periodic:
    def __init__(self, period_ms: int) -> None:
        assert period_ms > 0, period_ms
        self._period_ms = period_ms
        self._compact_every_ms = min(period_ms, _HOUR_MS)
        self._sample_every_ms = self._compact_every_ms // _SAMPLES_PER_PERIOD or 1
        self._samples: deque[tuple[int, int]] = deque()  # (taken at ms, revision), oldest first
        self._last_compaction_ms: int | None = None
        self._last_revision = 0

    def due(self, now_ms: int, revision: int) -> int | None:
        if not self._samples or now_ms - self._samples[-1][0] >= self._sample_every_ms:
            self._samples.append((now_ms, revision))
        target = None
        while self._samples and now_ms - self._samples[0][0] >= self._period_ms:
            target = self._samples[0][1]
            if len(self._samples) < 2 or now_ms - self._samples[1][0] < self._period_ms:
                break
            self._samples.popleft()
        if target is None or target <= self._last_revision:
            return None
        last = self._last_compaction_ms
        if last is not None and now_ms - last < self._compact_every_ms:
            return None
        self._last_compaction_ms, self._last_revision = now_ms, target
        return target


class ByRevision:
    def __init__(self, keep_revisions: int) -> None:
        assert keep_revisions > 0, keep_revisions
        self._keep = keep_revisions
        self._next_ms: int | None = None
        self._last_revision = 0

    def due(self, now_ms: int, revision: int) -> int | None:
        if self._next_ms is None:
            self._next_ms = now_ms + _REVISION_INTERVAL_MS
        if now_ms < self._next_ms:
            return None
        self._next_ms = now_ms + _REVISION_INTERVAL_MS
        target = revision - self._keep
        if target <= self._last_revision:
            return None
        self._last_revision = target
        return target
