"""Open a member's data directory, or make it; prove first that nothing is missing.

    first start    state/ filled and synced, CURRENT, log/, the witness, start number 1
    later starts   log/ and state/ opened read-only and held against the
                   witness (node.recovery), and only then opened for writing

A start that dies anywhere in the first order is begun anew: until a start
number is counted nothing was promised to anybody, by whatever command line.
`--force-new-cluster` accepts what is left of a lone member: its state/, and
its log as far as it goes on from there. Dying in that is damage as before.

What is missing makes a lone member refuse; one whose peers are a quorum begins
anew and takes everything from them (`server.rejoining`), unless `auto_heal` is off.
"""

from __future__ import annotations

import logging
import secrets
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from chainfire.errors import (
    ConfigError,
    Corrupt,
    Damaged,
    DataDirMismatch,
    DiskFull,
    FatalError,
    UnknownFormat,
)
from chainfire.machine import Machine
from chainfire.machine.rows import read_position
from chainfire.node import recovery
from chainfire.node.logstore import (
    Identity,
    LogMeta,
    LogStore,
    drop_conf_changes,
    last_position,
    stored_term,
    write_empty_log,
    write_hard_state,
    write_identity,
    write_installed,
    write_not_installing,
    write_start_number,
    write_state_durable,
)
from chainfire.node.peering import removed
from chainfire.node.registry import has_lost_data, write_admitted
from chainfire.node.roster import Roster
from chainfire.proto.cluster_pb2 import Member
from chainfire.server import rejoining
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
class Birth:
    """What a directory without a past is begun as."""

    cluster_id: int
    member_id: int
    members: Sequence[Member]  # the first ones, or those of the cluster that is joined
    conf_state: ConfState
    founded_at: int  # FOUNDED_AT, or 0 for who joins and waits for a snapshot


# The founders begin behind an entry 1 of term 1 that no log holds. So a member that joins later,
# whose log is empty, can only begin with a snapshot: it does not know the first members.
FOUNDED_AT = 1


@dataclass(slots=True, frozen=True, kw_only=True)
class OpeningSettings:
    data_dir: Path
    ballast_bytes: int
    block_cache_bytes: int
    row_cache_bytes: int
    birth: Birth | None  # None: the directory must have a past
    is_founder: bool  # the command line tells whose directory it is: `birth`'s
    force_new_cluster: bool
    auto_heal: bool


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

    state_options: RocksOptions

    def free_bytes(self) -> int:
        return self.directory.free_bytes()

    def switch_state(self, staged: str) -> None:
        """A snapshot becomes the live state, durably; see `node.installing`."""
        path = self.directory.path / staged
        self.directory.switch(path)
        self.state_backend.reopen(path)
        self.directory.remove_leftovers()

    def discard_state(self, staged: str) -> None:
        shutil.rmtree(self.directory.path / staged)

    def fsync_witness(self) -> None:
        self.witness.fsync()

    def next_checkpoint_path(self) -> Path:
        return self.directory.next_checkpoint_path()

    def close(self) -> None:
        self.resources.close()


@dataclass(slots=True, frozen=True)
class _Past:
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


def open_member(settings: OpeningSettings) -> Opened:
    """Raises ConfigError, DataDirLocked, DataDirMismatch, Damaged, Corrupt, UnknownFormat."""
    try:
        return _open(settings)
    except (Damaged, Corrupt) as exc:
        if (
            settings.force_new_cluster
            or not settings.auto_heal
            or not _may_begin_anew(settings, exc)
        ):
            raise
    return _open(settings)


def _may_begin_anew(settings: OpeningSettings, loss: FatalError) -> bool:
    """Whether the next `_open` puts the directory aside. Raises DataDirMismatch."""
    birth = settings.birth
    founders = None
    if birth is not None:
        founders = Roster(birth.cluster_id, birth.conf_state, tuple(birth.members))
    with closing(DataDir(settings.data_dir, ballast_bytes=settings.ballast_bytes)) as directory:
        rejoin = rejoining.find(directory, founders, str(loss))
        if rejoin is None:
            return False
        if settings.is_founder and birth is not None:
            mine = rejoin.identity
            recovery.check_identity(Identity(birth.cluster_id, birth.member_id, 0), mine)
        rejoining.begin(directory, rejoin)
    return True


def _open(settings: OpeningSettings) -> Opened:
    with ExitStack() as stack:
        directory = stack.enter_context(
            closing(DataDir(settings.data_dir, ballast_bytes=settings.ballast_bytes))
        )
        with_room = _RoomMaker(directory)
        with_room(rejoining.finish, directory)
        state_path = directory.current()
        past = _Past(None, started=False)
        if state_path is not None:
            past = with_room(_check, directory, state_path, settings)
        if state_path is None or not past.started:
            if settings.birth is None:
                raise ConfigError(
                    f"initial-cluster-state: 'existing', but {settings.data_dir} is new, and no "
                    "member of the cluster could be asked; give 'new' to begin one"
                )
            state_path = with_room(_found_state, directory, settings.birth)
        for path in directory.remove_leftovers():
            log.info("removed left-over state directory", extra={"path": path.name})
        with_room.ensure()
        if past.log_is_unreadable:
            log.warning("log/ was put aside", extra={"path": directory.put_log_aside().name})
        log_backend = stack.enter_context(
            closing(with_room(RocksBackend, directory.log_path, LOG_FAMILIES, RocksOptions.log()))
        )
        options = RocksOptions.state(settings.block_cache_bytes)
        state_backend = stack.enter_context(
            closing(with_room(RocksBackend, state_path, STATE_FAMILIES, options))
        )
        _finish_install(log_backend, state_path)
        _ensure_may_go_on(log_backend, settings)
        machine = Machine(state_backend, cache_bytes=settings.row_cache_bytes)
        if past.started and not past.lost:
            assert past.promise is not None
            identity = recovery.identity_of(past.promise)
            _ensure_member(machine, identity.member_id)
            if settings.force_new_cluster:
                machine = _alone(machine, state_backend, log_backend, identity.member_id, settings)
            log_store = LogStore(log_backend, machine.conf_state)
        else:
            identity = _new_identity(settings, machine, past)
            if settings.force_new_cluster:
                machine = _alone(machine, state_backend, log_backend, identity.member_id, settings)
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
            options,
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


def _found_state(directory: DataDir, birth: Birth) -> Path:
    """The first state directory of a new member."""
    directory.remove_leftovers()
    path = directory.next_state_path()
    with closing(RocksBackend(path, STATE_FAMILIES, RocksOptions.state(8 << 20))) as backend:
        Machine.bootstrap(
            backend,
            birth.members,
            birth.conf_state,
            CLUSTER_VERSION,
            founded_at=birth.founded_at,
        )
    directory.switch(path)
    return path


def _check(directory: DataDir, state_path: Path, settings: OpeningSettings) -> _Past:
    """What was there before; nothing is written. Raises Damaged for a loss nobody has accepted."""
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
        if not settings.force_new_cluster:
            raise
        log_is_unreadable = True
        lost = exc.detail
    started = bool(
        lost
        or (promise is not None and promise.start_number)
        or found.meta.start_number
        or found.state_applied > FOUNDED_AT
    )
    if not started:
        return _Past(promise, started)
    if promise is not None and not log_is_unreadable:
        mine, birth = recovery.identity_of(promise), settings.birth
        if settings.is_founder and birth is not None:
            expected = Identity(birth.cluster_id, birth.member_id, mine.incarnation)
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
    return _Past(promise, started, lost, log_is_unreadable)


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
        LogMeta.none(), 0, 0, None, applied.index, applied.term, applied_in_log=None
    )


def _look_at_log(
    directory: DataDir, state_path: Path, promise: Promise | None, found: recovery.Found
) -> recovery.Found:
    """The same; raises Corrupt when the log cannot be read at all."""
    if not RocksBackend.exists(directory.log_path):
        return found
    with closing(
        RocksBackend.open_read_only(directory.log_path, LOG_FAMILIES, RocksOptions.log())
    ) as logs:
        meta = LogMeta.read(logs)
        last_index, last_term = last_position(logs, meta)
        installing = meta.installing
        if installing is not None and installing.directory == state_path.name:
            # The start finishes it: what the log still holds does not count any more.
            index, term = installing.index, installing.term
            meta = replace(meta, truncated_index=index, truncated_term=term, state_durable=index)
            last_index, last_term = index, term
        return replace(
            found,
            meta=meta,
            last_index=last_index,
            last_term=last_term,
            promised_term=stored_term(logs, promise.last_index) if promise else None,
            applied_in_log=stored_term(logs, found.state_applied),
        )


def _finish_install(backend: StorageBackend, state_path: Path) -> None:
    """A life ended between a snapshot's switch and the cut of the log behind it, or before both."""
    meta = LogMeta.read(backend)
    if meta.installing is None:
        return
    index, term = meta.installing.index, meta.installing.term
    batch = backend.batch()
    if meta.installing.directory == state_path.name:
        hard = meta.hard_state
        write_installed(batch, index, term)
        write_hard_state(batch, HardState(max(hard.term, term), hard.vote, index))
        log.info("finished the installation of a snapshot", extra={"index": index})
    else:
        write_not_installing(batch)
    backend.write(batch)
    backend.sync()


def _ensure_may_go_on(backend: StorageBackend, settings: OpeningSettings) -> None:
    if settings.force_new_cluster and has_lost_data(backend):
        raise Damaged(
            "this directory is empty and waits for what the other members hold: it is no "
            "beginning for a new cluster. What it held was put aside in damaged-*: to accept the "
            "loss, bring the newest of them back to its place"
        )


def _new_identity(settings: OpeningSettings, machine: Machine, past: _Past) -> Identity:
    """Of a directory that begins, or goes on after a loss that was accepted."""
    birth = settings.birth
    if birth is not None:
        of = birth.cluster_id, birth.member_id
    elif past.promise is not None:
        of = past.promise.cluster_id, past.promise.member_id
    else:
        raise ConfigError("initial-cluster: whose directory this is, the witness does not tell")
    if past.started:
        _ensure_member(machine, of[1])
    return Identity(*of, secrets.randbits(64))


def _ensure_member(machine: Machine, member_id: int) -> None:
    """Raises Removed, or DataDirMismatch: this member would wait for ever for its cluster."""
    if member_id in machine.removed_members:
        raise removed(member_id)
    if machine.applied_index and member_id not in machine.members:
        raise DataDirMismatch(
            f"the data directory belongs to member "
            f"{', '.join(f'{id:x}' for id in machine.members)}, the "
            f"command line describes member {member_id:x}; check --name, "
            "--initial-cluster, --initial-cluster-token and --data-dir"
        )


def _alone(
    machine: Machine,
    state: StorageBackend,
    logs: StorageBackend,
    member_id: int,
    settings: OpeningSettings,
) -> Machine:
    """--force-new-cluster: the configuration is this member alone, whatever the log still says."""
    if machine.conf_state == ConfState(voters=(member_id,)):
        return machine
    machine.force_alone(member_id)
    state.sync()
    dropped = drop_conf_changes(logs, machine.applied_index)
    log.warning(
        "going on as a cluster of this member alone: --force-new-cluster",
        extra={"member": f"{member_id:x}", "dropped_changes": dropped},
    )
    return Machine(state, cache_bytes=settings.row_cache_bytes)


def _begin_log(
    backend: StorageBackend, identity: Identity, machine: Machine, promise: Promise | None
) -> None:
    """A new member's log; or, after a loss was accepted, one that state/ can follow on."""
    meta = LogMeta.read(backend)
    batch = backend.batch()
    write_identity(batch, identity)
    if machine.conf_state == ConfState(voters=(identity.member_id,)):
        write_admitted(batch)  # a sole voter asks nobody
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
