"""How much later than its TTL a lease ends, and what that is good for. Times in ms.

A deadline lies `spare_ms` behind what its TTL asks for, counted from the stamp
of the command that wrote it:

    GRACE_MS          its holder counts from the answer, which came later than the stamp
    SPARE_MS_MAX      a renewal soon after another finds that the deadline is late enough, and
                      needs no row and no entry: for a 32nd of its TTL, or this

As the clock is looked at in slots and once a tick, a lease ends late by less than a
second all in all, and one of 3 s by less than half a second, as clients expect of etcd.
"""

from __future__ import annotations

from typing import Final

GRACE_MS: Final = 250
SPARE_MS_MAX: Final = 350
ANSWER_MS: Final = 100  # of it are left for the way of an answer that is not written


def spare_ms(ttl_ms: int) -> int:
    """How far behind its TTL the deadline of such a lease lies."""
    return GRACE_MS + min(SPARE_MS_MAX, ttl_ms >> 5)


def deadline_ms(clock_ms: int, ttl_ms: int) -> int:
    """Of what is granted or renewed where the clock reads `clock_ms`; on that clock."""
    return clock_ms + ttl_ms + spare_ms(ttl_ms)
