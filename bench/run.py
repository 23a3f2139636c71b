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


class WrongAnswer(Exception):
    """The server did not do what it was asked; its speed means nothing."""


def main() -> int:
    options = _options()
    found = contest.systems(options.peer)
    if found is None:
        return 2
    peer, ours = found
    if not h2load.installed():
        print("cannot measure: h2load (Debian: nghttp2-client) is missing")
        return 2
    scratch = Path(tempfile.mkdtemp(prefix="chainfire-bench-", dir=options.directory))
    try:
        rows = measure((peer, ours), options, scratch)
        note = "CPU µs: server CPU per request, all threads. ratio: Chainfire / etcd, per round."
        contest.report("run", rows, found, scratch, options.markdown, note=note)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return 0


def measure(kinds: tuple[Kind, Kind], options: argparse.Namespace, scratch: Path) -> Sequence[Row]:
    rows = [Row(load, n) for load in options.loads for n in options.in_flight]
    one, two = (Server(kind, scratch / str(i)) for i, kind in enumerate(kinds))
    with one, two:
        for turn in range(options.rounds):
            for row in rows:
                sides = [(one, row.peer), (two, row.ours)]
                for server, runs in sides if turn % 2 == 0 else reversed(sides):
                    runs.append(run_once(server, LOADS[row.load], row.in_flight, options, scratch))
                    _tell(turn, server, row, runs[-1])
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


def _tell(turn: int, server: Server, row: Row, run: Measured) -> None:
    print(
        f"round {turn + 1}  {row.load:18} {row.in_flight:4} in flight  {server.kind.name:12}"
        f"{run.sample.per_second:10,.0f}/s  p50 {run.sample.p50_ms:7.2f} ms  "
        f"p99 {run.sample.p99_ms:7.2f} ms  {run.cpu_us:6.0f} µs CPU",
        flush=True,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run (default 3)")
    parser.add_argument("--in-flight", type=numbers, default=[1, 100, 500])
    parser.add_argument("--loads", type=_loads, default=list(LOADS), help="put,linearizable range")
    parser.add_argument("--peer", help="minor version of the etcd, such as 3.5; default: newest")
    parser.add_argument("--directory", type=Path, help="where both keep their data")
    parser.add_argument("--markdown", type=Path, help="write the table to this file, too")
    return parser.parse_args()


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _loads(text: str) -> list[str]:
    names = [part.strip() for part in text.split(",")]
    if unknown := set(names) - set(LOADS):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {list(LOADS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
