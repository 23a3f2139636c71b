"""For every log: the same rows and hashes, wherever turns, batches and crashes fall.

Logs hold commands of three senders, valid and invalid ones, sent twice, out
of order, by earlier starts, in any interleaving.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from chainfire.errors import Outdated
from chainfire.machine import Machine
from chainfire.machine import machine as machine_module
from chainfire.proto.cluster_pb2 import Member
from chainfire.proto.command_pb2 import (
    ClusterVersionSet,
    CompactionFinished,
    LeaseExpire,
    LeaseGrant,
    LeaseRenew,
)
from chainfire.proto.kv_pb2 import (
    CompactionRequest,
    Compare,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
)
from chainfire.proto.lease_pb2 import LeaseRevokeRequest
from chainfire.proto.maintenance_pb2 import AlarmRequest, AlarmType
from chainfire.storage.memory import MemoryBackend
from chainfire.types import Entry
from tests.machine.world import (
    Rows,
    as_log,
    bootstrapped,
    comparable,
    encode,
    opened,
    rows_of,
)

DATA_FAMILIES = (
    "key_value",
    "key_history",
    "revisions",
    "leases",
    "keyspaces",
    "alarms",
    "members",
)

KEYS = st.sampled_from([b"a", b"a\x00", b"b", b"c", b""])
ENDS = st.sampled_from([b"", b"\x00", b"b", b"c"])
REVISIONS = st.integers(-1, 30)
LEASES = st.sampled_from([5, 6, -7])
PUTS = st.builds(
    PutRequest,
    key=KEYS,
    value=st.binary(max_size=20),
    lease=st.sampled_from([0, 0, 0, 5, 6]),
    prev_kv=st.booleans(),
    ignore_value=st.sampled_from([False, False, False, True]),
    ignore_lease=st.booleans(),
)
DELETES = st.builds(DeleteRangeRequest, key=KEYS, range_end=ENDS, prev_kv=st.booleans())
RANGES = st.builds(RangeRequest, key=KEYS, range_end=ENDS, revision=st.integers(-1, 5))
COMPARES = st.one_of(
    st.builds(Compare, key=KEYS, target=st.just(Compare.VERSION), version=st.integers(0, 2)),
    st.builds(Compare, key=KEYS, range_end=ENDS, target=st.just(Compare.MOD)),
)
OPS: st.SearchStrategy[RequestOp] = st.one_of(
    st.builds(RequestOp, request_put=PUTS),
    st.builds(RequestOp, request_delete_range=DELETES),
    st.builds(RequestOp, request_range=RANGES),
)


def txns(ops: st.SearchStrategy[RequestOp]) -> st.SearchStrategy[TxnRequest]:
    return st.builds(
        TxnRequest,
        compare=st.lists(COMPARES, max_size=2),
        success=st.lists(ops, max_size=3),
        failure=st.lists(ops, max_size=3),
    )


BODIES: st.SearchStrategy[Message] = st.one_of(
    PUTS,
    PUTS,
    PUTS,
    DELETES,
    txns(st.one_of(OPS, st.builds(RequestOp, request_txn=txns(OPS)))),
    st.builds(CompactionRequest, revision=REVISIONS),
    st.builds(CompactionFinished, revision=REVISIONS, freed_bytes=st.integers(-1, 200)),
    st.builds(
        AlarmRequest,
        action=st.sampled_from(list(AlarmRequest.AlarmAction.values())),
        memberID=st.integers(0, 2),
        alarm=st.sampled_from(list(AlarmType.values())),
    ),
    st.builds(LeaseGrant, id=LEASES, ttl_ms=st.sampled_from([1, 20, 1000])),
    st.builds(LeaseGrant, id=st.integers(-1, 5), ttl_ms=st.sampled_from([-1, 0, 50, 2**60])),
    st.builds(LeaseRevokeRequest, ID=LEASES),
    st.builds(LeaseRenew, ids=st.lists(LEASES, max_size=4)),
    st.builds(LeaseExpire, ids=st.lists(LEASES, max_size=4)),
    st.builds(ClusterVersionSet, version=st.sampled_from(["3.7.0", "3.8.0", "x"])),
    st.builds(Member, ID=st.integers(1, 2), name=st.sampled_from(["n", "m"])),
)


@st.composite
def logs(draw: st.DrawFn) -> list[Entry]:
    sent: list[bytes] = []
    commands = []
    for _ in range(draw(st.integers(1, 25))):
        if sent and draw(st.integers(0, 5)) == 0:
            commands.append(draw(st.sampled_from(sent)))  # arrives twice
        elif draw(st.integers(0, 9)) == 0:
            commands.append(b"")  # a leader's first entry
        else:
            data = encode(
                draw(BODIES),
                draw(st.integers(1, 30)),
                sender=draw(st.integers(1, 3)),
                start=draw(st.sampled_from([1, 1, 1, 2])),
                lowest=draw(st.integers(0, 3)),
                clock_ms=draw(st.integers(0, 100)),
                keyspace=draw(st.sampled_from([0, 0, 0, 1])),
            )
            sent.append(data)
            commands.append(data)
    return as_log(commands)


def one_by_one(log: list[Entry]) -> tuple[Machine, MemoryBackend, list[object]]:
    backend = bootstrapped()
    machine = opened(backend)
    return machine, backend, [r for entry in log for r in comparable(machine.apply([entry]))]


@contextmanager
def small_batches(bytes_max: int) -> Iterator[None]:
    usual = machine_module.BATCH_BYTES_MAX
    machine_module.BATCH_BYTES_MAX = bytes_max  # type: ignore[misc]
    try:
        yield
    finally:
        machine_module.BATCH_BYTES_MAX = usual  # type: ignore[misc]


@settings(max_examples=150)
@given(logs(), st.data(), st.sampled_from([1, 300, 4_000_000]))
def test_where_turns_and_batches_are_cut_changes_nothing(
    log: list[Entry], data: st.DataObject, bytes_max: int
) -> None:
    machine, backend, results = one_by_one(log)
    other_backend = bootstrapped()
    other = opened(other_backend)
    other_results: list[object] = []
    at = 0
    with small_batches(bytes_max):
        while at < len(log):
            end = data.draw(st.integers(at + 1, len(log)))
            other_results += comparable(other.apply(log[at:end]))
            at = end
    assert other_results == results
    assert rows_of(other_backend) == rows_of(backend)
    for index in range(len(log) + 1):
        assert other.hash_at(index) == machine.hash_at(index)


@settings(max_examples=150)
@given(logs(), st.data())
def test_a_crash_at_any_batch_border_is_made_good_by_the_log(
    log: list[Entry], data: st.DataObject
) -> None:
    machine, backend, results = one_by_one(log)
    crashing = bootstrapped()
    with small_batches(data.draw(st.sampled_from([1, 300]))):
        opened(crashing).apply(log)
        survivor = crashing.crash(data.draw(st.integers(0, crashing.unsynced_batches)))
        again = opened(survivor)
        applied = again.applied_index
        assert again.hash == machine.hash_at(applied)
        rest = comparable(again.apply(log[applied:]))
    assert rest == [result for result in results if result[0] > applied]  # type: ignore[index]
    assert rows_of(survivor) == rows_of(backend)
    assert again.revision == machine.revision


@settings(max_examples=100)
@given(logs())
def test_void_commands_leave_the_data_as_if_they_had_never_been_sent(log: list[Entry]) -> None:
    _, backend, results = one_by_one(log)
    void = {result[0] for result in results if result[4] is Outdated}  # type: ignore[index]
    without = [Entry(e.term, e.index, data=b"" if e.index in void else e.data) for e in log]
    _, other, _ = one_by_one(without)

    def data(rows: Rows) -> Rows:
        return {family: rows[family] for family in DATA_FAMILIES}

    assert data(rows_of(other)) == data(rows_of(backend))


@settings(max_examples=60)
@given(logs())
def test_every_command_id_is_applied_at_most_once(log: list[Entry]) -> None:
    _, _, results = one_by_one(log)
    ids = [result[1:4] for result in results if result[4] is not Outdated]  # type: ignore[index]
    assert len(ids) == len(set(ids))
