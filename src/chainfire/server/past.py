"""What earlier lives have left in a data directory, held against what they had promised.

log/ and state/ are opened read-only and held against the witness (`node.recovery`); whoever opens
them for writing has asked here first.
"""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from chainfire.errors import Corrupt, UnknownFormat
from chainfire.machine.rows import read_position
from chainfire.node import recovery
from chainfire.node.logstore import (
    Identity,
    LogMeta,
    first_position,
    last_position,
    stored_term,
)
from chainfire.server.founding import FOUNDED_AT, Birth
from chainfire.storage.backend import LOG_FAMILIES, STATE_FAMILIES
from chainfire.storage.datadir import DataDir
from chainfire.storage.rocks import RocksBackend, RocksOptions
from chainfire.storage.wal import Wal
from chainfire.storage.witness import Promise, Witness

log = logging.getLogger(__name__)


@dataclass(slots=True, frozen=True)
class Past:
    """What an earlier life has left."""

    promise: Promise | None  # of a witness that can be read
    started: bool  # a start number was counted
    lost: str = ""  # what is missing; --force-new-cluster accepts it
    log_is_unreadable: bool = False


def has_past(data_dir: Path) -> bool:
    """Whether a member has ever run on this directory, as far as its witness tells."""
    try:
        with closing(Witness.open(data_dir / "witness")) as witness:
            return witness.promise.start_number > 0
    except FileNotFoundError:
        return False
    except (Corrupt, UnknownFormat):
        return True


def look_back(
    directory: DataDir, state_path: Path, founder: Birth | None, *, accept_loss: bool
) -> Past:
    """What was there before; nothing is written. `founder`: whose directory it must be, if known.

    Raises Damaged for a loss nobody has accepted, DataDirMismatch.
    """
    promise, lost = None, ""
    try:
        promise = _promise(directory)
    except Corrupt as exc:
        lost = exc.detail
    found = _look_at_state(state_path)
    log_is_unreadable = False
    try:
        found = _look_at_log(directory, state_path, promise, found)
    except Corrupt as exc:
        if not accept_loss:
            raise recovery.damaged(exc.detail) from exc
        log_is_unreadable = True
        lost = exc.detail
    started = bool(
        lost
        or (promise is not None and promise.start_number)
        or found.meta.start_number
        or found.state_applied > FOUNDED_AT
    )
    if not started:
        return Past(promise, started)
    if promise is not None and not log_is_unreadable:
        mine = recovery.identity_of(promise)
        if founder is not None:
            expected = Identity(founder.cluster_id, founder.member_id, mine.incarnation)
            recovery.check_identity(expected, mine, founder.conf_state.voters)
        lost = "; ".join(recovery.losses(promise, found))
    elif not lost:
        lost = (
            f"{directory.witness_path} is missing: what this member has acknowledged is not known"
        )
    if lost:
        if not accept_loss:
            raise recovery.damaged(lost)
        log.warning("accepting lost data: --force-new-cluster", extra={"detail": lost})
    return Past(promise, started, lost, log_is_unreadable)


def _promise(directory: DataDir) -> Promise | None:
    try:
        with closing(Witness.open(directory.witness_path)) as witness:
            return witness.promise
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise Corrupt(f"{directory.witness_path} cannot be read: {exc.strerror}") from exc


def _look_at_state(state_path: Path) -> recovery.Found:
    """Read what is there; nothing is written."""
    options = RocksOptions.state(8 << 20)
    with closing(RocksBackend.open_read_only(state_path, STATE_FAMILIES, options)) as state:
        applied = read_position(state)
    return recovery.Found(
        LogMeta.none(), 1, 0, 0, None, applied.index, applied.term, applied_in_log=None
    )


def _look_at_log(
    directory: DataDir, state_path: Path, promise: Promise | None, found: recovery.Found
) -> recovery.Found:
    """The same; raises Corrupt when the log cannot be read at all."""
    if not Wal.exists(directory.log_path):
        return found
    with closing(Wal.open_read_only(directory.log_path, LOG_FAMILIES)) as logs:
        meta = LogMeta.read(logs)
        first_index = first_position(logs, meta)
        last_index, last_term = last_position(logs, meta)
        installing = meta.installing
        if installing is not None and installing.directory == state_path.name:
            # The start finishes it: what the log still holds does not count any more.
            index, term = installing.index, installing.term
            meta = replace(meta, truncated_index=index, truncated_term=term, state_durable=index)
            first_index, last_index, last_term = index + 1, index, term
        return replace(
            found,
            meta=meta,
            first_index=first_index,
            last_index=last_index,
            last_term=last_term,
            promised_term=stored_term(logs, promise.last_index) if promise else None,
            applied_in_log=stored_term(logs, found.state_applied),
        )
