"""A million keys: loaded by a bounded program, killed, and all there within a second."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from chainfire.proto import kv_pb2
from tests import peers, report
from tests.servers import Server, etcds

KEYS = 1_000_000
VALUE = b"v" * 256
PER_TXN = 100
TXNS_IN_FLIGHT = 16
PAGE = 500
RESTART_SECONDS = 1.0
CACHE_BYTES = 32 << 20
PROCESS_BYTES = 112 << 20  # the interpreter, its libraries, memtables, one page on its way
OPTIONS = (("grpc.max_receive_message_length", -1),)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def key(number: int) -> bytes:
    return b"big/%08d" % number


async def load(target: str) -> float:
    """Seconds to put all keys, 100 in a txn; at most 16 txns are on their way."""
    begun = time.monotonic()
    numbers = iter(range(0, KEYS, PER_TXN))

    async with grpc.aio.insecure_channel(target) as channel:
        txn = channel.unary_unary("/etcdserverpb.KV/Txn")

        async def worker() -> None:
            for begin in numbers:
                puts = [
                    kv_pb2.RequestOp(request_put=kv_pb2.PutRequest(key=key(i), value=VALUE))
                    for i in range(begin, begin + PER_TXN)
                ]
                await txn(kv_pb2.TxnRequest(success=puts).SerializeToString(), timeout=60)

        await asyncio.gather(*(worker() for _ in range(TXNS_IN_FLIGHT)))
    return time.monotonic() - begun


def call(channel: grpc.Channel, **fields: Any) -> Any:
    request = kv_pb2.RangeRequest(**fields).SerializeToString()
    raw = channel.unary_unary("/etcdserverpb.KV/Range")(request, timeout=120)
    return kv_pb2.RangeResponse.FromString(raw)


def pages(channel: grpc.Channel) -> Iterator[Any]:
    """As Kubernetes lists: 500 at a time, at one revision, with the exact count each time."""
    at, revision = b"big/", 0
    while True:
        page = call(channel, key=at, range_end=b"big0", limit=PAGE, revision=revision)
        yield page
        if not page.more:
            return
        revision = revision or page.header.revision
        at = page.kvs[-1].key + b"\0"


def time_paging(server: Server, give_up_seconds: float = 600.0) -> float:
    """Seconds to read everything in pages; every count and every key is checked.

    Infinite when it is not done in time: etcd counts every key of the rest for every page.
    """
    seen = 0
    begun = time.monotonic()
    with grpc.insecure_channel(server.target, options=OPTIONS) as channel:
        for page in pages(channel):
            assert page.count == KEYS - seen
            assert page.kvs[0].key == key(seen)
            seen += len(page.kvs)
            if time.monotonic() - begun > give_up_seconds:
                print(f"{server.kind.name} had read {seen} keys after {give_up_seconds:.0f} s")
                return math.inf
    assert seen == KEYS
    return time.monotonic() - begun


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(peers.need_chainfire(), tmp_path_factory.mktemp("big") / "data") as server:
        print(f"\n{server.kind.name}: loaded in {asyncio.run(load(server.target)):.1f} s")
        yield server


def test_restart_after_kill_answers_within_a_second_with_all_keys(ours: Server) -> None:
    times = []
    for _ in range(3):
        ours.kill()
        ours.spawn()
        begun = time.monotonic()
        ours.wait_ready()
        times.append(time.monotonic() - begun)
        with grpc.insecure_channel(ours.target) as channel:
            assert call(channel, key=b"big/", range_end=b"big0", count_only=True).count == KEYS
            for number in (0, 1, KEYS // 2, KEYS - 1):
                assert call(channel, key=key(number)).kvs[0].value == VALUE
    print(f"first linearizable answer after kill -9: {', '.join(f'{t:.2f} s' for t in times)}")
    report.count("keys there after kill -9", KEYS)
    if ours.kind.is_chainfire:
        assert min(times) < RESTART_SECONDS


def test_paging_a_million_keys_is_not_slower_than_etcd(
    ours: Server, tmp_path_factory: pytest.TempPathFactory
) -> None:
    kind = peers.need_kind(next(iter(etcds()), None), "a real etcd")
    with Server(kind, tmp_path_factory.mktemp("big-peer") / "data") as theirs:
        print(f"\n{kind.name}: loaded in {asyncio.run(load(theirs.target)):.1f} s")
        mine = min(time_paging(ours) for _ in range(2))
        peers_time = time_paging(theirs, give_up_seconds=5 * mine + 10)
        print(f"memory of {kind.name}: {_mib(theirs)}")
    print(f"memory of {ours.kind.name}: {_mib(ours)}")
    print(f"{KEYS} keys in pages of {PAGE}: ours {mine:.1f} s, {kind.name} {peers_time:.1f} s")
    assert mine <= peers_time


def test_memory_does_not_grow_with_the_number_of_keys(ours: Server) -> None:
    """With a small cache, a restart and a full read need a fraction of the data's own size."""
    ours.kill()
    if ours.kind.is_chainfire:
        ours.flags = (f"--cache-bytes={CACHE_BYTES}",)
    ours.start()
    with grpc.insecure_channel(ours.target, options=OPTIONS) as channel:
        for _ in itertools.islice(pages(channel), KEYS // PAGE):
            pass
    print(f"memory of {ours.kind.name} after a restart and a full read: {_mib(ours)}")
    if ours.kind.is_chainfire:
        assert ours.memory_bytes()["RssAnon"] < CACHE_BYTES + PROCESS_BYTES


def _mib(server: Server) -> str:
    return ", ".join(f"{name} {size >> 20} MiB" for name, size in server.memory_bytes().items())
