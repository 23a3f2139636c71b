"""A data directory out of a snapshot archive: for a new cluster, each member from the same file.

    unpacked and compared, checksum by checksum     nothing of a bad file is ever opened
    reborn under new members                        machine.rebirth
    CURRENT, log/ that begins behind it, witness    the order of a first start

A restore that fails takes away what it has made; one that dies leaves a
directory that the next one refuses, because it is not empty.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from chainfire.errors import ConfigError
from chainfire.machine import rows
from chainfire.machine.rebirth import be_reborn
from chainfire.machine.rows import Position
from chainfire.node import archive
from chainfire.node.identity import cluster_id, initial_members, member_id
from chainfire.node.logstore import (
    Identity,
    write_empty_log,
    write_hard_state,
    write_identity,
    write_state_durable,
)
from chainfire.node.registry import write_admitted
from chainfire.storage.backend import LOG_FAMILIES, STATE_FAMILIES
from chainfire.storage.datadir import DataDir
from chainfire.storage.rocks import RocksBackend, RocksOptions
from chainfire.storage.wal import Wal
from chainfire.storage.witness import Promise, Witness
from chainfire.types import ConfState, HardState

_OPTIONS = RocksOptions.state(8 << 20)


@dataclass(slots=True, frozen=True)
class ArchiveStatus:
    cluster_id: int
    member_id: int
    version: str
    hash: int  # the end of the hash chain
    revision: int
    total_keys: int
    total_bytes: int


@dataclass(slots=True, frozen=True, kw_only=True)
class RestoreSettings:
    data_dir: Path
    name: str
    initial_cluster: Mapping[str, Sequence[str]]  # name to peer URLs
    initial_cluster_token: str
    bump_revision: int = 0
    mark_compacted: bool = False
    skip_hash_check: bool = False  # of the whole file; each file in it is compared all the same


@dataclass(slots=True, frozen=True)
class Restored:
    cluster_id: int
    member_id: int
    revision: int


def status(path: Path) -> ArchiveStatus:
    """Read all of it. Raises BadArchive, or what opening the state in it raises."""
    with tempfile.TemporaryDirectory(prefix=".snapshot-", dir=path.parent) as made:
        directory = Path(made)
        with path.open("rb") as file:
            head = archive.extract(file, directory)
        with closing(RocksBackend.open_read_only(directory, STATE_FAMILIES, _OPTIONS)) as state:
            position = rows.read_position(state)
            keys = sum(1 for _ in state.keys("key_value"))
    return ArchiveStatus(
        head.cluster_id,
        head.member_id,
        head.version,
        position.hash,
        position.revision,
        keys,
        path.stat().st_size,
    )


def restore(path: Path, settings: RestoreSettings) -> Restored:
    """Make a member's data directory. Raises ConfigError, BadArchive, StorageError."""
    if settings.name not in settings.initial_cluster:
        raise ConfigError(f"initial-cluster: must contain this member, {settings.name!r}")
    members = initial_members(settings.initial_cluster, settings.initial_cluster_token)
    ids = tuple(member.ID for member in members)
    mine = member_id(settings.initial_cluster[settings.name], settings.initial_cluster_token)
    if settings.data_dir.exists() and any(settings.data_dir.iterdir()):
        raise ConfigError(f"data-dir: {settings.data_dir} is not empty; give another one")
    with ExitStack() as stack:
        failed = stack.enter_context(ExitStack())
        failed.callback(shutil.rmtree, settings.data_dir, ignore_errors=True)
        directory = stack.enter_context(closing(DataDir(settings.data_dir)))
        state_path = directory.next_state_path()
        state_path.mkdir(mode=0o700)
        with path.open("rb") as file:
            archive.extract(file, state_path, check_end=not settings.skip_hash_check)
        with closing(RocksBackend(state_path, STATE_FAMILIES, _OPTIONS)) as state:
            position = be_reborn(
                state,
                members,
                ConfState(voters=ids),
                bump_revision=settings.bump_revision,
                mark_compacted=settings.mark_compacted,
            )
            state.sync()
        directory.switch(state_path)
        identity = Identity(cluster_id(ids), mine, secrets.randbits(64))
        _begin(directory, identity, position, is_alone=len(ids) == 1)
        failed.pop_all()
    return Restored(cluster_id(ids), mine, position.revision)


def _begin(directory: DataDir, identity: Identity, position: Position, *, is_alone: bool) -> None:
    """A log that begins behind the state, and a witness that has promised just that."""
    with closing(Wal(directory.log_path, LOG_FAMILIES)) as logs:
        batch = logs.batch()
        write_identity(batch, identity)
        if is_alone:  # a sole voter asks nobody whether it may vote
            write_admitted(batch)
        write_empty_log(batch, position.index, position.term)
        write_state_durable(batch, position.index)
        write_hard_state(batch, HardState(position.term, 0, position.index))
        logs.write(batch)
        logs.sync()
    promise = Promise(
        cluster_id=identity.cluster_id,
        member_id=identity.member_id,
        incarnation=identity.incarnation,
        start_number=0,
        last_index=position.index,
        last_term=position.term,
        term=position.term,
        vote=0,
    )
    Witness.create(directory.witness_path, promise).close()
