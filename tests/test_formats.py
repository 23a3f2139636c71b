"""Golden bytes of docs/formats.md: the replicated machine's rows, commands and the hash chain.

A failure here means that a format changed: it needs a new number, a reader
for the old one, and its page. (Rows of the log and the witness are pinned in
tests/node and tests/storage, those of keys and their history in tests/mvcc.)
"""

from __future__ import annotations

from dataclasses import replace
from zlib import crc32

from xxhash import xxh3_64_intdigest

from chainfire.command import CommandKind, Envelope
from chainfire.lease import rows as lease_rows
from chainfire.machine import rows
from chainfire.machine.chain import HashChain, fold
from chainfire.machine.progress import Progress
from chainfire.machine.rows import Position
from chainfire.machine.sender import Sender
from chainfire.mvcc.state import KeyspaceState, keyspace_key
from chainfire.node.logstore import Identity
from chainfire.node.registry import has_lost_data, members_known_at, write_lost_data
from chainfire.node.roster import Roster, encode_roster
from chainfire.proto.cluster_pb2 import Member
from chainfire.proto.command_pb2 import LeaseExpire, LeaseGrant, LeaseRenew
from chainfire.proto.kv_pb2 import CompactionRequest, DeleteRangeRequest, PutRequest
from chainfire.proto.maintenance_pb2 import AlarmRequest, AlarmType
from chainfire.server import rejoining
from chainfire.server.rejoining import Rejoin
from chainfire.storage import walformat
from chainfire.storage.backend import LOG_FAMILIES
from chainfire.storage.memory import MemoryBackend
from chainfire.types import Alarm, ConfState
from tests.machine.world import World, rows_of


def golden(text: str) -> bytes:
    """Hexadecimal with spaces between fields."""
    return bytes.fromhex(text)


def test_applied() -> None:
    position = Position(index=1, term=2, revision=3, hash=2**64 - 1, leader_clock_ms=5)
    row = golden(
        "01 0000000000000001 0000000000000002 0000000000000003ffffffffffffffff 0000000000000005"
    )
    assert rows.APPLIED == b"applied"
    assert rows.encode_position(position) == row
    assert rows.decode_position(row) == position


def test_cluster_version() -> None:
    assert rows.CLUSTER_VERSION == b"cluster_version"
    assert rows.encode_cluster_version("3.7.0") == b"\x013.7.0"
    assert rows.decode_cluster_version(b"\x013.7.0") == "3.7.0"


def test_conf_state() -> None:
    state = ConfState((1, 2), (3,), (), (2**64 - 1,), auto_leave=True)
    row = golden(
        "01"
        "00000002 0000000000000001 0000000000000002"
        "00000001 0000000000000003"
        "00000000"
        "00000001 ffffffffffffffff"
        "01"
    )
    assert rows.CONF_STATE == b"conf_state"
    assert rows.encode_conf_state(state) == row
    assert rows.decode_conf_state(row) == state
    plain = ConfState((7,))
    row = golden("01 00000001 0000000000000007 00000000 00000000 00000000 00")
    assert rows.encode_conf_state(plain) == row
    assert rows.decode_conf_state(row) == plain


def test_sender() -> None:
    sender = Sender()
    for sequence in (5, 6, 9):
        assert sender.accept(2, sequence, 4)
    row = golden(
        "01 0000000000000002 0000000000000004"
        "00000002"
        "0000000000000005 0000000000000006"
        "0000000000000009 0000000000000009"
    )
    assert rows.sender_key(10) == b"sender" + golden("000000000000000a")
    assert rows.encode_sender(sender) == row
    assert rows.encode_sender(rows.decode_sender(row)) == row


def test_keyspaces() -> None:
    state = KeyspaceState(
        compacted=-1, finished=-1, keys=1, live_bytes=2, history_bytes=3, leases=4, freed_bytes=5
    )
    row = golden(
        "01 ffffffffffffffff ffffffffffffffff 0000000000000001 0000000000000002"
        "0000000000000003 0000000000000004 0000000000000005"
    )
    assert keyspace_key(7) == golden("00000007")
    assert state.encode() == row
    assert KeyspaceState.decode(row) == state


def test_members_and_alarms() -> None:
    member = Member(ID=300, name="n", peerURLs=["p"], clientURLs=["c"], isLearner=True)
    assert rows.member_key(300) == golden("000000000000012c")
    assert rows.encode_member(member) == golden("08ac02 12016e 1a0170 220163 2801")
    assert rows.alarm_key(Alarm(300, 1)) == golden("000000000000012c 01")
    assert rows.encode_alarm() == b"\x01"


def test_command() -> None:
    envelope = Envelope(
        member_id=0x0102030405060708,
        start_number=2,
        lowest_unsettled=3,
        proposing_term=4,
        leader_clock_ms=300,
    )
    body = b"\x0a\x01k\x12\x01v"
    head = golden("0801 10888e98a8c0e0808101 1802 2009 2803 3004 38ac02 820106")
    assert envelope.encode(9, CommandKind.PUT, body) == head + body
    full = envelope.encode(9, CommandKind.ALARM, b"", keyspace=7, user="u", auth_revision=8)
    assert full.endswith(golden("420175 4808 5007 aa0100"))
    assert {kind.name: kind.value for kind in CommandKind} == {
        "PUT": 16,
        "DELETE_RANGE": 17,
        "TXN": 18,
        "COMPACT": 19,
        "COMPACTION_FINISHED": 20,
        "ALARM": 21,
        "CLUSTER_VERSION_SET": 22,
        "MEMBER_ATTRIBUTES_SET": 23,
        "LEASE_GRANT": 24,
        "LEASE_REVOKE": 25,
        "LEASE_RENEW": 26,
        "LEASE_EXPIRE": 27,
    }


def test_bodies_of_lease_commands() -> None:
    assert LeaseGrant(id=-1, ttl_ms=300).SerializeToString() == golden(
        "08ffffffffffffffffff01 10ac02"
    )
    assert LeaseRenew(ids=[1, -1]).SerializeToString() == golden(
        "0a10 0100000000000000 ffffffffffffffff"
    )
    assert LeaseExpire(ids=[2]).SerializeToString() == golden("0a08 0200000000000000")


def test_leases() -> None:
    assert lease_rows.lease_key(7, -2) == golden("00000007 00 fffffffffffffffe")
    row = golden("01 00000000000003e8 0000000000000bb8")
    assert lease_rows.encode_lease(1000, 3000) == row
    assert lease_rows.lease_times(row) == (1000, 3000)
    decoded = lease_rows.ids_and_deadlines([lease_rows.lease_key(7, -2)] * 2, [row] * 2)
    assert decoded == ((2**64 - 2,) * 2, (3000,) * 2)
    key = golden("00000007 01 0000000000000001 6b00")
    assert lease_rows.attachment_key(7, 1, b"k\0") == key
    assert lease_rows.attached_key(key) == b"k\0"
    assert lease_rows.ATTACHED == b"\x01"
    key = golden("00000007 02 0000000000000003")
    assert lease_rows.renewals_key(7, 3) == key
    assert lease_rows.renewals_number(key) == 3
    renewals = row + golden("0000000000000005 fffffffffffffffe")
    assert lease_rows.encode_renewals(row, [5, -2]) == renewals
    assert lease_rows.decode_renewals(renewals) == (row, (5, -2))


def test_rows_of_leases_after_a_few_commands() -> None:
    world = World()
    world.do(LeaseGrant(id=5, ttl_ms=1000), clock_ms=10)
    world.do(PutRequest(key=b"k", value=b"v", lease=5))
    world.do(LeaseRenew(ids=[5, 6]), clock_ms=20)
    assert rows_of(world.backend, ("leases", "keyspaces")) == {
        "leases": [
            (
                golden("00000000 00 0000000000000005"),
                golden("01 00000000000003e8 0000000000000515"),  # 20 + 1000 + 250 + 31
            ),
            (golden("00000000 01 0000000000000005 6b"), golden("01")),
        ],
        "keyspaces": [
            (
                golden("00000000"),
                golden(
                    "01 ffffffffffffffff ffffffffffffffff 0000000000000001 0000000000000018"
                    "0000000000000028 0000000000000001 0000000000000000"
                ),
            )
        ],
    }


def test_rows_of_leases_that_are_renewed_together() -> None:
    world = World()
    for lease in (1, 2, 3, -4):
        world.do(LeaseGrant(id=lease, ttl_ms=1000), clock_ms=10)
    granted = rows_of(world.backend, ("leases",))["leases"]
    world.do(LeaseRenew(ids=[3, 2, -4, 1, 5]), clock_ms=20)
    assert rows_of(world.backend, ("leases",))["leases"] == [
        *granted,
        (
            golden("00000000 02 0000000000000001"),
            golden(
                "01 00000000000003e8 0000000000000515"
                "0000000000000003 0000000000000002 fffffffffffffffc 0000000000000001"
            ),
        ),
    ]


def test_hash_chain() -> None:
    chain = HashChain(0, 0)
    chain.link(1, 1, 1, 0, ())
    empty = chain.hash
    chain.link(2, 1, 2, 0, [("key_value", b"k", b"v"), ("key_history", b"h", None)])
    assert (empty, chain.hash) == (0x1D5582D7C45892B5, 0x685C18580D9939F7)
    chain.link(3, 1, 2, 0, [("leases", b"k", b"v"), ("machine", b"k", b"v")])
    assert chain.hash == 0x00F78B37E2798C98


def test_progress_of_a_giant_command() -> None:
    progress = Progress(1, 2, 3, 4, 5, -6, -7, 8, 2**64 - 1, b"\1\0", b"\0\0\0\0key")
    row = golden(
        "02 0000000000000001 0000000000000002 0000000000000003 00000004 00000005"
        "fffffffffffffffa fffffffffffffff9 0000000000000008 ffffffffffffffff 0002 0100"
        "00000000 6b6579"
    )
    assert progress.encode() == row
    assert Progress.decode(row) == progress


def test_progress_of_a_giant_delete_in_the_first_format() -> None:
    row = golden(
        "01 0000000000000001 0000000000000002 00000003 fffffffffffffffc 0000000000000005"
        "ffffffffffffffff 00000000 6b6579"
    )
    expected = Progress(1, 2, 0, 3, 0, -3, -4, 5, 2**64 - 1, b"", b"\0\0\0\0key")
    assert Progress.decode(row) == expected


def test_folded_link() -> None:
    rows_ = [("key_value", b"k", None)]
    digest = fold(0, rows_)
    assert digest == xxh3_64_intdigest(golden("0000000000000000 01 01 00000001 6b 00000000"))
    chain = HashChain(4, 7)
    chain.link_folded(5, 2, 3, digest)
    data = golden("0000000000000007 0000000000000005 0000000000000002 0000000000000003 00000000 ff")
    assert chain.hash == xxh3_64_intdigest(data + digest.to_bytes(8))


def test_all_rows_of_the_machine_after_a_few_commands() -> None:
    """The hash in `applied` covers the rows of key_value, key_history and revisions."""
    world = World()
    world.put(b"key", b"one")
    world.put(b"key", b"two")
    world.do(DeleteRangeRequest(key=b"key"), clock_ms=77)
    world.do(PutRequest(key=b"key", ignore_value=True))  # refused
    world.do(CompactionRequest(revision=3))
    world.alarm(AlarmRequest.ACTIVATE, AlarmType.CORRUPT)
    assert rows_of(world.backend, ("machine", "keyspaces", "members", "alarms")) == {
        "machine": [
            (
                b"applied",
                golden(
                    "01 0000000000000006 0000000000000001 0000000000000004"
                    "30919b550e1fd891 000000000000004d"
                ),
            ),
            (b"cluster_version", b"\x013.7.0"),
            (b"conf_state", golden("01 00000001 0000000000000001 00000000 00000000 00000000 00")),
            (
                golden("73656e646572 0000000000000001"),
                golden(
                    "01 0000000000000001 000000000000000100000001 0000000000000001 0000000000000006"
                ),
            ),
        ],
        "keyspaces": [
            (
                golden("00000000"),
                golden(
                    "01 0000000000000003 ffffffffffffffff 0000000000000000 0000000000000000"
                    "00000000000000e3 0000000000000000 0000000000000000"
                ),
            )
        ],
        "members": [
            (
                golden("0000000000000001"),
                golden("0801 12036f6e65 1a15") + b"http://127.0.0.1:2380",
            )
        ],
        "alarms": [(golden("0000000000000001 02"), golden("01"))],
    }


def test_rejoin() -> None:
    roster = Roster(7, 12, ConfState((1, 2, 3)), (Member(ID=1),))
    rejoin = Rejoin(
        identity=Identity(7, 0xA1, 2**64 - 1),
        start_number=5,
        term=9,
        roster=roster,
        aside="damaged-000001",
        reason="a loss",
    )
    text = (
        b'{\n "format": 1,\n "cluster_id": "7",\n "member_id": "a1",\n'
        b' "incarnation": "ffffffffffffffff",\n "start_number": 5,\n "term": 9,\n'
        b' "roster": "' + encode_roster(roster).hex().encode() + b'",\n'
        b' "aside": "damaged-000001",\n "reason": "a loss"\n}\n'
    )
    assert rejoining.encode(rejoin) == text
    assert rejoining.decode(text) == rejoin


def test_lost_data() -> None:
    backend = MemoryBackend(LOG_FAMILIES)
    batch = backend.batch()
    write_lost_data(batch, 12)
    backend.write(batch)
    assert list(backend.iterate("raft_meta")) == [(b"lost_data", golden("02 000000000000000c"))]
    assert has_lost_data(backend) and members_known_at(backend) == 12
    earlier = backend.batch()
    earlier.put("raft_meta", b"lost_data", b"\x01")
    backend.write(earlier)
    assert has_lost_data(backend) and members_known_at(backend) == 0


def test_the_header_of_a_file_of_the_log() -> None:
    header = walformat.Header(number=7, previous=6, previous_end=4_000_000, oldest=3, salt=5)
    fields = b"chainfire-log\n\0\0" + golden(
        "00000001 0000000000000007 0000000000000006 00000000003d0900 0000000000000003"
        "0000000000000005"
    )
    data = fields + golden("f25e2f81")
    assert len(data) == 64 and crc32(fields) == 0xF25E2F81
    assert walformat.encode_header(header) == data
    assert walformat.decode_header(data) == replace(header, crc=0xF25E2F81)
    assert walformat.decode_header(bytes(64)) is None


def test_a_record_of_the_log() -> None:
    assert LOG_FAMILIES == ("raft_logs", "raft_meta")  # a row names its family by its place
    rows = (
        golden("01 00 0008 00000003 0000000000000005 616263")  # put
        + golden("02 01 0008 00000000")
        + b"admitted"  # delete
        + golden("03 00 0008 00000008 0000000000000000 0000000000000005")  # delete a range
    )
    parts = [
        (walformat.PUT, 0, golden("0000000000000005"), b"abc"),
        (walformat.DELETE, 1, b"admitted", b""),
        (walformat.DELETE_RANGE, 0, bytes(8), golden("0000000000000005")),
    ]
    assert b"".join(walformat.encode_row(*part) + part[3] for part in parts) == rows
    assert [
        (row.kind, row.family, row.key, rows[row.start : row.end])
        for row in walformat.decode_rows(rows)
    ] == parts
    before, length = 0xF25E2F81, golden("0000003b")
    crc = crc32(rows, crc32(length, before))
    record = golden("e40b735d") + length + rows
    assert walformat.encode_record(before, rows[:20], rows[20:]) == (record[:8], crc)
    assert walformat.check_record(before, record, 0) == (len(record), crc)
    assert walformat.check_record(0, record, 0) is None
