"""A simulated disk becomes an open member's storage: what `server.opening` does with files.

The same checks in the same order: what the disk holds is held against what
the witness promised before anything is written. After any crash that a disk
can do, nothing may be found missing; a loss that is found is a violation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chainfire.machine import Machine
from chainfire.machine.rows import read_position
from chainfire.node import recovery
from chainfire.node.logstore import (
    Identity,
    LogMeta,
    LogStore,
    last_position,
    stored_term,
    write_hard_state,
    write_identity,
    write_start_number,
)
from chainfire.proto.cluster_pb2 import Member
from chainfire.sim.disk import Disk, SimWitness
from chainfire.sim.history import Violation
from chainfire.storage.witness import Promise
from chainfire.types import ConfState, HardState
from chainfire.version import CLUSTER_VERSION

CLUSTER_ID = 0xC1


@dataclass(slots=True)
class Opened:
    machine: Machine
    log: LogStore
    witness: SimWitness
    start_number: int


def found_member(disk: Disk, member_id: int, voters: Sequence[int], incarnation: int) -> None:
    """The first start of one of the cluster's first members."""
    members = [Member(ID=id_, peerURLs=[f"http://sim:{id_}"]) for id_ in voters]
    Machine.bootstrap(disk.state, members, ConfState(voters=tuple(voters)), CLUSTER_VERSION)
    identity = Identity(CLUSTER_ID, member_id, incarnation)
    batch = disk.log.batch()
    write_identity(batch, identity)
    write_hard_state(batch, HardState())
    disk.log.write(batch)
    disk.log.sync()
    promise = Promise(
        cluster_id=CLUSTER_ID,
        member_id=member_id,
        incarnation=incarnation,
        start_number=0,
        last_index=0,
        last_term=0,
        term=0,
        vote=0,
    )
    disk.witness = SimWitness(disk.power, promise)


def open_member(disk: Disk) -> Opened:
    """Raises Violation when something is missing."""
    witness = disk.witness
    assert witness is not None
    lost = recovery.losses(witness.promise, _look(disk, witness.promise))
    if lost:
        raise Violation(f"member {witness.promise.member_id}: {'; '.join(lost)}")
    machine = Machine(disk.state, cache_bytes=1 << 16)
    log = LogStore(disk.log, machine.conf_state)
    return Opened(machine, log, witness, _count_start(disk, machine, witness))


def _look(disk: Disk, promise: Promise) -> recovery.Found:
    meta = LogMeta.read(disk.log)
    applied = read_position(disk.state)
    last_index, last_term = last_position(disk.log, meta)
    return recovery.Found(
        meta,
        last_index,
        last_term,
        stored_term(disk.log, promise.last_index),
        applied.index,
        applied.term,
        stored_term(disk.log, applied.index),
    )


def _count_start(disk: Disk, machine: Machine, witness: SimWitness) -> int:
    promise = witness.promise
    known = (
        LogMeta.read(disk.log).start_number,
        promise.start_number,
        machine.start_number(promise.member_id),
    )
    number = max(known) + 1
    batch = disk.log.batch()
    write_start_number(batch, number)
    disk.log.write(batch)
    disk.log.sync()
    witness.begin(number)
    return number
