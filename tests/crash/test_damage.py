"""A damaged data directory: refused with an explanation, or recovered; never served wrong.

The outcome of every damage was written down before it was tried:

    REFUSE   ends with an error that says what is wrong, and has changed nothing on the disk
    RECOVER  serves, and holds everything that was acknowledged
    DETECT   either of the two, or serves and answers with an error what the damage has touched

All of it is about one member without others: one of three heals instead, which is
tests/faults/test_matrix.py.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import grpc
import pytest

from chainfire.proto import kv_pb2
from tests import peers, report
from tests.crash import damage
from tests.crash.damage import FILES, Damage
from tests.servers import Server

pytestmark = pytest.mark.lone

LAST_VALUE = b"the last acknowledged value"


class Outcome(Enum):
    REFUSE = "refuse"
    RECOVER = "recover"
    DETECT = "detect"


REFUSE, RECOVER, DETECT = Outcome.REFUSE, Outcome.RECOVER, Outcome.DETECT


@dataclass(frozen=True, slots=True)
class Case:
    file: str
    name: str
    damage: Damage
    expected: Outcome
    why: str
    fast: bool = False


CASES = (
    # log/: what was acknowledged is here, and the witness knows how much of it there was. A bit in
    # a payload, a header or a length all end the records there, or hide the file.
    Case("log", "deleted", damage.delete, REFUSE, "reads as an older log", fast=True),
    Case("log", "unreadable", damage.unreadable, REFUSE, "cannot be opened"),
    Case("log", "emptied", damage.empty, REFUSE, "as deleted"),
    Case("log", "halved", damage.halve, REFUSE, "acknowledged entries are gone"),
    Case("log", "cut in the middle", damage.cut_record(0.5), REFUSE, "as halved"),
    Case("log", "cut in the last record", damage.cut_record(1), DETECT, "may be a commit only"),
    Case("log", "bit in the header", damage.flip_header, REFUSE, "as deleted", fast=True),
    Case("log", "bit in the first record", damage.flip_record(0), REFUSE, "all behind is lost"),
    Case("log", "bit in the middle", damage.flip_record(0.5), REFUSE, "half is lost", fast=True),
    Case("log", "bit in the last record", damage.flip_record(1), DETECT, "may be a commit only"),
    Case(
        "log",
        "bit in the last acknowledged write",
        damage.flip_record_holding(LAST_VALUE),
        REFUSE,
        "the witness holds its index",
        fast=True,
    ),
    Case("log", "a page of zeros", damage.zero_page, REFUSE, "reads as the end (etcd: silent)"),
    Case("older log", "deleted", damage.delete, REFUSE, "entries are missing", fast=True),
    Case("older log", "unreadable", damage.unreadable, REFUSE, "cannot be opened"),
    Case("older log", "emptied", damage.empty, REFUSE, "as deleted"),
    Case("older log", "halved", damage.halve, REFUSE, "what goes on behind it is no log"),
    Case("older log", "bit in the header", damage.flip_header, REFUSE, "as deleted"),
    Case("older log", "bit in the middle", damage.flip_record(0.5), REFUSE, "as halved"),
    Case("older log", "bit in the last record", damage.flip_record(1), REFUSE, "as halved"),
    Case("older log", "a page of zeros", damage.zero_page, REFUSE, "as halved"),
    Case("spare log", "deleted", damage.delete, RECOVER, "it holds nothing"),
    Case("spare log", "halved", damage.halve, RECOVER, "too small to be used: it goes"),
    Case("spare log", "bit in the header", damage.flip_header, RECOVER, "it holds nothing"),
    Case("log directory", "deleted", damage.delete, REFUSE, "the witness remembers it", fast=True),
    # state/: can be replayed from the log as far back as the log was kept.
    Case(
        "state WAL", "deleted", damage.delete, DETECT, "replayed, unless it was synced", fast=True
    ),
    Case("state WAL", "unreadable", damage.unreadable, DETECT, "as deleted, or refused"),
    Case("state WAL", "emptied", damage.empty, DETECT, "as deleted"),
    Case("state WAL", "cut in the middle", damage.cut_record(0.5), DETECT, "as deleted"),
    Case("state WAL", "cut in the last record", damage.cut_record(1), RECOVER, "log replays it"),
    Case("state WAL", "bit in the first record", damage.flip_record(0), DETECT, "as deleted"),
    Case("state WAL", "bit in the middle", damage.flip_record(0.5), DETECT, "as deleted"),
    Case("state WAL", "bit in the last record", damage.flip_record(1), RECOVER, "log replays it"),
    Case("state SST", "deleted", damage.delete, REFUSE, "named by the manifest"),
    Case("state SST", "unreadable", damage.unreadable, REFUSE, "cannot be opened"),
    Case("state SST", "emptied", damage.empty, REFUSE, "not a table"),
    Case("state SST", "halved", damage.halve, REFUSE, "no footer"),
    Case("state SST", "bit in the middle", damage.flip_middle, DETECT, "block checksum", fast=True),
    Case("state SST", "bit in the footer", damage.flip_near_end, REFUSE, "not a table"),
    Case("state MANIFEST", "deleted", damage.delete, REFUSE, "CURRENT names it"),
    Case("state MANIFEST", "emptied", damage.empty, REFUSE, "no families"),
    Case("state MANIFEST", "bit in the middle", damage.flip_middle, DETECT, "tail may be optional"),
    Case("state CURRENT", "deleted", damage.delete, REFUSE, "would be made anew, empty"),
    Case("state CURRENT", "bit", damage.flip_first, REFUSE, "names nothing"),
    Case("state directory", "deleted", damage.delete, REFUSE, "our CURRENT names it"),
    # Our own small files.
    Case("CURRENT", "deleted", damage.delete, REFUSE, "which state is live is unknown", fast=True),
    Case("CURRENT", "unreadable", damage.unreadable, REFUSE, "cannot be opened"),
    Case("CURRENT", "emptied", damage.empty, REFUSE, "names nothing"),
    Case("CURRENT", "bit", damage.flip_first, REFUSE, "not the format"),
    Case("CURRENT", "bit in the name", damage.flip_near_end, REFUSE, "names no directory"),
    Case("witness", "deleted", damage.delete, REFUSE, "cannot prove that all is there", fast=True),
    Case("witness", "unreadable", damage.unreadable, REFUSE, "cannot be opened"),
    Case("witness", "emptied", damage.empty, REFUSE, "as deleted"),
    Case("witness", "newer slot", damage.flip_slots(1), RECOVER, "the older promises less"),
    Case("witness", "both slots", damage.flip_slots(2), REFUSE, "as deleted"),
    Case("LOCK", "deleted", damage.delete, RECOVER, "it is the flock that counts"),
    Case("LOCK", "emptied", damage.empty, RECOVER, "the text is for people"),
    Case("LOCK", "unreadable", damage.unreadable, REFUSE, "cannot be locked"),
    Case("ballast", "deleted", damage.delete, RECOVER, "made again"),
    Case("ballast", "halved", damage.halve, RECOVER, "made again"),
)


@dataclass(slots=True)
class Expected:
    """The store before the damage: everything now and at some older revisions."""

    revision: int
    peer_port: int  # its peer URL makes the member's identity
    reads: dict[int, Any] = field(default_factory=dict)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Expected]:
    """A directory with two files of a log and a spare one, and with a WAL and tables in its state,
    killed after its last write."""
    kind = peers.need_chainfire()
    if not kind.is_chainfire:
        pytest.skip("the files of the matrix are Chainfire's")
    server = Server(kind, tmp_path_factory.mktemp("original") / "data")
    with server.start(), grpc.insecure_channel(server.target) as channel:
        for number in range(36):  # of 200 kB each: twenty fill a file of the log
            put(channel, b"large/%d" % (number % 20), bytes([number]) * 200_000)
        for number in range(300):
            put(channel, b"small/%d" % (number % 100), b"%d" % number)
    server.start()  # RocksDB turns what it replays into SST files
    with server, grpc.insecure_channel(server.target) as channel:
        for number in range(300):
            put(channel, b"small/%d" % (number % 150), b"again %d" % number)
        revision = put(channel, b"last", LAST_VALUE)
        expected = Expected(revision, server.peer_port)
        for past in (0, revision, revision - 1, revision - 200, revision - 320, 20):
            expected.reads[past] = everything(channel, past)
    return server.data_dir, expected


def put(channel: grpc.Channel, key: bytes, value: bytes) -> int:
    body = kv_pb2.PutRequest(key=key, value=value).SerializeToString()
    raw = channel.unary_unary("/etcdserverpb.KV/Put")(body, timeout=20)
    return int(kv_pb2.PutResponse.FromString(raw).header.revision)


def everything(channel: grpc.Channel, revision: int) -> Any:
    request = kv_pb2.RangeRequest(key=b"\x00", range_end=b"\x00", revision=revision)
    raw = channel.unary_unary("/etcdserverpb.KV/Range")(request.SerializeToString(), timeout=60)
    reply = kv_pb2.RangeResponse.FromString(raw)
    reply.header.raft_term = 0  # a restart begins a new term
    return reply


def _parameters(fast: bool) -> list[Any]:
    return [
        pytest.param(case, id=f"{case.file}: {case.name}") for case in CASES if case.fast == fast
    ]


@pytest.mark.parametrize("case", _parameters(fast=True))
def test_damage_has_the_written_outcome(
    case: Case, original: tuple[Path, Expected], tmp_path: Path
) -> None:
    run_case(case, *original, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", _parameters(fast=False))
def test_rarer_damage_has_the_written_outcome(
    case: Case, original: tuple[Path, Expected], tmp_path: Path
) -> None:
    run_case(case, *original, tmp_path)


def run_case(case: Case, source: Path, expected: Expected, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(source, data)
    case.damage(FILES[case.file](data))
    before = digests(data)
    server = Server(peers.need_chainfire(), data, peer_port=expected.peer_port)
    found, words = outcome_of(server, expected)
    if case.expected is not DETECT:
        assert found is case.expected, f"{found}, expected {case.expected} ({case.why})\n{words}"
    if case.expected is REFUSE:
        assert digests(data) == before, "a refusal must not change anything"
    shutil.rmtree(data)
    report.count("damaged directories", 1)


def outcome_of(server: Server, expected: Expected) -> tuple[Outcome, str]:
    """Start it and read everything. Fails on a wrong answer or a refusal without words."""
    log = server.start_or_refusal(20)
    if log is not None:
        server.kill()
        assert "Traceback" not in log, log
        assert re.search(r"damag|lost|corrupt|cannot|missing|witness|CURRENT", log), log
        return REFUSE, log
    errors = []
    with server, grpc.insecure_channel(server.target) as channel:
        for revision, reply in expected.reads.items():
            try:
                found = everything(channel, revision)
            except grpc.RpcError as error:
                errors.append(f"{error.code().name} {error.details()}")
                continue
            assert found == reply, f"wrong data served at revision {revision}"
    return (DETECT, "; ".join(errors)) if errors else (RECOVER, "")


def digests(data: Path) -> dict[str, str]:
    """What every file holds; RocksDB's own text logs and lock files apart."""
    skipped = re.compile(r"LOG(\.old\.\d+)?|LOCK")
    return {
        str(path.relative_to(data)): hashlib.blake2b(path.read_bytes()).hexdigest()
        for path in sorted(data.rglob("*"))
        if path.is_file() and not path.is_symlink() and not skipped.fullmatch(path.name)
    }
