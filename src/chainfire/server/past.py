"""What earlier lives have left in a data directory, held against what they had promised.

log/ and state/ are opened read-only and held against the witness (`node.recovery`); whoever opens
them for writing has asked here first.
"""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from chainfire.errors import Corrupt, UnknownFormat
from chainfire.machine.rows import Position, read_position
from chainfire.node import recovery
from chainfire.node.logstore import Identity
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
    applied = _applied(state_path)
    found, log_is_unreadable = recovery.without_log(applied), False
    try:
        found = _look_at_log(directory, state_path, promise, applied)
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


def _applied(state_path: Path) -> Position:
    options = RocksOptions.state(8 << 20)
    with closing(RocksBackend.open_read_only(state_path, STATE_FAMILIES, options)) as state:
        return read_position(state)


def _look_at_log(
    directory: DataDir, state_path: Path, promise: Promise | None, applied: Position
) -> recovery.Found:
    """Raises Corrupt when it cannot be read at all."""
    if not Wal.exists(directory.log_path):
        return recovery.without_log(applied)
    with closing(Wal.open_read_only(directory.log_path, LOG_FAMILIES)) as backend:
        return recovery.look(backend, promise, applied, state_path.name)
