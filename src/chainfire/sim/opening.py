"""A simulated disk becomes an open member's storage: what `server.opening` does with files.

The same checks in the same order: what the disk holds is held against what
the witness promised before anything is written. After any crash that a disk
can do, nothing may be found missing; a loss that is found is a violation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from chainfire.machine import Machine, bootstrap, rows
from chainfire.machine.rows import read_position
from chainfire.node import recovery
from chainfire.node.admission import is_quorum_without
from chainfire.node.logstore import (
    Identity,
    LogMeta,
    LogStore,
    write_empty_log,
    write_hard_state,
    write_identity,
    write_installed,
    write_not_installing,
    write_start_number,
    write_state_durable,
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


# as in `server.founding`: who joins later has an empty log and can only begin with a snapshot.
FOUNDED_AT = 1


def found_member(disk: Disk, member_id: int, conf: ConfState, incarnation: int) -> None:
    """The first start of one of the cluster's first members; of no voter: of one that joins."""
    founders = (*conf.voters, *conf.learners)
    members = [described(id_) for id_ in founders or (member_id,)]
    founded_at = FOUNDED_AT if founders else 0
    bootstrap(disk.state, members, conf, CLUSTER_VERSION, founded_at=founded_at)
    identity = Identity(CLUSTER_ID, member_id, incarnation)
    batch = disk.log.batch()
    write_identity(batch, identity)
    if founded_at:
        write_empty_log(batch, founded_at, founded_at)
        write_state_durable(batch, founded_at)
    write_hard_state(batch, HardState(founded_at, 0, founded_at))
    disk.log.write(batch)
    disk.log.sync()
    promise = Promise(
        cluster_id=CLUSTER_ID,
        member_id=member_id,
        incarnation=incarnation,
        start_number=0,
        last_index=founded_at,
        last_term=founded_at,
        term=founded_at,
        vote=0,
    )
    disk.witness = SimWitness(disk.power, promise)


def stored_conf(disk: Disk) -> ConfState:
    """The configuration that its state has."""
    return rows.decode_conf_state(rows.required(disk.state, rows.CONF_STATE))


def may_begin_anew(disk: Disk) -> bool:
    """Whether the others are a quorum without the member that has lost this disk."""
    if disk.witness is None or read_position(disk.state).index < FOUNDED_AT:
        return False
    return is_quorum_without({disk.witness.promise.member_id}, stored_conf(disk))


def begin_anew(disk: Disk) -> None:
    """As `server.rejoining`: of the past nothing is known but the members and the witness."""
    witness = disk.witness
    assert witness is not None
    promise = witness.promise
    conf = stored_conf(disk)
    members = list(rows.read_members(disk.state).values())
    disk.replace()
    bootstrap(disk.state, members, conf, CLUSTER_VERSION)
    batch = disk.log.batch()
    write_identity(batch, recovery.identity_of(promise))
    write_start_number(batch, promise.start_number)
    write_hard_state(batch, HardState(promise.term, promise.member_id, 0))
    disk.log.write(batch)
    disk.log.sync()
    anew = replace(promise, last_index=0, last_term=0, vote=promise.member_id)
    disk.witness = SimWitness(disk.power, anew)


def open_member(disk: Disk) -> Opened:
    """Raises Violation when something is missing."""
    witness = disk.witness
    assert witness is not None
    audit(disk, "")
    _finish_install(disk)
    machine = Machine(disk.state, cache_bytes=1 << 16)
    log = LogStore(disk.log, machine.conf_state)
    return Opened(machine, log, witness, _count_start(disk, machine, witness))


def audit(disk: Disk, when: str) -> None:
    """Raises Violation if this disk, as it is, breaks a promise; `when` says what it would be."""
    assert disk.witness is not None
    promise = disk.witness.promise
    found = recovery.look(disk.log, promise, read_position(disk.state), disk.live)
    lost = recovery.losses(promise, found)
    if lost:
        raise Violation(f"member {promise.member_id}{when}: {'; '.join(lost)}")


def _finish_install(disk: Disk) -> None:
    """A life ended while a snapshot took the place of the state."""
    meta = LogMeta.read(disk.log)
    if meta.installing is None:
        return
    index, term = meta.installing.index, meta.installing.term
    batch = disk.log.batch()
    if meta.installing.directory == disk.live:
        hard = meta.hard_state
        write_installed(batch, index, term)
        write_hard_state(batch, HardState(max(hard.term, term), hard.vote, index))
    else:
        write_not_installing(batch)
    disk.log.write(batch)
    disk.log.sync()


def described(member_id: int) -> Member:
    return Member(ID=member_id, peerURLs=[f"http://sim:{member_id}"])


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
