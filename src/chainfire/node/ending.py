"""The end of a member's life: what it says of it, and what must be durable by then."""

from __future__ import annotations

import asyncio
import logging

from chainfire.errors import DiskFull, FatalError, InternalFailure, Stalled
from chainfire.node.logstore import LogStore
from chainfire.node.upkeep import Disk
from chainfire.storage.backend import StorageBackend

DISK_FULL_ADVICE = (
    "Nothing that was acknowledged is lost. Make room on this volume, then start again: the start "
    "gives up the ballast file; delete keys and compact before the next writes"
)

log = logging.getLogger(__name__)


def last_words(error: FatalError) -> FatalError:
    """Log why the member stops; the error as its operator should read it."""
    if isinstance(error, DiskFull):
        error = DiskFull(f"{error.detail}. {DISK_FULL_ADVICE}")
    log.critical(
        "member stops",
        exc_info=error.__cause__ if isinstance(error, InternalFailure) else None,
        extra={"error": type(error).__name__, "detail": str(error)},
    )
    return error


async def make_durable(
    *,
    applied: int,
    log_store: LogStore,
    log_backend: StorageBackend,
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
