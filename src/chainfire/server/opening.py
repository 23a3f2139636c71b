"""Open a member's data directory, or make it; prove first that nothing is missing.

    first start    state/ filled and synced, CURRENT, log/, the witness
    later starts   log/ and state/ opened read-only and held against the
                   witness (node.recovery), and only then opened for writing

A start that dies anywhere in the first order is taken up again: nothing was
acknowledged yet. `--force-new-cluster` accepts what is left of a lone member.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from chainfire.errors import Corrupt, Damaged, DiskFull
from chainfire.machine import Machine
from chainfire.machine.rows import read_position
from chainfire.node import recovery
from chainfire.node.logstore import (
    Identity,
    LogMeta,
    LogStore,
    last_position,
    stored_term,
    write_empty_log,
    write_identity,
    write_start_number,
)
from chainfire.proto.cluster_pb2 import Member
from chainfire.storage.backend import LOG_FAMILIES, STATE_FAMILIES, StorageBackend
from chainfire.storage.datadir import DataDir
from chainfire.storage.rocks import RocksBackend, RocksOptions
from chainfire.storage.witness import Promise, Witness
from chainfire.types import ConfState
from chainfire.version import CLUSTER_VERSION

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(slots=True, frozen=True, kw_only=True)
class OpeningSettings:
    data_dir: Path
    ballast_bytes: int
    block_cache_bytes: int
    row_cache_bytes: int
    cluster_id: int
    member_id: int
    members: Sequence[Member]  # the cluster's first members
    force_new_cluster: bool


@dataclass(slots=True)
class Opened:
    """Everything on disk of a member that runs. `close` after the node has stopped."""

    directory: DataDir
    witness: Witness
    log_backend: StorageBackend
    state_backend: StorageBackend
    machine: Machine
    log: LogStore
    identity: Identity
    start_number: int
    resources: ExitStack

    def free_bytes(self) -> int:
        return self.directory.free_bytes()

    def fsync_witness(self) -> None:
        self.witness.fsync()

    def close(self) -> None:
        self.resources.close()


def open_member(settings: OpeningSettings) -> Opened:
    """Raises ConfigError, DataDirLocked, DataDirMismatch, Damaged, Corrupt, UnknownFormat."""
    with ExitStack() as stack:
        directory = stack.enter_context(
            closing(DataDir(settings.data_dir, ballast_bytes=settings.ballast_bytes))
        )
        with_room = _RoomMaker(directory)
        state_path = directory.current() or with_room(_found_state, directory, settings)
        for path in directory.remove_leftovers():
            log.info("removed left-over state directory", extra={"path": path.name})
        promise = _check(directory, state_path, settings)
        log_backend = stack.enter_context(
            closing(with_room(RocksBackend, directory.log_path, LOG_FAMILIES, RocksOptions.log()))
        )
        options = RocksOptions.state(settings.block_cache_bytes)
        state_backend = stack.enter_context(
            closing(with_room(RocksBackend, state_path, STATE_FAMILIES, options))
        )
        machine = Machine(state_backend, cache_bytes=settings.row_cache_bytes)
        identity = Identity(
            settings.cluster_id,
            settings.member_id,
            promise.incarnation if promise else secrets.randbits(64),
        )
        if promise is None:
            _begin_log(log_backend, identity, machine)
        log_store = LogStore(log_backend, machine.conf_state)
        if promise is None:
            Witness.create(directory.witness_path, _first_promise(identity, log_store)).close()
        witness = stack.enter_context(closing(Witness.open(directory.witness_path)))
        start_number = _count_start(log_backend, machine, witness)
        if not directory.ensure_ballast():
            log.warning("disk nearly full: no room for the ballast", extra={"path": "ballast"})
        return Opened(
            directory,
            witness,
            log_backend,
            state_backend,
            machine,
            log_store,
            identity,
            start_number,
            stack.pop_all(),
        )


class _RoomMaker:
    """Try again without the ballast where a full disk stands in the way."""

    def __init__(self, directory: DataDir) -> None:
        self._directory = directory

    def __call__(self, opening: Callable[..., T], *args: object) -> T:
        try:
            return opening(*args)
        except DiskFull:
            if not self._directory.release_ballast():
                raise
            log.warning("disk full: the ballast was given up to open", extra={"path": "ballast"})
            return opening(*args)


def _found_state(directory: DataDir, settings: OpeningSettings) -> Path:
    """The first state directory of a new member."""
    directory.remove_leftovers()
    path = directory.next_state_path()
    options = RocksOptions.state(settings.block_cache_bytes)
    with closing(RocksBackend(path, STATE_FAMILIES, options)) as backend:
        voters = tuple(member.ID for member in settings.members)
        Machine.bootstrap(backend, settings.members, ConfState(voters=voters), CLUSTER_VERSION)
    directory.switch(path)
    return path


def _check(directory: DataDir, state_path: Path, settings: OpeningSettings) -> Promise | None:
    """What the witness promises, after it was found kept. None: this member has never started."""
    try:
        promise = _promise(directory)
    except Corrupt as exc:
        if not settings.force_new_cluster:
            raise Damaged(f"{exc.detail}. {recovery.ADVICE}") from exc
        promise = None
    if promise is not None:
        mine = recovery.identity_of(promise)
        expected = replace(mine, cluster_id=settings.cluster_id, member_id=settings.member_id)
        recovery.check_identity(expected, mine)
    try:
        found = _look(directory, state_path, promise)
        if promise is None:
            if found.meta.start_number == 0 and found.state_applied == 0:
                return None
            raise Damaged(
                f"{directory.witness_path} is missing: what this member has acknowledged is not "
                f"known. {recovery.ADVICE}"
            )
        recovery.ensure_nothing_lost(promise, found)
    except Damaged as exc:
        if not settings.force_new_cluster:
            raise
        log.warning("accepting lost data: --force-new-cluster", extra={"detail": exc.detail})
        return None
    return promise


def _promise(directory: DataDir) -> Promise | None:
    try:
        with closing(Witness.open(directory.witness_path)) as witness:
            return witness.promise
    except FileNotFoundError:
        return None


def _look(directory: DataDir, state_path: Path, promise: Promise | None) -> recovery.Found:
    """Read what is there; nothing is written."""
    options = RocksOptions.state(8 << 20)
    with closing(RocksBackend.open_read_only(state_path, STATE_FAMILIES, options)) as state:
        applied = read_position(state).index
    if not RocksBackend.exists(directory.log_path):
        if promise is not None:
            raise Damaged(f"{directory.log_path} is empty or missing. {recovery.ADVICE}")
        return recovery.Found(LogMeta.none(), 0, 0, None, applied)
    with closing(
        RocksBackend.open_read_only(directory.log_path, LOG_FAMILIES, RocksOptions.log())
    ) as logs:
        meta = LogMeta.read(logs)
        last_index, last_term = last_position(logs, meta)
        term = stored_term(logs, promise.last_index) if promise else None
    return recovery.Found(meta, last_index, last_term, term, applied)


def _begin_log(backend: StorageBackend, identity: Identity, machine: Machine) -> None:
    """A new member's log; or, after a loss was accepted, one that state/ can follow on."""
    meta = LogMeta.read(backend)
    batch = backend.batch()
    write_identity(batch, identity)
    reach = last_position(backend, meta)[0]
    if reach < machine.applied_index or meta.truncated_index > machine.applied_index:
        write_empty_log(batch, machine.applied_index, machine.applied_term)
    backend.write(batch)
    backend.sync()


def _first_promise(identity: Identity, logs: LogStore) -> Promise:
    last, hard = logs.last_index(), logs.hard_state
    return Promise(
        cluster_id=identity.cluster_id,
        member_id=identity.member_id,
        incarnation=identity.incarnation,
        start_number=0,
        last_index=last,
        last_term=logs.term(last),
        term=hard.term,
        vote=hard.vote,
    )


def _count_start(backend: StorageBackend, machine: Machine, witness: Witness) -> int:
    """Count this start, durably, above every number anybody here knows."""
    promise = witness.promise
    known = (
        LogMeta.read(backend).start_number,
        promise.start_number,
        machine.start_number(promise.member_id),
    )
    number = max(known) + 1
    batch = backend.batch()
    write_start_number(batch, number)
    backend.write(batch)
    backend.sync()
    witness.begin(number)
    return number
