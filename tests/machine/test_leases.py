"""Leases and keys together: attaching, ending, and who may end whom."""

from __future__ import annotations

from hypothesis import given, settings

from chainfire.errors import (
    CorruptCluster,
    InvalidArgument,
    LeaseExists,
    LeaseNotFound,
    NoSpace,
)
from chainfire.lease.spare import spare_ms
from chainfire.machine import Machine
from chainfire.mvcc import rows
from chainfire.proto.command_pb2 import LeaseExpire, LeaseGrant, LeaseRenew
from chainfire.proto.kv_pb2 import DeleteRangeRequest, KeyValue, PutRequest, RequestOp, TxnRequest
from chainfire.proto.lease_pb2 import LeaseRevokeRequest
from chainfire.proto.maintenance_pb2 import AlarmRequest, AlarmType
from chainfire.storage.memory import MemoryBackend
from chainfire.types import AckResult, Entry, RenewResult
from tests.machine.test_determinism import logs, one_by_one
from tests.machine.world import World, opened

SPARE_MS = spare_ms(1000)


class LeaseWorld(World):
    def grant(self, lease: int = 5, ttl_ms: int = 1000, clock_ms: int = 0) -> object:
        return self.do(LeaseGrant(id=lease, ttl_ms=ttl_ms), clock_ms=clock_ms)

    def put_with(self, key: bytes, lease: int) -> object:
        return self.do(PutRequest(key=key, lease=lease))

    def revoke(self, lease: int = 5) -> object:
        return self.do(LeaseRevokeRequest(ID=lease))

    def renew(self, *leases: int, clock_ms: int = 0) -> object:
        return self.do(LeaseRenew(ids=leases), clock_ms=clock_ms)

    def expire(self, *leases: int, clock_ms: int = 0) -> object:
        return self.do(LeaseExpire(ids=leases), clock_ms=clock_ms)

    def attached(self, lease: int = 5) -> list[bytes]:
        return list(self.machine.leases.iterate_keys(self.backend, 0, lease))

    def live(self) -> list[bytes]:
        return [key[4:] for key, _ in self.backend.iterate("key_value")]

    def last_changes(self, count: int) -> list[tuple[int, int, int, bytes]]:
        """(main, sub, reason, key) of the newest rows of `revisions`."""
        found = [rows.decode_change(*row) for row in self.backend.iterate("revisions")]
        return [(c.main, c.sub, c.reason, c.key) for c in found[-count:]]


# ── grant, revoke ───────────────────────────────────────────────────────────


def test_a_grant_lasts_its_ttl_on_the_replicated_clock() -> None:
    world = LeaseWorld()
    assert world.grant(5, 1000, clock_ms=70) == AckResult(1)
    lease = world.machine.leases.get(0, 5)
    assert lease is not None
    assert (lease.ttl_ms, lease.deadline_ms) == (1000, 1070 + SPARE_MS)
    assert world.machine.store.keyspace(0).leases == 1


def test_a_lease_is_granted_once() -> None:
    world = LeaseWorld()
    world.grant()
    assert type(world.grant()) is LeaseExists
    assert type(world.grant(0)) is InvalidArgument
    assert type(world.grant(6, 0)) is InvalidArgument


def test_a_revoked_lease_takes_its_keys_along_in_one_revision_in_key_order() -> None:
    world = LeaseWorld()
    world.grant()
    for key in (b"c", b"a", b"b"):
        world.put_with(key, 5)
    world.put(b"other")
    assert world.revoke() == AckResult(6)
    assert world.live() == [b"other"]
    assert world.last_changes(3) == [(6, 0, 2, b"a"), (6, 1, 2, b"b"), (6, 2, 2, b"c")]
    assert world.attached() == []
    assert world.machine.store.keyspace(0).leases == 0
    assert type(world.revoke()) is LeaseNotFound


def test_a_lease_without_keys_ends_without_a_revision() -> None:
    world = LeaseWorld()
    world.grant()
    assert world.revoke() == AckResult(1)


def test_leases_of_one_keyspace_are_unknown_in_another() -> None:
    world = LeaseWorld()
    world.grant()
    put = PutRequest(key=b"k", lease=5)
    assert type(world.do(put, keyspace=1)) is LeaseNotFound
    assert world.do(LeaseGrant(id=5, ttl_ms=9), keyspace=1) == AckResult(1)
    world.do(put, keyspace=1)
    world.revoke()
    assert [key[:4] for key, _ in world.backend.iterate("key_value")] == [b"\0\0\0\1"]


# ── attach, detach ──────────────────────────────────────────────────────────


def test_a_put_attaches_moves_keeps_and_detaches() -> None:
    world = LeaseWorld()
    world.grant(5)
    world.grant(6)
    world.put_with(b"k", 5)
    assert world.attached(5) == [b"k"]
    world.put_with(b"k", 6)
    assert (world.attached(5), world.attached(6)) == ([], [b"k"])
    world.do(PutRequest(key=b"k", ignore_lease=True))
    assert world.attached(6) == [b"k"]
    world.put(b"k")
    assert world.attached(6) == []
    world.revoke(6)
    assert world.live() == [b"k"]


def test_a_deleted_key_is_detached_and_comes_back_without_a_lease() -> None:
    world = LeaseWorld()
    world.grant()
    world.put_with(b"k", 5)
    world.delete(b"k")
    assert world.attached() == []
    world.put(b"k")
    world.revoke()
    assert world.live() == [b"k"]


def test_a_transaction_attaches_and_detaches_in_its_order() -> None:
    world = LeaseWorld()
    world.grant(5)
    world.put_with(b"gone", 5)
    world.do(
        TxnRequest(
            success=[
                RequestOp(request_put=PutRequest(key=b"a", lease=5)),
                RequestOp(request_put=PutRequest(key=b"b", lease=5)),
                RequestOp(request_delete_range=DeleteRangeRequest(key=b"gone")),
            ]
        )
    )
    assert world.attached() == [b"a", b"b"]


def test_a_transaction_with_an_unknown_lease_changes_nothing() -> None:
    world = LeaseWorld()
    world.grant(5)
    ops = [
        RequestOp(request_put=PutRequest(key=key, lease=lease))
        for key, lease in ((b"a", 5), (b"b", 9))
    ]
    assert type(world.do(TxnRequest(success=ops))) is LeaseNotFound
    assert (world.live(), world.attached()) == ([], [])


# ── renewal, expiry ─────────────────────────────────────────────────────────


def test_a_renewal_lets_the_ttl_begin_anew_and_names_what_is_gone() -> None:
    world = LeaseWorld()
    world.grant(5, 1000)
    world.grant(6, 2000)
    assert world.renew(6, 9, 5, clock_ms=500) == RenewResult(1, [2000, 0, 1000])
    lease = world.machine.leases.get(0, 5)
    assert lease is not None
    assert lease.deadline_ms == 1500 + SPARE_MS


def test_nobody_ends_a_lease_early() -> None:
    """A leader that was replaced and does not know it took these for expired."""
    world = LeaseWorld()
    world.grant(5, 1000)
    world.put_with(b"k", 5)
    world.expire(5, clock_ms=999 + SPARE_MS)
    assert world.live() == [b"k"]
    world.renew(5, clock_ms=2000)
    world.expire(5, clock_ms=2999 + SPARE_MS)
    assert world.live() == [b"k"]
    world.expire(5, clock_ms=3000 + SPARE_MS)
    assert world.live() == []


def test_the_clock_never_goes_back() -> None:
    world = LeaseWorld()
    world.grant(5, 1000, clock_ms=5000)
    world.grant(6, 1000, clock_ms=10)
    lease = world.machine.leases.get(0, 6)
    assert lease is not None
    assert lease.deadline_ms == 6000 + SPARE_MS
    assert world.machine.leader_clock_ms == 5000


def test_each_expired_lease_has_a_revision_of_its_own() -> None:
    world = LeaseWorld()
    for lease in (5, 6, 7):
        world.grant(lease, 1000 * lease)
    for key, lease in ((b"a", 6), (b"b", 5), (b"c", 6), (b"d", 7)):
        world.put_with(key, lease)
    assert world.expire(6, 5, 7, 99, 6, clock_ms=6900) == AckResult(7)
    assert world.last_changes(3) == [(6, 0, 1, b"a"), (6, 1, 1, b"c"), (7, 0, 1, b"b")]
    assert world.live() == [b"d"]
    assert world.machine.statistics().leases_expired == 2


def test_a_lease_that_has_passed_its_deadline_but_not_ended_can_be_renewed() -> None:
    world = LeaseWorld()
    world.grant(5, 100)
    assert world.renew(5, clock_ms=900) == RenewResult(1, [100])
    world.expire(5, clock_ms=999)
    assert len(world.machine.leases) == 1


# ── alarms, restart, invariants ─────────────────────────────────────────────


def test_a_full_cluster_grants_nothing_and_lets_leases_end() -> None:
    world = LeaseWorld()
    world.grant(5, 100)
    world.alarm(AlarmRequest.ACTIVATE, AlarmType.NOSPACE)
    assert type(world.grant(6)) is NoSpace
    assert world.renew(5) == RenewResult(1, [100])
    world.expire(5, clock_ms=100 + spare_ms(100))
    assert len(world.machine.leases) == 0


def test_a_corrupt_cluster_neither_grants_nor_ends() -> None:
    world = LeaseWorld()
    world.grant(5, 100)
    world.alarm(AlarmRequest.ACTIVATE, AlarmType.CORRUPT)
    assert type(world.grant(6)) is CorruptCluster
    assert type(world.revoke(5)) is CorruptCluster
    assert type(world.expire(5, clock_ms=100)) is CorruptCluster


def test_what_is_left_of_a_ttl_survives_a_restart() -> None:
    world = LeaseWorld()
    world.grant(5, 1000)
    world.put_with(b"k", 5)
    world.expire(clock_ms=700)
    world.machine = opened(world.backend)
    assert world.machine.leader_clock_ms == 700
    world.expire(5, clock_ms=999 + SPARE_MS)
    assert world.live() == [b"k"]
    world.expire(5, clock_ms=1000 + SPARE_MS)
    assert world.live() == []


def consistent(machine: Machine, backend: MemoryBackend) -> None:
    """Rows of leases, of keys and counters say the same."""
    attached = set()
    for row_key, row in backend.iterate("key_value"):
        kv = KeyValue.FromString(row[rows.ROW_HEAD_BYTES :])
        if kv.lease:
            attached.add((int.from_bytes(row_key[:4]), kv.lease, kv.key))
    found, leases = set(), set()
    for row_key, _ in backend.iterate("leases"):
        keyspace, id_ = int.from_bytes(row_key[:4]), int.from_bytes(row_key[5:13], signed=True)
        if row_key[4]:
            found.add((keyspace, id_, row_key[13:]))
        else:
            leases.add((keyspace, id_))
    assert found == attached
    assert {name[:2] for name in attached} <= leases
    assert len(machine.leases) == len(leases)
    for keyspace, state in machine.store.keyspaces.items():
        assert state.leases == sum(owner == keyspace for owner, _ in leases)


@settings(max_examples=200)
@given(logs())
def test_every_key_with_a_lease_is_attached_to_it_and_no_other_is(log: list[Entry]) -> None:
    machine, backend, _ = one_by_one(log)
    consistent(machine, backend)
    consistent(opened(backend), backend)
