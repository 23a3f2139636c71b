"""Open a member's data directory, or make it; prove first that nothing is missing.

    first start    state/ filled and synced, CURRENT, log/, the witness, start number 1
    later starts   log/ and state/ opened read-only and held against the
                   witness (node.recovery), and only then opened for writing

A start that dies anywhere in the first order is begun anew: until a start
number is counted nothing was promised to anybody, by whatever command line.
`--force-new-cluster` accepts what is left of a lone member: its state/, and
its log as far as it goes on from there. Dying in that is damage as before.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from chainfire.errors import ConfigError, Corrupt, DataDirMismatch, DiskFull
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
    write_hard_state,
    write_identity,
    write_start_number,
    write_state_durable,
)
from chainfire.proto.cluster_pb2 import Member
from chainfire.storage.backend import LOG_FAMILIES, STATE_FAMILIES, StorageBackend
from chainfire.storage.datadir import DataDir
from chainfire.storage.rocks import RocksBackend, RocksOptions
from chainfire.storage.witness import Promise, Witness
from chainfire.types import ConfState, HardState
from chainfire.version import CLUSTER_VERSION

T = TypeVar("T")
# Both directories replay up to 16 MiB of WAL (RocksOptions) into new files, and write a little.
ROOM_TO_OPEN_BYTES = 48 << 20
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
    may_found: bool  # a directory without a past begins a cluster


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


@dataclass(slots=True, frozen=True)
class _Past:
    """What an earlier life has left."""

    promise: Promise | None  # of a witness that can be read
    started: bool  # a start number was counted
    lost: str = ""  # what is missing; --force-new-cluster accepts it


def open_member(settings: OpeningSettings) -> Opened:
    """Raises ConfigError, DataDirLocked, DataDirMismatch, Damaged, Corrupt, UnknownFormat."""
    with ExitStack() as stack:
        directory = stack.enter_context(
            closing(DataDir(settings.data_dir, ballast_bytes=settings.ballast_bytes))
        )
        with_room = _RoomMaker(directory)
        state_path = directory.current()
        past = _Past(None, started=False)
        if state_path is not None:
            past = with_room(_check, directory, state_path, settings)
        if state_path is None or not past.started:
            if not settings.may_found:
                raise ConfigError(
                    f"initial-cluster-state: 'existing', but {settings.data_dir} is new, and "
                    "joining a running cluster is not there yet; give 'new' to begin one"
                )
            state_path = with_room(_found_state, directory, settings)
        for path in directory.remove_leftovers():
            log.info("removed left-over state directory", extra={"path": path.name})
        with_room.ensure()
        log_backend = stack.enter_context(
            closing(with_room(RocksBackend, directory.log_path, LOG_FAMILIES, RocksOptions.log()))
        )
        options = RocksOptions.state(settings.block_cache_bytes)
        state_backend = stack.enter_context(
            closing(with_room(RocksBackend, state_path, STATE_FAMILIES, options))
        )
        machine = Machine(state_backend, cache_bytes=settings.row_cache_bytes)
        _ensure_voter(machine, settings)
        if past.started and not past.lost:
            assert past.promise is not None
            identity = recovery.identity_of(past.promise)
            log_store = LogStore(log_backend, machine.conf_state)
        else:
            incarnation = secrets.randbits(64)
            identity = Identity(settings.cluster_id, settings.member_id, incarnation)
            _begin_log(log_backend, identity, machine, past.promise)
            log_store = LogStore(log_backend, machine.conf_state)
            first = _first_promise(identity, log_store, past.promise)
            Witness.create(directory.witness_path, first).close()
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

    def ensure(self) -> None:
        """Opening writes what it replays: a write that fails may be the engine's last one."""
        if self._directory.free_bytes() < ROOM_TO_OPEN_BYTES and self._directory.release_ballast():
            log.warning("disk nearly full: the ballast was given up to open")

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


def _check(directory: DataDir, state_path: Path, settings: OpeningSettings) -> _Past:
    """What was there before; nothing is written. Raises Damaged for a loss nobody has accepted."""
    promise, lost = None, ""
    try:
        promise = _promise(directory)
    except Corrupt as exc:
        lost = exc.detail
    found = _look(directory, state_path, promise)
    started = bool(
        lost
        or (promise is not None and promise.start_number)
        or found.meta.start_number
        or found.state_applied
    )
    if not started:
        return _Past(promise, started)
    if promise is not None:
        mine = recovery.identity_of(promise)
        expected = replace(mine, cluster_id=settings.cluster_id, member_id=settings.member_id)
        recovery.check_identity(expected, mine)
        lost = "; ".join(recovery.losses(promise, found))
    elif not lost:
        lost = (
            f"{directory.witness_path} is missing: what this member has acknowledged is not known"
        )
    if lost:
        if not settings.force_new_cluster:
            raise recovery.damaged(lost)
        log.warning("accepting lost data: --force-new-cluster", extra={"detail": lost})
    return _Past(promise, started, lost)


def _promise(directory: DataDir) -> Promise | None:
    try:
        with closing(Witness.open(directory.witness_path)) as witness:
            return witness.promise
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise Corrupt(f"{directory.witness_path} cannot be read: {exc.strerror}") from exc


def _look(directory: DataDir, state_path: Path, promise: Promise | None) -> recovery.Found:
    """Read what is there; nothing is written."""
    options = RocksOptions.state(8 << 20)
    with closing(RocksBackend.open_read_only(state_path, STATE_FAMILIES, options)) as state:
        applied = read_position(state)
    found = recovery.Found(
        LogMeta.none(), 0, 0, None, applied.index, applied.term, applied_in_log=None
    )
    if not RocksBackend.exists(directory.log_path):
        return found
    with closing(
        RocksBackend.open_read_only(directory.log_path, LOG_FAMILIES, RocksOptions.log())
    ) as logs:
        meta = LogMeta.read(logs)
        last_index, last_term = last_position(logs, meta)
        return replace(
            found,
            meta=meta,
            last_index=last_index,
            last_term=last_term,
            promised_term=stored_term(logs, promise.last_index) if promise else None,
            applied_in_log=stored_term(logs, applied.index),
        )


def _ensure_voter(machine: Machine, settings: OpeningSettings) -> None:
    """Raises DataDirMismatch: this member would wait for ever for others to elect it."""
    voters = machine.conf_state.voters
    if settings.member_id not in voters:
        raise DataDirMismatch(
            f"the data directory belongs to member {', '.join(f'{id:x}' for id in voters)}, the "
            f"command line describes member {settings.member_id:x}; check --name, "
            "--initial-cluster, --initial-cluster-token and --data-dir"
        )


def _begin_log(
    backend: StorageBackend, identity: Identity, machine: Machine, promise: Promise | None
) -> None:
    """A new member's log; or, after a loss was accepted, one that state/ can follow on."""
    meta = LogMeta.read(backend)
    batch = backend.batch()
    write_identity(batch, identity)
    last, _ = last_position(backend, meta)
    index, term = machine.applied_index, machine.applied_term
    if index == meta.truncated_index:
        follows = term == meta.truncated_term
    else:
        follows = meta.truncated_index < index <= last and stored_term(backend, index) == term
    if not follows:
        write_empty_log(batch, index, term)
        last = index
    # state/ was opened: what it recovered is in its files. Of the log's commit index nothing is
    # known after a loss but what is applied; terms never go back.
    write_state_durable(batch, index)
    terms = (meta.hard_state.term, term, promise.term if promise is not None else 0)
    write_hard_state(batch, HardState(max(terms), 0, min(max(meta.hard_state.commit, index), last)))
    backend.write(batch)
    backend.sync()


def _first_promise(identity: Identity, logs: LogStore, earlier: Promise | None) -> Promise:
    last, hard = logs.last_index(), logs.hard_state
    return Promise(
        cluster_id=identity.cluster_id,
        member_id=identity.member_id,
        incarnation=identity.incarnation,
        start_number=earlier.start_number if earlier is not None else 0,
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
