"""The end of a member's life: what it says of it, and what must be durable by then."""

from __future__ import annotations

import asyncio
import logging

from chainfire.errors import DiskFull, Diverged, FatalError, InternalFailure, Stalled
from chainfire.node.logstore import LogStore
from chainfire.node.upkeep import Disk
from chainfire.storage.backend import LogBackend, StorageBackend

DISK_FULL_ADVICE = (
    "Nothing that was acknowledged is lost. Make room on this volume, then start again: the start "
    "gives up the ballast file; delete keys and compact before the next writes"
)
DIVERGED_ADVICE = (
    "Unless it begins anew by itself now (--auto-heal, where the others are a quorum), keep its "
    "data directory, which alone may hold what it has acknowledged, and take it into the cluster "
    "anew: member remove, member add, and a start with an empty --data-dir"
)

log = logging.getLogger(__name__)


def last_words(error: FatalError) -> FatalError:
    """Log why the member stops; the error as its operator should read it."""
    if isinstance(error, DiskFull):
        error = DiskFull(f"{error.detail}. {DISK_FULL_ADVICE}")
    detail = str(error)
    if isinstance(error, Diverged):
        detail = f"{detail}. {DIVERGED_ADVICE}"
    log.critical(
        "member stops",
        exc_info=error.__cause__ if isinstance(error, InternalFailure) else None,
        extra={"error": type(error).__name__, "detail": detail},
    )
    return error


async def make_durable(
    *,
    applied: int,
    log_store: LogStore,
    log_backend: LogBackend,
    state_backend: StorageBackend,
    disk: Disk,
) -> None:
    """State, log and witness, off the loop; `applied` is the index that the state is at.

    Raises what a sync raises.
    """
    await asyncio.to_thread(state_backend.sync)
    try:
        log_store.note_state_durable(applied)
    except (Stalled, DiskFull):  # then the next start replays a little more
        log.warning("no note of what is durable", extra={"applied_index": applied})
    await asyncio.to_thread(log_backend.sync)
    await asyncio.to_thread(disk.fsync_witness)
