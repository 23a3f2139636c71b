"""The codec of plain commands writes what the general way writes, byte for byte."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainfire.command import stamp
from chainfire.errors import RequestError
from chainfire.machine import Machine
from chainfire.mvcc.syntax import check_txn
from chainfire.mvcc.txn import is_read_only
from chainfire.proto.command_pb2 import Command, LeaseGrant
from chainfire.proto.kv_pb2 import (
    Compare,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
)
from chainfire.proto.maintenance_pb2 import AlarmRequest, AlarmType
from chainfire.storage.memory import MemoryBackend
from chainfire.types import Entry
from tests import report
from tests.machine.test_determinism import logs
from tests.machine.world import (
    KIND_OF,
    as_log,
    bootstrapped,
    comparable,
    encode,
    oldest_and_youngest,
    opened,
    remember_lines,
    rows_of,
)

native = pytest.importorskip("chainfire_native", reason="chainfire-native is not installed")
if not hasattr(native, "stage_plain"):
    pytest.skip("this chainfire-native is older than the codec", allow_module_level=True)

FEW = st.sampled_from([b"a", b"a\0", b"\0\xff", b"b"])
KEYS = st.one_of(FEW, FEW, st.binary(max_size=200))
VALUES = st.one_of(st.binary(max_size=20), st.integers(0, 20_000).map(bytes))
LEASES = st.sampled_from([0, 0, 0, 7])

plain_puts = st.builds(PutRequest, key=KEYS, value=VALUES)
plain_deletes = st.builds(DeleteRangeRequest, key=KEYS)
numbers = st.one_of(st.integers(0, 6), st.integers(-(1 << 63), (1 << 63) - 1))
compares = st.one_of(
    st.builds(
        Compare,
        result=st.sampled_from(Compare.CompareResult.values()),
        target=st.just(target),
        key=FEW,
        **{field: values},
    )
    for target, field, values in (
        (Compare.VERSION, "version", numbers),
        (Compare.CREATE, "create_revision", numbers),
        (Compare.MOD, "mod_revision", numbers),
        (Compare.VALUE, "value", st.binary(max_size=1)),
        (Compare.LEASE, "lease", numbers),
        (Compare.VERSION, "range_end", st.sampled_from([b"", b"z"])),
        (Compare.MOD, "version", numbers),
    )
)
operations = st.one_of(
    st.builds(RequestOp, request_put=plain_puts),
    st.builds(RequestOp, request_delete_range=plain_deletes),
    st.builds(RequestOp, request_range=st.builds(RangeRequest, key=KEYS)),
    st.builds(RequestOp, request_put=st.builds(PutRequest, key=FEW, lease=LEASES)),
    st.builds(
        RequestOp,
        request_range=st.builds(
            RangeRequest, key=FEW, range_end=st.sampled_from([b"", b"\0"]), limit=st.integers(0, 1)
        ),
    ),
)
branches = st.one_of(st.lists(operations, max_size=3), st.lists(operations, max_size=20))
txns = st.builds(
    TxnRequest, compare=st.lists(compares, max_size=2), success=branches, failure=branches
)


def _plain_txn(
    compare: list[Compare], success: list[RequestOp], failure: list[RequestOp]
) -> TxnRequest:
    """Less what would make it another kind."""
    for branch in (success, failure):
        seen: set[bytes] = set()
        for op in list(branch):
            named = getattr(op, op.WhichOneof("request"))
            if op.HasField("request_put"):
                named.lease = 0
            elif op.HasField("request_range"):
                named.range_end, named.limit = b"", 0
            if not named.key or named.key in seen:
                branch.remove(op)
            elif not op.HasField("request_range"):
                seen.add(named.key)
    plain = [one for one in compare if not one.range_end and one.target != Compare.MOD]
    return TxnRequest(compare=plain, success=success, failure=failure)


few = st.lists(operations, max_size=4)
plain_txns = st.builds(_plain_txn, st.lists(compares, max_size=2), few, few)
bodies = st.one_of(
    plain_puts,
    plain_txns,
    plain_txns,
    plain_deletes,
    txns,
    txns,
    st.builds(PutRequest, key=KEYS, lease=LEASES, prev_kv=st.booleans()),
    st.builds(DeleteRangeRequest, key=FEW, prev_kv=st.booleans()),
    st.builds(DeleteRangeRequest, key=KEYS, range_end=st.just(b"\0")),
    st.just(LeaseGrant(id=7, ttl_ms=9000)),
)


STAMPS = st.one_of(  # of the leader, behind what was forwarded
    st.just(b""), st.builds(stamp, st.integers(1, 1 << 40), st.integers(0, 1 << 40))
)


@st.composite
def mostly_plain(draw: st.DrawFn) -> list[Entry]:
    commands = []
    for sequence in range(1, draw(st.integers(1, 30))):
        keyspace = draw(st.sampled_from([0, 0, 0, 0, 3]))
        clock_ms = draw(st.integers(0, 1 << 40))
        command = encode(draw(bodies), sequence, clock_ms=clock_ms, keyspace=keyspace)
        commands.append(command + draw(STAMPS))
    return as_log(commands, term=draw(st.integers(1, 1 << 40)))


def without_codec(backend: MemoryBackend) -> Machine:
    machine = opened(backend)
    machine._plain.parse = lambda data: None
    return machine


@settings(max_examples=300)
@given(st.one_of(mostly_plain(), mostly_plain(), logs()), st.booleans())
def test_with_and_without_the_codec_a_log_leaves_the_same(log: list[Entry], at_once: bool) -> None:
    backends = bootstrapped(), bootstrapped()
    one, two = opened(backends[0]), without_codec(backends[1])
    one.keeps_changes = two.keeps_changes = True
    remember_lines(one)
    pieces = [log] if at_once else [[entry] for entry in log]
    for piece in pieces:
        oldest_and_youngest(one)
        assert comparable(one.apply(piece)) == comparable(two.apply(piece))
        assert oldest_and_youngest(one) == oldest_and_youngest(two, by_walking=True)
        assert one.take_changes() == two.take_changes()
        for keyspace in (0, 3):
            assert one.store.keyspace(keyspace) == two.store.keyspace(keyspace)
    assert rows_of(backends[0]) == rows_of(backends[1])
    assert [one.hash_at(entry.index) for entry in log] == [
        two.hash_at(entry.index) for entry in log
    ]
    assert one.statistics() == two.statistics()
    plain = [native.parse_plain(entry.data) for entry in log]
    report.count("log entries applied with and without the codec", len(log))
    report.count("of these plain", len(plain) - plain.count(None))


@given(
    st.one_of(plain_puts, plain_deletes, txns, plain_txns), st.integers(1, (1 << 64) - 1), st.data()
)
def test_what_is_read_as_plain_is_what_protobuf_reads(
    body: PutRequest | DeleteRangeRequest | TxnRequest, sequence: int, data: st.DataObject
) -> None:
    command = encode(body, sequence, sender=data.draw(st.integers(1, (1 << 64) - 1)))
    command += data.draw(STAMPS)
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(command) - 1))
        command = command[:at] + bytes([data.draw(st.integers(0, 255))]) + command[at + 1 :]
    parsed = native.parse_plain(command)
    if parsed is None:
        return
    message = Command.FromString(command)
    *of_sender, kind, row_keys = parsed
    assert of_sender == [
        message.member_id,
        message.start_number,
        message.sequence,
        message.lowest_unsettled,
        message.leader_clock_ms,
    ]
    found = getattr(message, message.WhichOneof("body"))
    assert kind == KIND_OF[type(found)]
    rebuilt = _rebuilt(found)
    assert found == rebuilt
    assert (message.format, message.keyspace, message.user, message.auth_revision) == (1, 0, "", 0)
    assert {b"\0\0\0\0" + key for key in _keys(found)} == set(row_keys)
    assert len(set(row_keys)) == len(row_keys)


def _rebuilt(body: PutRequest | DeleteRangeRequest | TxnRequest) -> object:
    """The same from the fields that are plain alone."""
    if isinstance(body, PutRequest):
        return PutRequest(key=body.key, value=body.value)
    if isinstance(body, DeleteRangeRequest):
        return DeleteRangeRequest(key=body.key)
    rebuilt = TxnRequest()
    for compare in body.compare:
        copied = rebuilt.compare.add()
        copied.CopyFrom(compare)
        assert not copied.range_end
        copied.DiscardUnknownFields()
    for ours, theirs in ((rebuilt.success, body.success), (rebuilt.failure, body.failure)):
        for op in theirs:
            if op.HasField("request_put"):
                ours.add(request_put=_rebuilt(op.request_put))  # type: ignore[arg-type]
            elif op.HasField("request_delete_range"):
                ours.add(request_delete_range=_rebuilt(op.request_delete_range))  # type: ignore[arg-type]
            else:
                ours.add(request_range=RangeRequest(key=op.request_range.key))
    return rebuilt


def _keys(body: PutRequest | DeleteRangeRequest | TxnRequest) -> list[bytes]:
    if not isinstance(body, TxnRequest):
        return [body.key]
    operations = [getattr(op, op.WhichOneof("request")) for op in (*body.success, *body.failure)]
    return [named.key for named in (*body.compare, *operations)]


@settings(max_examples=500)
@given(st.one_of(txns, plain_txns), st.integers(0, 20))
def test_a_txn_that_is_said_to_be_plain_passes_the_checks(txn: TxnRequest, max_ops: int) -> None:
    if native.is_plain_txn(txn.SerializeToString(), max_ops):
        check_txn(txn, max_ops)
        assert not is_read_only(txn)
        report.count("plain transactions", 1)
    else:
        try:
            check_txn(txn, max_ops)
        except RequestError:
            report.count("transactions that are refused", 1)


@pytest.mark.parametrize("behind", [b"", stamp(3, 9)])
@pytest.mark.interpreted
def test_plain_commands_do_take_the_short_way(behind: bytes) -> None:
    machine = opened(bootstrapped())
    exists = Compare(result=Compare.GREATER, target=Compare.VERSION, key=b"k", version=0)
    put = PutRequest(key=b"k", value=b"v")
    txn = TxnRequest(compare=[exists], success=[RequestOp(request_put=put)])
    bodies = [put, put, txn, txn, DeleteRangeRequest(key=b"k"), put]
    log = as_log([encode(body, n) + behind for n, body in enumerate(bodies, 1)])
    machine.apply(log[:1])  # its sender is not known before
    machine._decoder.decode_command = None  # type: ignore[assignment, method-assign]
    machine.apply(log[1:])
    assert machine.revision == 7


def test_while_an_alarm_is_on_puts_are_refused_as_ever() -> None:
    machine = opened(bootstrapped())
    alarm = AlarmRequest(action=AlarmRequest.ACTIVATE, memberID=1, alarm=AlarmType.NOSPACE)
    put = PutRequest(key=b"k")
    txn = TxnRequest(success=[RequestOp(request_put=put)])
    bodies = [put, alarm, put, txn, DeleteRangeRequest(key=b"k")]
    machine.apply(as_log([encode(body, n) for n, body in enumerate(bodies, 1)]))
    assert machine.revision == 3
    assert machine.statistics().refused_commands == 2
