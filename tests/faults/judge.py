"""Whether a cluster kept its promises: what clients saw against what it says has happened."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from chainfire.proto import lease_pb2
from chainfire.sim.check_kv import check_kv
from chainfire.sim.check_lease import LeaseEnd, check_leases
from chainfire.sim.check_watch import check_watches
from chainfire.sim.history import Revision, Violation
from tests.clusters import Member
from tests.faults.clients import LockHeld, Record

# What no fault of ours may make a member say, but a bug of its own.
_CONFESSIONS: Final = ("state is not", "Traceback (most recent call last)")
LEASE_GRACE_SECONDS: Final = 20  # a second, a change of leader, and a busy machine
_NANOSECONDS: Final = 1_000_000_000


def judge(
    record: Record, revisions: Sequence[Revision], members: Sequence[Member], *, rate_max: float
) -> int:
    """How many events of watches were checked. Raises Violation.

    `rate_max`: how much faster than the true time the fastest clock of a member ran.
    """
    history = record.history
    check_kv(history.operations, revisions)
    events = check_watches(history.watches, revisions)
    check_locks(record.locks, revisions)
    revoked = {call.lease for call in history.leases if not call.ttl}
    ends = [LeaseEnd(lease, at, lease in revoked) for lease, at in record.lease_keys_gone.items()]
    now = time.monotonic_ns()
    check_leases(
        history.leases,
        ends,
        now=now,
        grace=LEASE_GRACE_SECONDS * _NANOSECONDS,
        rate_max=rate_max,
        alive=leases(members[0]),
    )
    return events


def leases(member: Member) -> list[int]:
    """All that the cluster has."""
    reply = member.call(
        "Lease/LeaseLeases", lease_pb2.LeaseLeasesRequest(), lease_pb2.LeaseLeasesResponse
    )
    return [lease.ID for lease in reply.leases]


def check_locks(locks: Sequence[LockHeld], revisions: Sequence[Revision]) -> None:
    """Whoever was told that a lock is theirs was first in its line at that revision."""
    told: dict[int, list[LockHeld]] = {}
    for lock in locks:
        told.setdefault(lock.revision, []).append(lock)
    lines: dict[bytes, dict[bytes, int]] = {}  # prefix -> key -> create revision
    for revision in revisions:
        for kv, deleted in revision.changes:
            line = lines.setdefault(kv.key.rpartition(b"/")[0], {})
            if deleted:
                line.pop(kv.key, None)
            else:
                line[kv.key] = kv.create
        for lock in told.pop(revision.main, ()):
            line = lines.get(lock.prefix, {})
            first = min(line, key=line.__getitem__, default=None)
            if first != lock.key:
                raise Violation(f"{lock} was told so while {first!r} was first")
    if told:
        raise Violation(f"locks were held at revisions that never were: {told}")


def confession(members: Sequence[Member]) -> str:
    """The first line of a member's log that tells of a bug, or nothing.

    A member that does not hold what the majority holds may have healed since.
    """
    for member in members:
        for line in member.log_path.read_text(errors="replace").splitlines():
            if any(words in line for words in _CONFESSIONS):
                return f"{member.name} says: {line}"
    return ""
