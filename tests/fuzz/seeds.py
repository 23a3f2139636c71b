"""Valid inputs of every target, to begin from: a fuzzer that starts from nothing finds little."""

from __future__ import annotations

from chainfire.command import CommandKind, Envelope
from chainfire.machine import rows as machine_rows
from chainfire.machine.rows import Position
from chainfire.machine.sender import Sender
from chainfire.node import frames, records
from chainfire.node.records import RecordCache
from chainfire.proto import kv_pb2 as kv
from chainfire.raft.changes import ChangeKind, ChangeStep, ConfChange, Transition
from chainfire.raft.messages import Message, MessageType, Snapshot
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
    "command": _commands(),
    "frame": _bodies(),
    "stream-of-frames": [
        b"".join(frames.encode(frame, RecordCache()) for frame in _FRAMES),
        frames.encode(_FRAMES[1], RecordCache()),
    ],
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
    "witness": [b"CFW1" + bytes(76)],
    "toml": [b'[member]\nname = "n"\n[raft]\nheartbeat_interval_ms = 100\n'],
    "yaml": [b"name: n\nheartbeat-interval: 100\ninitial-cluster: n=http://127.0.0.1:2380\n"],
    "arguments": [b"--name=n\n--heartbeat-interval\n100", b"--listen-client-urls=http://[::1]:1"],
    "urls": [
        b"http://127.0.0.1:2379,unix:///run/x.sock",
        b"https://[::1]:2379",
        b"unix:a:b/c",  # found: was shown as a host with a port that is none
        b"unix:a,unix:\x1c",  # found: a name of nothing but white space
    ],
}
