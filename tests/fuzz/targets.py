"""One function per parser of foreign bytes: all must end in a value or the parser's own error.

A target takes bytes and raises only where the product has a bug: an exception
that the parser does not promise, or a value that encodes to something else
than what it was read from. `make test` feeds them with hypothesis,
`make fuzz` with a coverage-guided fuzzer.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from chainfire import command
from chainfire.api.table import METHODS
from chainfire.cli.txn_grammar import BadLine, parse_txn
from chainfire.config import etcd, serve
from chainfire.config.urls import BadValue, parse_urls, show_urls
from chainfire.errors import (
    ConfigError,
    Corrupt,
    InternalError,
    Malformed,
    RequestError,
    UnknownFormat,
)
from chainfire.gateway.json_codec import ETCD, READABLE, BadJson, codec
from chainfire.gateway.json_text import Splitter, text_of
from chainfire.gateway.json_words import read_headers
from chainfire.machine import rows as machine_rows
from chainfire.mvcc import rows as mvcc_rows
from chainfire.node import archive, frames, handshake, records, roster, transfer
from chainfire.node.handshake import HELLO, WELCOME
from chainfire.node.records import RecordCache
from chainfire.raft.changes import ConfChange
from chainfire.server import rejoining
from chainfire.storage import walformat
from chainfire.storage.backend import LOG_FAMILIES
from chainfire.storage.wal import Wal
from chainfire.storage.witness import Witness
from tests.api.fake_node import Api

Target = Callable[[bytes], None]


# ── what clients send ───────────────────────────────────────────────────────

_UNARY = (
    *("KV.Range", "KV.Put", "KV.DeleteRange", "KV.Txn", "KV.Compact"),
    *("Cluster.MemberList", "Maintenance.Alarm", "Maintenance.Status", "Maintenance.Hash"),
    *("Maintenance.HashKV", "Maintenance.Defragment", "Maintenance.MoveLeader"),
)


class _Requests:
    """Requests against one member's real machine; the first byte chooses the method."""

    def __init__(self) -> None:
        self._api = Api()
        self._left = 0

    def __call__(self, data: bytes) -> None:
        if not self._left:  # begun anew from time to time, so that a find stays small
            self._api, self._left = Api(), 10_000
        self._left -= 1
        service, _, method = _UNARY[(data[0] if data else 0) % len(_UNARY)].rpartition(".")
        call = self._api.start(f"/etcdserverpb.{service}/{method}", data[1:])
        node = self._api.node
        node.compact_physically()
        for answer in call.answers:
            assert not isinstance(answer, InternalError), data
        assert not node.halted, node.halted


def command_(data: bytes) -> None:
    with suppress(UnknownFormat):
        command.decode(data)
    for kind in command.CommandKind:
        with suppress(Malformed):
            command.decode_request(kind, data)


_JSON_REQUESTS = [
    method.request_type for method in METHODS.values() if method.service.startswith("etcdserverpb.")
]


def json(data: bytes) -> None:
    """The first byte chooses the message."""
    descriptor = _JSON_REQUESTS[(data[0] if data else 0) % len(_JSON_REQUESTS)].DESCRIPTOR
    text = text_of(data[1:])
    with suppress(BadJson):
        codec(descriptor, ETCD).decode(text)
    ours = codec(descriptor, READABLE)
    try:
        body = ours.decode(text)
    except BadJson:
        return
    assert ours.decode(ours.encode(body)) == body, text


def json_stream(data: bytes) -> None:
    """A body that comes in two pieces: the first byte says where it is cut."""
    at = data[0] if data else 0
    whole, cut = Splitter(), Splitter()
    values = list(whole.feed(data))
    assert [*cut.feed(data[:at]), *cut.feed(data[at:])] == values
    assert cut.rest() == whole.rest()


def headers(data: bytes) -> None:
    """One per line, as name:value."""
    pairs = [line.partition(b":") for line in data.split(b"\n")]
    with suppress(RequestError):
        read_headers((name.lower(), value) for name, _, value in pairs)


# ── what members send ───────────────────────────────────────────────────────


def frame(data: bytes) -> None:
    """A body whose checksum is right: what a faulty member could send."""
    if not data:
        return
    cache = RecordCache()
    try:
        read = frames.decode(data, cache)
    except frames.BadFrame:
        return
    sent = frames.encode(read, RecordCache())
    again = frames.decode(sent[frames.HEAD_BYTES :], RecordCache())
    assert again == read, (read, again)


def stream_of_frames(data: bytes) -> None:
    """Bytes of a connection, cut anywhere: the first byte says where."""
    at = data[0] if data else 0
    whole, cut = frames.Splitter(1 << 16), frames.Splitter(1 << 16)
    outcomes: list[list[bytes] | None] = []
    for splitter, pieces in ((whole, (data,)), (cut, (data[:at], data[at:]))):
        bodies: list[bytes] | None = []
        try:
            for piece in pieces:
                bodies += splitter.feed(piece)  # type: ignore[operator]
        except frames.BadFrame:
            bodies = None
        outcomes.append(bodies)
    assert outcomes[0] == outcomes[1], outcomes


def greeting(data: bytes) -> None:
    """All that is said before the first frame."""
    if not data:
        return
    for kind in (HELLO, WELCOME):
        with suppress(frames.BadFrame):
            hello = handshake.decode_hello(kind, data)
            again = handshake.decode_hello(kind, handshake.encode_hello(kind, hello))
            assert again == hello, (hello, again)
    for read in (
        handshake.decode_denial,
        handshake.decode_ping,
        roster.ensure_ask,
        roster.decode_roster,
    ):
        with suppress(frames.BadFrame):
            read(data)


def snapshot_stream(data: bytes) -> None:
    """What the two sides of a transfer say, read as any of its words."""
    if not data:
        return
    for read in (
        transfer.decode_offer,
        transfer.decode_have,
        transfer.decode_content,
        transfer.decode_outcome,
    ):
        with suppress(frames.BadFrame):
            read(data)


def snapshot_file(data: bytes) -> None:
    """A backup that is restored: no file appears but in the directory, whatever is in it."""
    with TemporaryDirectory(prefix="fuzz-") as parent:
        inner = Path(parent) / "inner"
        inner.mkdir()
        for check_end in (True, False):
            with suppress(archive.BadArchive):
                archive.extract(BytesIO(data), inner, check_end=check_end)
            for path in inner.iterdir():
                path.unlink()
        assert [path.name for path in Path(parent).iterdir()] == ["inner"], data


# ── what lies on the disk ───────────────────────────────────────────────────


def record(data: bytes) -> None:
    try:
        entries = records.decode(1, data)
    except (Corrupt, UnknownFormat):
        return
    assert records.encode(entries) == data


def conf_change(data: bytes) -> None:
    try:
        change = ConfChange.decode(data)
    except UnknownFormat:
        return
    assert ConfChange.decode(change.encode()) == change


def state_row(data: bytes) -> None:
    for decode in (
        machine_rows.decode_position,
        machine_rows.decode_conf_state,
        machine_rows.decode_sender,
        machine_rows.decode_cluster_version,
    ):
        with suppress(Corrupt, UnknownFormat):
            decode(data)


def history_key(data: bytes) -> None:
    """Order is kept, and no key is a prefix of another's rows."""
    at = len(data) // 2
    left, right = data[:at], data[at:]
    keys = [mvcc_rows.history_key(b"\0\0\0\0", key, 1, 0) for key in (left, right)]
    assert (left < right) == (keys[0] < keys[1]), (left, right)
    assert left == right or not keys[0].startswith(keys[1][:-12])


class _Files:
    """A parser of a file: the bytes are put where it looks."""

    def __init__(self, read: Callable[[Path], None]) -> None:
        self._read = read
        self._directory = TemporaryDirectory(prefix="fuzz-")

    def __call__(self, data: bytes) -> None:
        path = Path(self._directory.name) / "file"
        path.write_bytes(data)
        self._read(path)


LOG_HEADER = walformat.encode_header(walformat.Header(1, 0, 0, oldest=1, salt=7))


def _log_file(path: Path) -> None:
    """Behind a first byte below 128 a record's payload, else the whole file."""
    data = path.read_bytes()
    if data[:1] < b"\x80":
        header = walformat.decode_header(LOG_HEADER)
        assert header is not None
        start, _ = walformat.encode_record(header.crc, data[1:], b"")
        path.write_bytes(LOG_HEADER + start + data[1:])
    else:
        path.write_bytes(data[1:])
    path.replace(path.with_suffix(".wal"))
    try:
        log = Wal.open_read_only(path.parent, LOG_FAMILIES)
    except (Corrupt, UnknownFormat):
        return
    with closing(log):
        for family in LOG_FAMILIES:
            rows = list(log.iterate(family))
            assert [key for key, _ in rows] == sorted({key for key, _ in rows})
            assert all(log.get(family, key) == value for key, value in rows)


def rejoin(data: bytes) -> None:
    with suppress(Corrupt, UnknownFormat):
        rejoining.decode(data)


def _witness(path: Path) -> None:
    with suppress(Corrupt, UnknownFormat):
        Witness.open(path).close()


# ── what an operator writes ─────────────────────────────────────────────────


def _toml(path: Path) -> None:
    with suppress(ConfigError):
        serve.load([f"--config-file={path}"], {})


def _yaml(path: Path) -> None:
    with suppress(ConfigError):
        etcd.load([f"--config-file={path}"], {})


def arguments(data: bytes) -> None:
    """A command line, one argument per line."""
    words = [
        word for word in data.decode(errors="replace").split("\n") if "config-file" not in word
    ]
    for load in (serve.load, etcd.load):
        with suppress(ConfigError):
            load(words, {})


def urls(data: bytes) -> None:
    try:
        parsed = parse_urls(data.decode(errors="replace"))
    except BadValue:
        return
    assert parse_urls(show_urls(parsed)) == parsed


def transaction(data: bytes) -> None:
    """Its text, as for etcdctl."""
    with suppress(BadLine):
        parse_txn(data.decode(errors="replace").split("\n"))


TARGETS: dict[str, Target] = {
    "requests": _Requests(),
    "json": json,
    "json-stream": json_stream,
    "headers": headers,
    "command": command_,
    "frame": frame,
    "stream-of-frames": stream_of_frames,
    "greeting": greeting,
    "snapshot-stream": snapshot_stream,
    "snapshot-file": snapshot_file,
    "record": record,
    "conf-change": conf_change,
    "state-row": state_row,
    "history-key": history_key,
    "rejoin": rejoin,
    "witness": _Files(_witness),
    "log-file": _Files(_log_file),
    "toml": _Files(_toml),
    "yaml": _Files(_yaml),
    "arguments": arguments,
    "urls": urls,
    "transaction": transaction,
}
