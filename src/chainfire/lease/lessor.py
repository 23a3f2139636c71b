"""Grants, renewals and ends of leases, on the replicated clock.

Pure: `clock_ms` is what applied commands brought along (`node.leaseclock`),
and only goes forward. Effects go to the staged rows at once, as in mvcc; what
is kept in memory is what a million leases may cost: one integer each for what
they are called, and the bytes of their rows for what they are, so that a start
need not decode them. Which keys a lease has, only the rows say.

What a renewal does to its lease's row is kept in rows that many leases share
(`lease.renewed`); all else, the hash chain first, knows of a row for each.

A lease lives until it is removed, however long ago its deadline was: whoever
removes it for that reason asks `is_overdue` in the same step.

Two things here belong to this member alone and are in no row: `look` finds
leases whose time is up, `overdue` tells which. Every member looks, leader or
not, so that a new leader need not begin with it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from typing import Final

from chainfire.errors import Damaged, InvalidArgument, LeaseExists
from chainfire.lease import rows
from chainfire.lease.deadlines import Deadlines
from chainfire.lease.renewed import Renewed
from chainfire.lease.spare import ANSWER_MS, deadline_ms, spare_ms
from chainfire.storage.backend import Reader, Writer
from chainfire.storage.staged import Staged
from chainfire.types import LeaseMove

TTL_MS_MAX: Final = 9_000_000_000_000  # etcd's limit, in ms
LOOKED_AT_MAX: Final = 20_000  # leases per `look`: about 10 ms
UNWRITTEN: Final = -1  # in the place of a TTL: a renewal that needs a row
_READ_TOGETHER: Final = 500
_LISTED_PER_SLICE: Final = 10_000

# A lease's name: its keyspace and the 64 bits of its id.
_ID_BITS: Final = 64
_ID_MASK: Final = (1 << _ID_BITS) - 1
_SIGN: Final = 1 << (_ID_BITS - 1)


def _name(keyspace: int, lease: int) -> int:
    return keyspace << _ID_BITS | lease & _ID_MASK


def _keyspace_and_id(name: int) -> tuple[int, int]:
    return name >> _ID_BITS, ((name & _ID_MASK) ^ _SIGN) - _SIGN


def _deadline_of(row: bytes) -> int:
    return rows.lease_times(row)[1]


def may_be_granted(lease: int, ttl_ms: int) -> bool:
    """Whether a lease may have this id and this TTL."""
    return lease != 0 and 0 < ttl_ms <= TTL_MS_MAX


@dataclass(slots=True, frozen=True)
class Lease:
    """What a lease was granted, and until when that counts."""

    ttl_ms: int
    deadline_ms: int  # on the replicated clock; as `lease.spare` says

    def left_ms(self, clock_ms: int) -> int:
        """What is left of its TTL, as its holder counts it; at 0 it may live a moment longer."""
        return max(0, self.deadline_ms - spare_ms(self.ttl_ms) - clock_ms)


class _Anew:
    """What leases of one TTL are renewed to."""

    __slots__ = ("ids", "row", "ttl_ms")

    def __init__(self, ttl_ms: int, until_ms: int) -> None:
        self.ttl_ms = ttl_ms
        self.row = rows.encode_lease(ttl_ms, until_ms)
        self.ids: list[int] = []


class Lessor:
    """All leases of all keyspaces, where the replicated clock reads `clock_ms`."""

    __slots__ = ("_deadlines", "_leases", "_overdue", "_renewed", "clock_ms")

    def __init__(self, reader: Reader, counts: Iterable[tuple[int, int]], clock_ms: int) -> None:
        """`counts`: each keyspace and how many leases it has.

        Raises UnknownFormat, Corrupt, Damaged.
        """
        self.clock_ms = clock_ms
        self._leases: dict[int, bytes] = {}  # by name: its row
        self._deadlines = Deadlines()
        self._overdue: dict[int, None] = {}  # names that `look` found, in that order
        self._renewed = Renewed()
        keyspaces: list[int] = []
        for keyspace, count in counts:
            keyspaces.append(keyspace)
            if count:
                self._read(reader, keyspace, count)
        self._renewed.read(reader, keyspaces)
        self._read_renewals()

    def _read(self, reader: Reader, keyspace: int, count: int) -> None:
        leases, base = self._leases, keyspace << _ID_BITS
        before = len(leases)
        found = reader.iterate(rows.FAMILY, *rows.lease_bounds(keyspace))
        while part := list(islice(found, _READ_TOGETHER)):
            values = [value for _, value in part]
            ids, deadlines_ms = rows.ids_and_deadlines([key for key, _ in part], values)
            names = [base | bits for bits in ids] if base else ids
            leases.update(zip(names, values, strict=True))
            self._deadlines.add_all(names, deadlines_ms, self.clock_ms)
        read = len(leases) - before
        if read != count:
            raise Damaged(
                f"state/ holds {read} leases of keyspace {keyspace}, its counter says {count}"
            )

    def _read_renewals(self) -> None:
        """A lease that was granted anew meanwhile has another TTL, or a later deadline."""
        leases = self._leases
        for keyspace, row, ids in self._renewed.each():
            ttl_ms, until_ms = rows.lease_times(row)
            for lease in ids:
                name = _name(keyspace, lease)
                before = leases.get(name)
                if before is None:
                    continue
                known_ttl_ms, known_ms = rows.lease_times(before)
                if known_ttl_ms == ttl_ms and known_ms < until_ms:
                    leases[name] = row

    def __len__(self) -> int:
        return len(self._leases)

    def exists(self, keyspace: int, lease: int) -> bool:
        return _name(keyspace, lease) in self._leases

    def get(self, keyspace: int, lease: int) -> Lease | None:
        row = self._leases.get(_name(keyspace, lease))
        return None if row is None else Lease(*rows.lease_times(row))

    def iterate_keys(self, reader: Reader, keyspace: int, lease: int) -> Iterator[bytes]:
        """The keys that are attached to the lease, in key order."""
        lower, upper = rows.attachment_bounds(keyspace, lease)
        return map(rows.attached_key, reader.keys(rows.FAMILY, lower, upper))

    def ids_steps(self, keyspace: int) -> Generator[None, None, list[int]]:
        """All leases of the keyspace, those that end first first; in slices (node.steps)."""
        names, leases = list(self._leases), self._leases
        runs: list[list[tuple[int, int]]] = []
        for at in range(0, len(names), _LISTED_PER_SLICE):
            part = [n for n in names[at : at + _LISTED_PER_SLICE] if n >> _ID_BITS == keyspace]
            runs.append(
                sorted((_deadline_of(leases[name]), name) for name in part if name in leases)
            )
            yield
        ids: list[int] = []
        for _, name in merge(*runs):
            ids.append(_keyspace_and_id(name)[1])
            if len(ids) % _LISTED_PER_SLICE == 0:
                yield
        return ids

    # ── what commands do: the same on every member ──────────────────────────

    def grant(self, staged: Writer, keyspace: int, lease: int, ttl_ms: int) -> None:
        """Raises LeaseExists, InvalidArgument, with nothing changed. The TTL begins now."""
        if not may_be_granted(lease, ttl_ms):
            raise InvalidArgument(f"no lease can have id {lease} and a TTL of {ttl_ms} ms")
        name = _name(keyspace, lease)
        if name in self._leases:
            raise LeaseExists(f"lease {lease:x}")
        until_ms = deadline_ms(self.clock_ms, ttl_ms)
        row = self._leases[name] = rows.encode_lease(ttl_ms, until_ms)
        staged.put(rows.FAMILY, rows.lease_key(keyspace, lease), row)
        self._deadlines.add(name, until_ms, self.clock_ms)

    def renew(self, staged: Staged, keyspace: int, ids: Sequence[int]) -> list[int]:
        """Let these TTLs begin anew, and return them (ms) in order; 0 = there is no such lease."""
        leases, clock_ms, base = self._leases, self.clock_ms, keyspace << _ID_BITS
        overdue = self._overdue
        ttls_ms: list[int] = []
        anew: dict[bytes, _Anew] = {}  # by the row that was
        by_ttl: dict[int, _Anew] = {}
        for lease in ids:
            name = base | lease & _ID_MASK
            before = leases.get(name)
            if before is None:
                ttls_ms.append(0)
                continue
            to = anew.get(before)
            if to is None:
                ttl_ms = rows.lease_times(before)[0]
                to = by_ttl.get(ttl_ms)
                if to is None:
                    to = by_ttl[ttl_ms] = _Anew(ttl_ms, deadline_ms(clock_ms, ttl_ms))
                anew[before] = to
            ttls_ms.append(to.ttl_ms)
            row = to.row
            if row == before:  # twice in one turn is written once
                continue
            leases[name] = row
            to.ids.append(lease)
            staged.note(rows.FAMILY, rows.lease_key(keyspace, lease), row)
            if name in overdue:
                del overdue[name]
                self._deadlines.add(name, _deadline_of(row), clock_ms)
        written = 0
        for to in by_ttl.values():
            written += self._renewed.write(staged, keyspace, to.row, to.ids)
        # Old rows go faster than new ones come.
        self._renewed.fold(staged, clock_ms, self._row_of, written + 1)
        return ttls_ms

    def _row_of(self, keyspace: int, lease: int) -> bytes | None:
        return self._leases.get(_name(keyspace, lease))

    def is_overdue(self, keyspace: int, lease: int) -> bool:
        """Whether the lease exists and its deadline has come."""
        row = self._leases.get(_name(keyspace, lease))
        return row is not None and _deadline_of(row) <= self.clock_ms

    def remove(self, staged: Writer, keyspace: int, lease: int) -> None:
        """End the lease, which exists; its keys are deleted, and so detached, before."""
        name = _name(keyspace, lease)
        del self._leases[name]
        self._overdue.pop(name, None)
        staged.delete(rows.FAMILY, rows.lease_key(keyspace, lease))

    def move(self, staged: Writer, keyspace: int, moves: Sequence[LeaseMove]) -> None:
        """Keys have changed their lease, in this order."""
        for key, before, after in moves:
            if before:
                staged.delete(rows.FAMILY, rows.attachment_key(keyspace, before, key))
            if after:
                row_key = rows.attachment_key(keyspace, after, key)
                staged.put(rows.FAMILY, row_key, rows.ATTACHED)

    # ── what this member finds out for itself ───────────────────────────────

    def kept(
        self, keyspace: int, ids: Iterable[int], now_ms: int, ahead: dict[int, None]
    ) -> list[int]:
        """TTLs in ms of leases whose deadlines are late enough for a renewal at `now_ms`, in order.

        0 = there is no such lease, UNWRITTEN = the log is to renew it. `ahead` gets those that
        had better be written soon, so that the next renewal finds the same.
        """
        leases, base = self._leases, keyspace << _ID_BITS
        ttls_ms: list[int] = []
        for lease in ids:
            row = leases.get(base | lease & _ID_MASK)
            if row is None:
                ttls_ms.append(0)
                continue
            ttl_ms, until_ms = rows.lease_times(row)
            spare_left_ms = until_ms - now_ms - ttl_ms
            if spare_left_ms < ANSWER_MS:
                ttls_ms.append(UNWRITTEN)
                continue
            if spare_left_ms * 3 < spare_ms(ttl_ms) * 2:
                ahead[lease] = None
            ttls_ms.append(ttl_ms)
        return ttls_ms

    def look(self, now_ms: int) -> None:
        """Find leases whose deadline is not after `now_ms`; a large crowd takes several calls."""
        leases = self._leases
        for name in self._deadlines.take(now_ms, LOOKED_AT_MAX):
            row = leases.get(name)
            if row is None:
                continue
            deadline_ms = _deadline_of(row)
            if deadline_ms <= now_ms:
                self._overdue[name] = None
            else:
                self._deadlines.add(name, deadline_ms, now_ms)

    @property
    def overdue_count(self) -> int:
        """How many `look` has found that were neither removed nor renewed since."""
        return len(self._overdue)

    def overdue(self, now_ms: int, count_max: int) -> tuple[int, list[int]]:
        """A keyspace, and leases of it that `look` found and that still exist.

        `now_ms` as for `look`; but it may have gone back since, where another member leads.
        """
        leases = self._leases
        pairs = [
            _keyspace_and_id(name)
            for name in islice(self._overdue, count_max)
            if _deadline_of(leases[name]) <= now_ms
        ]
        keyspace = pairs[0][0] if pairs else 0
        return keyspace, [lease for owner, lease in pairs if owner == keyspace]
