"""A disk that fills up, on a small tmpfs: writes are refused, reads and deletes go on.

Mounting needs root; without it the tests are skipped with that word. Each member of a cluster has
such a disk; one of three alone whose disk is full: tests/cluster/test_disks.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from chainfire.proto import kv_pb2
from tests import peers, report
from tests.crash.damage import fill_with
from tests.servers import MEMBERS, Server
from tests.small_disk import mounted

DISK_MIB = 320
VALUE = 100_000
PORTION = 50
NO_SPACE = "etcdserver: mvcc: database space exceeded"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Where the member's data directory is; those of the others have names beside it."""
    with ExitStack() as stack:
        for number in range(2, MEMBERS + 1):
            stack.enter_context(mounted(tmp_path / f"disk-{number}", DISK_MIB))
        yield stack.enter_context(mounted(tmp_path / "disk", DISK_MIB))


@pytest.fixture
def server(disk: Path) -> Iterator[Server]:
    kind = peers.need_chainfire()
    if not kind.is_chainfire:
        pytest.skip("etcd preallocates more than this disk holds")
    with Server(kind, disk) as running:
        yield running


def put(channel: grpc.Channel, key: bytes, value: bytes) -> int:
    body = kv_pb2.PutRequest(key=key, value=value).SerializeToString()
    raw = channel.unary_unary("/etcdserverpb.KV/Put")(body, timeout=20)
    return int(kv_pb2.PutResponse.FromString(raw).header.revision)


def revisions(channel: grpc.Channel) -> dict[bytes, int]:
    request = kv_pb2.RangeRequest(key=b"\x00", range_end=b"\x00", keys_only=True)
    raw = channel.unary_unary("/etcdserverpb.KV/Range")(request.SerializeToString(), timeout=60)
    return {row.key: row.mod_revision for row in kv_pb2.RangeResponse.FromString(raw).kvs}


def fill(channel: grpc.Channel) -> tuple[dict[bytes, int], str]:
    """Put until it is refused: what was acknowledged, and the refusal."""
    acknowledged: dict[bytes, int] = {}
    for number in range(2 * DISK_MIB * 2**20 // VALUE):
        key = b"fill/%06d" % number
        try:
            acknowledged[key] = put(channel, key, os.urandom(VALUE))
        except grpc.RpcError as error:
            return acknowledged, error.details() or ""
    raise AssertionError("more went in than the disk holds")


def delete_in_portions(channel: grpc.Channel, keys: list[bytes]) -> None:
    """As an operator would: some keys, then their history, so that the space comes back."""
    delete = channel.unary_unary("/etcdserverpb.KV/DeleteRange")
    compact = channel.unary_unary("/etcdserverpb.KV/Compact")
    for at in range(0, len(keys), PORTION):
        last = keys[at : at + PORTION][-1]
        request = kv_pb2.DeleteRangeRequest(key=keys[at], range_end=last + b"\0")
        raw = delete(request.SerializeToString(), timeout=60)
        revision = kv_pb2.DeleteRangeResponse.FromString(raw).header.revision
        compaction = kv_pb2.CompactionRequest(revision=revision, physical=True)
        compact(compaction.SerializeToString(), timeout=60)


@pytest.mark.timeout(180)
def test_filling_the_disk_is_refused_before_it_hurts(server: Server) -> None:
    with grpc.insecure_channel(server.target) as channel:
        acknowledged, refusal = fill(channel)
        assert refusal == NO_SPACE
        assert len(acknowledged) * VALUE > DISK_MIB * 2**20 / 10, "it gave up too early"
        assert acknowledged.items() <= revisions(channel).items()
    server.kill()
    server.start()
    with grpc.insecure_channel(server.target) as channel:
        assert acknowledged.items() <= revisions(channel).items()
        delete_in_portions(channel, sorted(acknowledged))
        assert not revisions(channel)
    report.count("full disks", 1)


@pytest.mark.lone  # the others would stop, too, and nobody would start them again
@pytest.mark.timeout(180)
def test_a_disk_filled_by_others_loses_nothing(server: Server, disk: Path) -> None:
    acknowledged: dict[bytes, int] = {}
    with grpc.insecure_channel(server.target) as channel:
        for number in range(50):
            key = b"before/%d" % number
            acknowledged[key] = put(channel, key, b"v")
        glutton = disk / "others"
        fill_with(glutton)
        for number in range(200):
            try:
                acknowledged[b"after/%d" % number] = put(
                    channel, b"after/%d" % number, b"v" * VALUE
                )
            except grpc.RpcError as error:
                refusal = error.details() or ""
                break
        else:
            pytest.fail("nothing was refused on a full disk")
    assert server.process is not None
    if server.process.poll() is None:
        server.kill()
    else:  # it stopped because a write of its log failed: then with words
        assert "Traceback" not in server.log()
        assert "space" in server.log().lower(), server.log() + refusal
    if (log := server.start_or_refusal()) is not None:
        assert "space" in log.lower(), log
        glutton.unlink()
        server.start()
    with grpc.insecure_channel(server.target) as channel:
        assert acknowledged.items() <= revisions(channel).items()
        glutton.unlink(missing_ok=True)
    server.kill()
    server.start()
    with grpc.insecure_channel(server.target) as channel:
        assert acknowledged.items() <= revisions(channel).items()
