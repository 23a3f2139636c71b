"""Many clients that ask for long answers and do not read them: memory stays bounded."""

from __future__ import annotations

import time
from pathlib import Path

import grpc
import pytest

from chainfire.proto.kv_pb2 import PutRequest, RangeRequest
from tests import http2, peers, report
from tests.servers import Server

PUT, RANGE = "/etcdserverpb.KV/Put", "/etcdserverpb.KV/Range"
KEYS, VALUE = 50, bytes(1 << 20)  # an answer of 50 MiB
CLIENTS = 40  # all together 2 GiB
BYTES_MAX = 1100 << 20  # the process; 256 MiB that nobody reads; four answers, made twice
ALL = RangeRequest(key=b"slow/", range_end=b"slow0").SerializeToString()
OPTIONS = (("grpc.max_receive_message_length", -1),)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_answers_that_nobody_reads_wait_their_turn_and_others_are_served(tmp_path: Path) -> None:
    with (
        Server(peers.need_chainfire(), tmp_path / "data") as server,
        grpc.insecure_channel(server.target, OPTIONS) as channel,
    ):
        put, range_ = channel.unary_unary(PUT), channel.unary_unary(RANGE)
        for number in range(KEYS):
            request = PutRequest(key=b"slow/%03d" % number, value=VALUE)
            put(request.SerializeToString(), timeout=30)
        clients = [http2.connect(server.port) for _ in range(CLIENTS)]
        for client in clients:
            client.sendall(http2.unary(RANGE, ALL))
        most = 0
        until = time.monotonic() + 10
        while time.monotonic() < until:
            most = max(most, server.memory_bytes()["RssAnon"])
            put(PutRequest(key=b"other").SerializeToString(), timeout=30)
        print(f"{CLIENTS} clients that do not read 50 MiB each: {most >> 20} MiB anonymous")
        assert most < BYTES_MAX
        for client in clients:
            client.close()
        assert len(range_(ALL, timeout=60)) > KEYS << 20

    report.count("answers of 50 MiB that nobody read", CLIENTS)
