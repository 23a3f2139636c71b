"""`python -m bench.run`: etcd and Chainfire side by side, one load after the other, in turn.

Both servers run all the time on the same filesystem; only one is loaded at a moment, and the order
changes from round to round. Before and after each run a real gRPC call proves that the requests
are answered as they should be; revisions and bytes prove that they were answered each time.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from bench import contest, h2load
from bench.contest import WrongAnswer, numbers, some_of
from bench.table import Measured, Row
from chainfire.proto import kv_pb2
from tests.servers import Kind, Server

KEY, VALUE = b"hot", b"v" * 256
WARM_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Load:
    name: str
    path: str
    body: bytes
    writes: bool = False


LOADS = {
    load.name: load
    for load in (
        Load(
            "put",
            "/etcdserverpb.KV/Put",
            kv_pb2.PutRequest(key=KEY, value=VALUE).SerializeToString(),
            writes=True,
        ),
        Load(
            "linearizable range",
            "/etcdserverpb.KV/Range",
            kv_pb2.RangeRequest(key=KEY).SerializeToString(),
        ),
        Load(
            "serializable range",
            "/etcdserverpb.KV/Range",
            kv_pb2.RangeRequest(key=KEY, serializable=True).SerializeToString(),
        ),
    )
}


def main() -> int:
    options = _options()
    found = contest.systems(options.peer)
    if not h2load.installed():
        print("cannot measure: h2load (Debian: nghttp2-client) is missing")
        return 2
    scratch = Path(tempfile.mkdtemp(prefix="chainfire-bench-", dir=options.directory))
    try:
        rows = measure(found, options, scratch)
        note = "CPU µs: server CPU per request, all threads. ratio: Chainfire / etcd, per round."
        contest.report("run", rows, found, scratch, options.markdown, note=note)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return 0


def measure(kinds: tuple[Kind, Kind], options: argparse.Namespace, scratch: Path) -> Sequence[Row]:
    rows = [Row(load, n) for load in options.loads for n in options.in_flight]
    one, two = (Server(kind, scratch / str(i)) for i, kind in enumerate(kinds))
    with one, two:
        for turn, server, row, runs in contest.turns(options.rounds, one, two, rows):
            runs.append(run_once(server, LOADS[row.load], row.in_flight, options, scratch))
            contest.tell(turn, server.kind.name, row, runs[-1])
    return rows


def run_once(
    server: Server, load: Load, in_flight: int, options: argparse.Namespace, scratch: Path
) -> Measured:
    url = server.url + load.path
    with grpc.insecure_channel(server.target) as channel:
        call = channel.unary_unary(load.path)
        seed = channel.unary_unary("/etcdserverpb.KV/Put")
        seed(LOADS["put"].body, timeout=10)
        h2load.run(url, load.body, in_flight, WARM_SECONDS, scratch)
        before = call(load.body, timeout=10)
        cpu = server.cpu_seconds()
        sample = h2load.run(url, load.body, in_flight, options.seconds, scratch)
        cpu = server.cpu_seconds() - cpu
        after = call(load.body, timeout=10)
    _check(server, load, in_flight, sample, before, after)
    return Measured(sample, cpu / sample.done * 1e6)


def _check(
    server: Server, load: Load, in_flight: int, sample: h2load.Sample, before: bytes, after: bytes
) -> None:
    if load.writes:
        first = kv_pb2.PutResponse.FromString(before).header.revision
        last = kv_pb2.PutResponse.FromString(after).header.revision
        written = last - first - 1  # `after` is itself a put
        # h2load leaves what is on its way when its time is over, and so did the warm-up.
        if not sample.done <= written <= sample.done + 2 * in_flight:
            raise WrongAnswer(f"{server.kind.name}: {sample.done} answers, {written} puts happened")
        return
    reply = kv_pb2.RangeResponse.FromString(after)
    if [(kv.key, kv.value) for kv in reply.kvs] != [(KEY, VALUE)]:
        raise WrongAnswer(f"{server.kind.name}: {reply}")
    if sample.data_bytes < sample.done * (len(after) + 5) * 0.99:
        raise WrongAnswer(
            f"{server.kind.name}: {sample.data_bytes} bytes for {sample.done} answers of "
            f"{len(after)} bytes"
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run (default 3)")
    parser.add_argument("--in-flight", type=numbers, default=[1, 100, 500])
    parser.add_argument(
        "--loads", type=some_of(LOADS), default=list(LOADS), help="put,linearizable range"
    )
    contest.add_options(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
