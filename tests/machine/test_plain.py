"""The codec of plain puts writes what the general way writes, byte for byte."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainfire.command import stamp
from chainfire.machine import Machine
from chainfire.proto.command_pb2 import Command, LeaseGrant
from chainfire.proto.kv_pb2 import DeleteRangeRequest, PutRequest
from chainfire.proto.maintenance_pb2 import AlarmRequest, AlarmType
from chainfire.storage.memory import MemoryBackend
from chainfire.types import Entry
from tests import report
from tests.machine.test_determinism import logs
from tests.machine.world import as_log, bootstrapped, comparable, encode, opened, rows_of

native = pytest.importorskip("chainfire_native", reason="chainfire-native is not installed")
if not hasattr(native, "put_rows"):
    pytest.skip("this chainfire-native is older than the codec", allow_module_level=True)

KEYS = st.one_of(st.sampled_from([b"a", b"a\0", b"\0\xff", b"b"]), st.binary(max_size=200))
STAMPS = st.one_of(  # of the leader, behind what was forwarded
    st.just(b""), st.builds(stamp, st.integers(1, 1 << 40), st.integers(0, 1 << 40))
)
VALUES = st.one_of(st.binary(max_size=20), st.integers(0, 20_000).map(bytes))


@st.composite
def mostly_plain(draw: st.DrawFn) -> list[Entry]:
    commands = []
    for sequence in range(1, draw(st.integers(1, 30))):
        body = draw(
            st.one_of(
                st.builds(PutRequest, key=KEYS, value=VALUES),
                st.builds(PutRequest, key=KEYS, value=VALUES),
                st.builds(
                    PutRequest, key=KEYS, lease=st.sampled_from([0, 7]), prev_kv=st.booleans()
                ),
                st.builds(DeleteRangeRequest, key=KEYS, range_end=st.just(b"\0")),
                st.just(LeaseGrant(id=7, ttl_ms=9000)),
            )
        )
        keyspace = draw(st.sampled_from([0, 0, 0, 0, 3]))
        clock_ms = draw(st.integers(0, 1 << 40))
        command = encode(body, sequence, clock_ms=clock_ms, keyspace=keyspace)
        commands.append(command + draw(STAMPS))
    return as_log(commands, term=draw(st.integers(1, 1 << 40)))


def without_codec(backend: MemoryBackend) -> Machine:
    machine = opened(backend)
    machine._plain_puts.parse = lambda data: None
    return machine


@settings(deadline=None, max_examples=200)
@given(st.one_of(mostly_plain(), logs()), st.booleans())
def test_with_and_without_the_codec_a_log_leaves_the_same(log: list[Entry], at_once: bool) -> None:
    backends = bootstrapped(), bootstrapped()
    one, two = opened(backends[0]), without_codec(backends[1])
    pieces = [log] if at_once else [[entry] for entry in log]
    for piece in pieces:
        assert comparable(one.apply(piece)) == comparable(two.apply(piece))
    assert rows_of(backends[0]) == rows_of(backends[1])
    assert [one.hash_at(entry.index) for entry in log] == [
        two.hash_at(entry.index) for entry in log
    ]
    assert one.statistics() == two.statistics()
    report.count("log entries applied with and without the codec", len(log))


@given(st.builds(PutRequest, key=KEYS, value=VALUES), st.integers(1, (1 << 64) - 1), st.data())
def test_what_is_read_as_a_plain_put_is_what_protobuf_reads(
    put: PutRequest, sequence: int, data: st.DataObject
) -> None:
    command = encode(put, sequence, sender=data.draw(st.integers(1, (1 << 64) - 1)))
    command += data.draw(STAMPS)
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(command) - 1))
        command = command[:at] + bytes([data.draw(st.integers(0, 255))]) + command[at + 1 :]
    parsed = native.parse_put(command)
    if parsed is None:
        return
    message = Command.FromString(command)
    assert message.format == 1
    assert message.WhichOneof("body") == "put"
    assert parsed == (
        message.member_id,
        message.start_number,
        message.sequence,
        message.lowest_unsettled,
        message.leader_clock_ms,
        message.put.key,
    )
    plain = PutRequest(key=message.put.key, value=message.put.value)
    assert message.put == plain
    assert (message.keyspace, message.user, message.auth_revision) == (0, "", 0)


@pytest.mark.parametrize("behind", [b"", stamp(3, 9)])
def test_plain_puts_do_take_the_short_way(behind: bytes) -> None:
    machine = opened(bootstrapped())
    log = as_log([encode(PutRequest(key=b"k", value=b"v"), n) + behind for n in range(1, 11)])
    machine.apply(log[:1])  # its sender is not known before
    general = machine._decode_command
    machine._decode_command = None  # type: ignore[assignment, method-assign]
    machine.apply(log[1:])
    machine._decode_command = general  # type: ignore[method-assign]
    assert machine.revision == 11


def test_while_an_alarm_is_on_puts_are_refused_as_ever() -> None:
    machine = opened(bootstrapped())
    alarm = AlarmRequest(action=AlarmRequest.ACTIVATE, memberID=1, alarm=AlarmType.NOSPACE)
    log = as_log(
        [encode(PutRequest(key=b"k"), 1), encode(alarm, 2), encode(PutRequest(key=b"k"), 3)]
    )
    machine.apply(log)
    assert machine.revision == 2
    assert machine.statistics().refused_commands == 1
