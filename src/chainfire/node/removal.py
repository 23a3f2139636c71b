"""When a member that a membership change has removed may end. Pure.

Whoever has applied the removal turns it away, but says why only while it hears a
leader (`handshake.judge`). For the leader that removed it may have crashed with the
word that this is committed: others, that leader itself among them, may have the entry
in their logs, count by the membership before it, and need that vote once more. So it
ends only when it is told again, an election timeout after the first time: whoever
leads by then did without it, and has had the time to let the others know.
(Simulator, seeds 2010144 and 910241.)
"""

from __future__ import annotations


class Removal:
    def __init__(self, election_timeout_ms: int) -> None:
        self._election_timeout_ms = election_timeout_ms
        self._told_ms: int | None = None  # the first time

    def told(self, now_ms: int) -> bool:
        """Somebody who hears a leader says that this member was removed. Whether it may end."""
        if self._told_ms is None:
            self._told_ms = now_ms
        return now_ms - self._told_ms >= self._election_timeout_ms
