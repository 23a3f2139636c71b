"""kill -9 in the middle of a delete of many keys: it goes on after the start, and is done whole."""

from __future__ import annotations

import random
import time
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from chainfire.machine.giant import GIANT_ROWS_MIN
from chainfire.proto import kv_pb2, maintenance_pb2
from chainfire.storage.backend import STATE_FAMILIES
from chainfire.storage.rocks import RocksBackend, RocksOptions
from tests import peers, report
from tests.servers import Server

KEYS = 6 * GIANT_ROWS_MIN
EVERYTHING = kv_pb2.DeleteRangeRequest(key=b"\0", range_end=b"\0").SerializeToString()
COUNT = kv_pb2.RangeRequest(key=b"\0", range_end=b"\0", count_only=True).SerializeToString()
ROUNDS_MAX = 12


@pytest.mark.timeout(180)
def test_a_giant_delete_that_is_killed_in_the_middle_is_done_after_the_start(
    tmp_path: Path,
) -> None:
    server, rng = Server(peers.need_chainfire(), tmp_path / "data"), random.Random(1)
    interrupted = 0
    try:
        for _ in range(ROUNDS_MAX):
            server.start()
            fill(server)
            kill_while_deleting(server, rng.uniform(0.005, 0.15))
            half_done = holds_half_a_delete(server)
            server.start()
            left, revision = count(server)
            assert left in ((0,) if half_done else (0, KEYS))
            server.kill()
            server.start()
            for member in (server, *server.beside):
                assert count(member) == (left, revision)
            assert len({hash_at(member, revision) for member in (server, *server.beside)}) == 1
            server.kill()
            interrupted += half_done
            if interrupted == 2:
                break
    finally:
        server.kill()
    assert interrupted, "no kill landed between two slices: inconclusive"
    report.count("giant deletes killed in the middle", interrupted)


def fill(server: Server) -> None:
    with grpc.insecure_channel(server.target) as channel:
        txn = channel.unary_unary("/etcdserverpb.KV/Txn")
        calls = []
        for first in range(0, KEYS, 100):
            request = kv_pb2.TxnRequest()
            for number in range(first, first + 100):
                put = request.success.add().request_put
                put.key, put.value = b"key%06d" % number, b"value"
            calls.append(txn.future(request.SerializeToString(), timeout=30))
        for call in calls:
            call.result()


def kill_while_deleting(server: Server, after_seconds: float) -> None:
    with grpc.insecure_channel(server.target) as channel:
        delete = channel.unary_unary("/etcdserverpb.KV/DeleteRange").future(EVERYTHING, timeout=30)
        time.sleep(after_seconds)
        server.kill()
        delete.cancel()


def holds_half_a_delete(server: Server) -> bool:
    name = (server.data_dir / "CURRENT").read_text().splitlines()[1]
    path, options = server.data_dir / name, RocksOptions.state(8 << 20)
    with closing(RocksBackend.open_read_only(path, STATE_FAMILIES, options)) as state:
        return state.get("machine", b"giant") is not None


def count(server: Server) -> tuple[int, int]:
    with grpc.insecure_channel(server.target) as channel:
        answer = channel.unary_unary("/etcdserverpb.KV/Range")(COUNT, timeout=30)
    reply = kv_pb2.RangeResponse.FromString(answer)
    return reply.count, reply.header.revision


def hash_at(server: Server, revision: int) -> int:
    request = maintenance_pb2.HashKVRequest(revision=revision)
    with grpc.insecure_channel(server.target) as channel:
        call = channel.unary_unary("/etcdserverpb.Maintenance/HashKV")
        answer = call(request.SerializeToString(), timeout=30)
    return int(maintenance_pb2.HashKVResponse.FromString(answer).hash)
