"""Places in lines (api.claims), and the calls of this member that stand at each.

Mostly one call. But a session may ask again while an earlier call of its is still here, because
its caller is gone and that is heard of later. The key is theirs together: it goes with the last of
them, if none has got what the line is for.
"""

from __future__ import annotations


class _Place:
    __slots__ = ("calls", "written")

    def __init__(self) -> None:
        self.calls = 0
        self.written = 0  # when a call here that has made the key, or one after it, wrote it last;
        # 0: it was there before, or somebody has won


class Places:
    def __init__(self) -> None:
        self._places: dict[bytes, _Place] = {}

    def __len__(self) -> int:
        return len(self._places)

    def enter(self, key: bytes) -> None:
        """A call, that will `leave`."""
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = _Place()
        place.calls += 1

    def made(self, key: bytes, revision: int) -> None:
        """One of the calls has made the key."""
        self._places[key].written = revision

    def written(self, key: bytes, revision: int) -> None:
        """One of the calls has written the key that was there."""
        place = self._places[key]
        if place.written:
            place.written = revision

    def won(self, key: bytes) -> None:
        """One of the calls is told that it has what the line is for."""
        self._places[key].written = 0

    def leave(self, key: bytes) -> int:
        """The revision at which the key was written that is to be removed now; 0 if none is."""
        place = self._places[key]
        place.calls -= 1
        if place.calls:
            return 0
        del self._places[key]
        return place.written
