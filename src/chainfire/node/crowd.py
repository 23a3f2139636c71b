"""Who gives way at a door where too many wait to be let in. Pure.

The oldest does, as long as all hosts have few there. A host that floods the door pushes out its
own: a member elsewhere that takes two round trips to show who it is must not lose its place to
connections that say nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

# A member dials three connections at once, and several may run on one host.
PER_HOST_FAIR: Final = 8


def gives_way(hosts: Sequence[str]) -> int:
    """The place of who is to go; `hosts` are where they come from, the oldest first."""
    counts = Counter(hosts)
    most = max(counts.values())
    if most <= PER_HOST_FAIR:
        return 0
    return [counts[host] for host in hosts].index(most)


def host_of(address: str) -> str:
    """Of "host:port"; empty for local sockets, which have one door for all."""
    return address.rpartition(":")[0]
