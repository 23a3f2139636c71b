"""How many connections may be open: as many as leave file descriptors for the member's own files.

A storage engine that finds none left stops the member, so that whoever opens
connections could stop it.
"""

from __future__ import annotations

import resource
from typing import Final

CONNECTIONS_MAX: Final = 65_536
OWN_DESCRIPTORS: Final = 1536  # two databases of up to 512 files each, peers, certificates


def raise_limit() -> None:
    """Let this process have as many descriptors as it may, as Go's programs do at their start."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connections_max() -> int:
    """As many as descriptors are left beside our own files; where these are few, half of them."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return CONNECTIONS_MAX
    return min(CONNECTIONS_MAX, max(limit - OWN_DESCRIPTORS, limit // 2))
