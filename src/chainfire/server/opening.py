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
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from chainfire.errors import (
    ConfigError,
    Corrupt,
    Damaged,
    DataDirMismatch,
    DiskFull,
    FatalError,
)
from chainfire.machine import Machine, force_alone
from chainfire.node import recovery
from chainfire.node.logstore import (
    Identity,
    LogMeta,
    LogStore,
    drop_conf_changes,
    write_hard_state,
    write_installed,
    write_not_installing,
)
from chainfire.node.peering import removed
from chainfire.node.registry import has_lost_data
from chainfire.node.roster import Roster
from chainfire.server import rejoining
from chainfire.server.founding import Birth, begin_log, count_start, first_promise, found_state
from chainfire.server.opened import Opened
from chainfire.server.past import Past, look_back
from chainfire.storage.backend import LOG_FAMILIES, STATE_FAMILIES, LogBackend, StorageBackend
from chainfire.storage.datadir import DataDir
from chainfire.storage.rocks import RocksBackend, RocksOptions
from chainfire.storage.wal import Wal
from chainfire.storage.witness import Witness
from chainfire.types import ConfState, HardState

T = TypeVar("T")
# state/ replays up to 16 MiB of WAL (RocksOptions) into new files, log/ wants a file of 4 MiB, and
# both write a little.
ROOM_TO_OPEN_BYTES = 48 << 20
log = logging.getLogger(__name__)


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
        founders = Roster(birth.cluster_id, 0, birth.conf_state, tuple(birth.members))
    with closing(DataDir(settings.data_dir, ballast_bytes=settings.ballast_bytes)) as directory:
        rejoin = rejoining.find(directory, founders, str(loss))
        if rejoin is None:
            return False
        if settings.is_founder and birth is not None:
            expected = Identity(birth.cluster_id, birth.member_id, 0)
            recovery.check_identity(expected, rejoin.identity, birth.conf_state.voters)
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
        past = Past(None, started=False)
        if state_path is not None:
            founder = settings.birth if settings.is_founder else None
            look = partial(look_back, accept_loss=settings.force_new_cluster)
            past = with_room(look, directory, state_path, founder)
        if state_path is None or not past.started:
            if settings.birth is None:
                raise ConfigError(
                    f"initial-cluster-state: 'existing', but {settings.data_dir} is new, and no "
                    "member of the cluster could be asked; give 'new' to begin one"
                )
            state_path = with_room(found_state, directory, settings.birth)
        for path in directory.remove_leftovers():
            log.info("removed left-over state directory", extra={"path": path.name})
        with_room.ensure()
        if past.log_is_unreadable:
            log.warning("log/ was put aside", extra={"path": directory.put_log_aside().name})
        log_backend = stack.enter_context(closing(with_room(Wal, directory.log_path, LOG_FAMILIES)))
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
            begin_log(log_backend, identity, machine, past.promise)
            log_store = LogStore(log_backend, machine.conf_state)
            first = first_promise(identity, log_store, past.promise)
            Witness.create(directory.witness_path, first).close()
        witness = stack.enter_context(closing(Witness.open(directory.witness_path)))
        start_number = count_start(log_backend, machine, witness)
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


def _finish_install(backend: LogBackend, state_path: Path) -> None:
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


def _ensure_may_go_on(backend: LogBackend, settings: OpeningSettings) -> None:
    if settings.force_new_cluster and has_lost_data(backend):
        raise Damaged(
            "this directory is empty and waits for what the other members hold: it is no "
            "beginning for a new cluster. What it held was put aside in damaged-*: to accept the "
            "loss, bring the newest of them back to its place"
        )


def _new_identity(settings: OpeningSettings, machine: Machine, past: Past) -> Identity:
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
    logs: LogBackend,
    member_id: int,
    settings: OpeningSettings,
) -> Machine:
    """--force-new-cluster: the configuration is this member alone, whatever the log still says."""
    if machine.conf_state == ConfState(voters=(member_id,)):
        return machine
    force_alone(state, member_id)
    state.sync()
    dropped = drop_conf_changes(logs, machine.applied_index)
    log.warning(
        "going on as a cluster of this member alone: --force-new-cluster",
        extra={"member": f"{member_id:x}", "dropped_changes": dropped},
    )
    return Machine(state, cache_bytes=settings.row_cache_bytes)
