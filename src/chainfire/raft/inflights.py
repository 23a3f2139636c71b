"""The window of APPENDs that a follower has not answered, bounded in messages and in bytes."""

from __future__ import annotations

from collections import deque


class Inflights:
    """Indexes are added in rising order and freed from the front.

    Invariant: bytes == the sum of what is in the window; a reset forgets both
    together (raft#54: a byte count that outlived its messages stalled for ever).
    """

    __slots__ = ("_window", "bytes", "bytes_max", "messages_max")

    def __init__(self, messages_max: int, bytes_max: int) -> None:
        self.messages_max = messages_max
        self.bytes_max = bytes_max  # 0 = no limit
        self.bytes = 0
        self._window: deque[tuple[int, int]] = deque()  # (last index of the message, its bytes)

    def __len__(self) -> int:
        return len(self._window)

    @property
    def full(self) -> bool:
        """One message may overshoot the byte limit, so that a large entry is sent at all."""
        return len(self._window) >= self.messages_max or 0 < self.bytes_max <= self.bytes

    def add(self, last_index: int, size_bytes: int) -> None:
        assert not self.full, (len(self._window), self.bytes)
        self._window.append((last_index, size_bytes))
        self.bytes += size_bytes

    def free_up_to(self, index: int) -> None:
        """Forget the messages whose last entry is at or below `index`."""
        window = self._window
        while window and window[0][0] <= index:
            self.bytes -= window.popleft()[1]

    def reset(self) -> None:
        self._window.clear()
        self.bytes = 0
