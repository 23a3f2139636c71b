"""What a start writes before anything else runs: the first rows of a directory, and its number.

A directory begins in this order, durably at each step: state/, CURRENT, log/, the witness, start
number 1. Until that number is counted nothing was promised to anybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from chainfire.machine import Machine, bootstrap
from chainfire.node.logstore import (
    Identity,
    LogMeta,
    LogStore,
    first_position,
    last_position,
    stored_term,
    write_empty_log,
    write_hard_state,
    write_identity,
    write_start_number,
    write_state_durable,
    write_truncated,
)
from chainfire.node.registry import write_admitted
from chainfire.proto.cluster_pb2 import Member
from chainfire.storage.backend import STATE_FAMILIES, LogBackend
from chainfire.storage.datadir import DataDir
from chainfire.storage.rocks import RocksBackend, RocksOptions
from chainfire.storage.witness import Promise, Witness
from chainfire.types import ConfState, HardState
from chainfire.version import CLUSTER_VERSION


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


def found_state(directory: DataDir, birth: Birth) -> Path:
    """The first state directory of a new member."""
    directory.remove_leftovers()
    path = directory.next_state_path()
    with closing(RocksBackend(path, STATE_FAMILIES, RocksOptions.state(8 << 20))) as backend:
        bootstrap(
            backend,
            birth.members,
            birth.conf_state,
            CLUSTER_VERSION,
            founded_at=birth.founded_at,
        )
    directory.switch(path)
    return path


def begin_log(
    backend: LogBackend, identity: Identity, machine: Machine, promise: Promise | None
) -> None:
    """A new member's log; or, after a loss was accepted, one that state/ can follow on."""
    meta = LogMeta.read(backend)
    batch = backend.batch()
    write_identity(batch, identity)
    if machine.conf_state == ConfState(voters=(identity.member_id,)):
        write_admitted(batch)  # a sole voter asks nobody
    last, _ = last_position(backend, meta)
    index, term = machine.applied_index, machine.applied_term
    is_whole = first_position(backend, meta) <= meta.truncated_index + 1
    if is_whole and index == meta.truncated_index:
        follows = term == meta.truncated_term
    else:
        follows = meta.truncated_index < index <= last and stored_term(backend, index) == term
    if not follows:
        write_empty_log(batch, index, term)
        last = index
    elif not is_whole:
        write_truncated(batch, index, term)  # what is missing is in state/
    # state/ was opened: what it recovered is in its files. Of the log's commit index nothing is
    # known after a loss but what is applied; terms never go back.
    write_state_durable(batch, index)
    terms = (meta.hard_state.term, term, promise.term if promise is not None else 0)
    write_hard_state(batch, HardState(max(terms), 0, min(max(meta.hard_state.commit, index), last)))
    backend.write(batch)
    backend.sync()


def first_promise(identity: Identity, logs: LogStore, earlier: Promise | None) -> Promise:
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


def count_start(backend: LogBackend, machine: Machine, witness: Witness) -> int:
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
