"""Valid inputs of every target, to begin from: a fuzzer that starts from nothing finds little."""

from __future__ import annotations

from chainfire.command import CommandKind, Envelope
from chainfire.machine import rows as machine_rows
from chainfire.machine.rows import Position
from chainfire.machine.sender import Sender
from chainfire.node import frames, handshake, records, transfer
from chainfire.node.archive import Head
from chainfire.node.handshake import Denial, Hello, Reason
from chainfire.node.logstore import Identity
from chainfire.node.records import RecordCache
from chainfire.node.roster import Roster, encode_ask, encode_roster
from chainfire.node.transfer import Chunk, File, FileEnd, Offer, Outcome, Part
from chainfire.proto import kv_pb2 as kv
from chainfire.proto.cluster_pb2 import Member
from chainfire.raft.changes import ChangeKind, ChangeStep, ConfChange, Transition
from chainfire.raft.messages import Message, MessageType, Snapshot
from chainfire.server.rejoining import Rejoin
from chainfire.server.rejoining import encode as encode_rejoin
from chainfire.storage.walformat import (
    DELETE,
    DELETE_RANGE,
    MARK,
    PUT,
    Header,
    encode_header,
    encode_row,
)
from chainfire.types import ConfState, Entry, EntryType

_ENTRIES = [Entry(3, 8, EntryType.NORMAL, b"one"), Entry(4, 9, EntryType.CONF_CHANGE_V2, b"two")]
_CONF = ConfState((1, 2, 3), (4,), (1, 2), (3,), True)
_FRAMES: list[frames.Frame] = [
    Message(MessageType.APPEND, 2, 1, term=4, log_term=3, index=7, entries=_ENTRIES, commit=6),
    Message(MessageType.HEARTBEAT, 2, 1, term=4, commit=6, context=b"\0\0\0\0\0\0\0\x09"),
    Message(MessageType.VOTE_REPLY, 2, 1, term=4, reject=True, settled=(5, 3)),
    Message(MessageType.SNAPSHOT, 2, 1, term=4, snapshot=Snapshot(7, 3, _CONF, b"data")),
    frames.Forward([b"first", b"", b"third"]),
    frames.Refused(5, [1, 2, 900], 14),
    frames.Chain(77, 2**63 + 1),
    frames.Clock(4, 86_400_000),
]
_PUT = kv.PutRequest(key=b"k", value=b"v", prev_kv=True).SerializeToString()
_TXN = kv.TxnRequest(
    compare=[kv.Compare(key=b"k", target=kv.Compare.VERSION, version=1, range_end=b"z")],
    success=[
        kv.RequestOp(request_put=kv.PutRequest(key=b"k", value=b"w")),
        kv.RequestOp(request_range=kv.RangeRequest(key=b"a", range_end=b"z", limit=2)),
    ],
    failure=[kv.RequestOp(request_delete_range=kv.DeleteRangeRequest(key=b"k", prev_kv=True))],
).SerializeToString()
_REQUESTS = (
    kv.RangeRequest(key=b"\0", range_end=b"\0", limit=3, sort_order=1, sort_target=2),
    kv.PutRequest(key=b"k", value=b"v", prev_kv=True),
    kv.DeleteRangeRequest(key=b"a", range_end=b"z", prev_kv=True),
)


def _bodies() -> list[bytes]:
    return [frames.encode(frame, RecordCache())[frames.HEAD_BYTES :] for frame in _FRAMES]


def _commands() -> list[bytes]:
    encode = Envelope(member_id=1, start_number=2, lowest_unsettled=3, leader_clock_ms=9).encode
    return [
        encode(7, CommandKind.PUT, _PUT),
        encode(8, CommandKind.TXN, _TXN, keyspace=3, user="someone", auth_revision=2),
        _PUT,
        _TXN,
    ]


_ROSTER = Roster(7, 9, _CONF, (Member(ID=1, name="a", peerURLs=["http://127.0.0.1:2380"]),))
_HELLO = Hello(
    cluster_id=7,
    sender=1,
    to=2,
    incarnation=3,
    start_number=4,
    life=5,
    lost_data=True,
    log_end=6,
    version="0.1.0",
)
_REJOIN = Rejoin(
    identity=Identity(1, 2, 3),
    start_number=4,
    term=5,
    roster=_ROSTER,
    aside="damaged-1",
    reason="it is lost",
)


def _greetings() -> list[bytes]:
    return [
        handshake.encode_hello(handshake.HELLO, _HELLO),
        handshake.encode_denial(Denial(Reason.BUSY, "later")),
        handshake.encode_denial(Denial(Reason.OLDER_COPY, "older", 9)),
        handshake.encode_ping(handshake.PING, 77),
        encode_ask(),
        encode_roster(_ROSTER),
    ]


def _transfers() -> list[bytes]:
    message = Message(MessageType.SNAPSHOT, 2, 1, term=4, snapshot=Snapshot(7, 3, _CONF))
    return [
        transfer.encode_offer(Offer(message, [File("000012.sst", 5), File("CURRENT", 2**40)])),
        transfer.encode_have([Part(1, 2, 3)]),
        transfer.encode_chunk(Chunk(1, 2, b"data")),
        transfer.encode_file_end(FileEnd(1, 2, 3)),
        transfer.encode_outcome(Outcome(arrived=False, text="no")),
    ]


def _archives() -> list[bytes]:
    """What a fuzzer cannot compute, the checksums, is missing."""
    head = Head(1, 2, "0.1", [File("000007.sst", 3), File("CURRENT", 0)])
    return [head.encode() + b"abc" + bytes(16), Head(1, 2, "", []).encode()]


def _rows() -> list[bytes]:
    sender = Sender(3, 4)
    sender.firsts, sender.lasts = [4, 9], [5, 12]
    return [
        machine_rows.encode_position(Position(9, 4, 12, 2**63, 77)),
        machine_rows.encode_conf_state(_CONF),
        machine_rows.encode_sender(sender),
        machine_rows.encode_cluster_version("3.7.0"),
    ]


SEEDS: dict[str, list[bytes]] = {
    "requests": [
        *(bytes([n]) + request.SerializeToString() for n, request in enumerate(_REQUESTS)),
        b"\x03" + _TXN,
        b"\x04\x08\x02",
    ],
    "json": [
        b'\0{"key":"a2V5","range_end":"","limit":"7","sortOrder":1,"sort_target":"MOD"}',
        b'\0{"key":"text","consistency":"LOCAL"}',
        b'\x03{"compare":[{"key":"k","target":"VERSION","version":1e0}],"success":[{"request_put":'
        b'{"key":{"base64":"/w=="},"value":"\\ud83d\\ude00"}}]}',
    ],
    "json-stream": [b'\x05{"a":"}\\"{"} [1]{"b":{}}', b'\x02"\\\\"{}'],
    "headers": [
        b"grpc-timeout:500m\nauthorization:token\ngrpc-metadata-a-bin:AAA=\ngrpc-metadata-b:c"
    ],
    "command": _commands(),
    "frame": _bodies(),
    "stream-of-frames": [
        b"".join(frames.encode(frame, RecordCache()) for frame in _FRAMES),
        frames.encode(_FRAMES[1], RecordCache()),
    ],
    "greeting": _greetings(),
    "snapshot-stream": _transfers(),
    "snapshot-file": _archives(),
    "record": [records.encode(_ENTRIES), records.encode(_ENTRIES[:1])],
    "conf-change": [
        b"",
        ConfChange(
            (ChangeStep(ChangeKind.ADD_VOTER, 5), ChangeStep(ChangeKind.REMOVE, 2)),
            Transition.JOINT_EXPLICIT,
            b"context",
        ).encode(),
    ],
    "state-row": _rows(),
    "history-key": [b"a\0b\0\0c", b"\0\xff\0"],
    "rejoin": [
        encode_rejoin(_REJOIN),
        b"[" * 2000,  # found by reading: the parser's depth is Python's
        b'{"format":1,"cluster_id":"7","member_id":"1","incarnation":"3","start_number":1e999}',
    ],
    "witness": [b"CFW1" + bytes(76)],
    "log-file": [
        b"\0" + encode_row(PUT, 0, bytes(8), b"entry") + b"entry",
        b"\0" + encode_row(PUT, 1, b"hard_state", b"x") + b"x" + encode_row(DELETE, 1, b"a", b""),
        b"\0"
        + encode_row(DELETE_RANGE, 0, b"", b"\xff")
        + b"\xff"
        + encode_row(MARK, 0, b"salt", b""),
        b"\x80" + encode_header(Header(1, 0, 0, oldest=1, salt=7)) + bytes(64),
        b"\x80" + encode_header(Header(2, 1, 100, oldest=1, salt=7)),
    ],
    "toml": [b'[member]\nname = "n"\n[raft]\nheartbeat_interval_ms = 100\n'],
    "yaml": [b"name: n\nheartbeat-interval: 100\ninitial-cluster: n=http://127.0.0.1:2380\n"],
    "arguments": [b"--name=n\n--heartbeat-interval\n100", b"--listen-client-urls=http://[::1]:1"],
    "urls": [
        b"http://127.0.0.1:2379,unix:///run/x.sock",
        b"https://[::1]:2379",
        b"unix:a:b/c",  # found: was shown as a host with a port that is none
        b"unix:a,unix:\x1c",  # found: a name of nothing but white space
    ],
    "transaction": [
        b'mod("k") > "0"\nval(k) = "\\x41\\n"\n\nput k "a b" --lease=1f\ndel k\n\nget k --prefix',
    ],
}
