"""HTTP beside gRPC: what a request costs as JSON, and what HTTP load does to gRPC's latency.

    python -m bench.http [--seconds 4] [--rounds 5]

Both load the same member in turn with the same request, a linearizable read of one key, on as
many connections with one request in flight each, because HTTP/1.1 has no more. What is compared
is the server's CPU per request and the ratio of rates within a round. Then gRPC at a fixed rate:
alone, and with as many requests beside it by HTTP and by gRPC, in turn; p99 counts from when a
call was due. What more requests do by themselves, HTTP is not to blame for.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.h2load import LoadFailed, frame
from tests.servers import Server, chainfire

GRPC_PATH = "/etcdserverpb.KV/Range"
JSON_PATH = "/v3/kv/range"
GRPC_RATE = 1000
BESIDE_RATE = 200
BESIDE_CONNECTIONS = 4


@dataclass(frozen=True, slots=True)
class Cost:
    per_second: float
    cpu_us: float


def h2load(server: Server, scratch: Path, *more: str, clients: int, is_json: bool) -> list[str]:
    body = scratch / "body"
    body.write_bytes(b'{"key":"Zm9v"}' if is_json else frame(b"\x0a\x03foo"))
    kind = "json" if is_json else "grpc"
    return [
        *("h2load", *more, f"--clients={clients}"),
        *(f"--data={body}", f"--header=content-type: application/{kind}"),
        *(["--h1"] if is_json else ["--max-concurrent-streams=1", "--header=te: trailers"]),
        f"{server.url}{JSON_PATH if is_json else GRPC_PATH}",
    ]


def load(server: Server, *, is_json: bool, clients: int, seconds: float, scratch: Path) -> Cost:
    command = h2load(
        server, scratch, f"--duration={round(seconds * 1000)}ms", clients=clients, is_json=is_json
    )
    before = server.cpu_seconds()
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=True)
    cpu = server.cpu_seconds() - before
    rate = re.search(r"finished in [\d.]+m?s, ([\d.]+) req/s", done.stdout)
    counts = re.search(r"status codes: (\d+) 2xx, 0 3xx, 0 4xx, 0 5xx", done.stdout)
    if rate is None or counts is None:
        raise LoadFailed(done.stdout)
    return Cost(float(rate[1]), cpu / int(counts[1]) * 1e6)


def grpc_p99_ms(server: Server, seconds: float) -> float:
    command = [
        *(sys.executable, "-m", "chainfire", "bench", "range", f"--endpoints={server.url}"),
        *(f"--rate={GRPC_RATE}", f"--duration={seconds}s", "--in-flight=100", "--keys=1000"),
        *("--no-fill", "--json"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)["runs"][0]["latency"]["p99"])


def beside(server: Server, seconds: float, scratch: Path, *, is_json: bool) -> float:
    """gRPC's p99 with more requests beside it."""
    command = h2load(
        server,
        scratch,
        f"--duration={round(seconds) + 30}",
        f"--rps={BESIDE_RATE // BESIDE_CONNECTIONS}",
        clients=BESIDE_CONNECTIONS,
        is_json=is_json,
    )
    more = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        return grpc_p99_ms(server, seconds)
    finally:
        more.kill()
        more.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.http", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    kind = chainfire()
    assert kind is not None
    with tempfile.TemporaryDirectory(prefix="chainfire-bench-") as name:
        scratch = Path(name)
        with Server(kind, scratch / "data") as server:
            for clients in (1, 50):
                pairs = [
                    [
                        load(
                            server,
                            is_json=is_json,
                            clients=clients,
                            seconds=arguments.seconds,
                            scratch=scratch,
                        )
                        for is_json in (False, True)
                    ]
                    for _ in range(arguments.rounds)
                ]
                grpc, http = (statistics.median(pair[i].cpu_us for pair in pairs) for i in (0, 1))
                slower = [one.per_second / two.per_second for one, two in pairs]
                dearer = [two.cpu_us / one.cpu_us for one, two in pairs]
                print(
                    f"{clients:3} connections: gRPC {grpc:.0f} µs of CPU per read, JSON {http:.0f}:"
                    f" × {_spread(dearer)}; rate ÷ {_spread(slower)}",
                    flush=True,
                )
            alone, by_grpc, by_http = zip(
                *(
                    (
                        grpc_p99_ms(server, arguments.seconds),
                        beside(server, arguments.seconds, scratch, is_json=False),
                        beside(server, arguments.seconds, scratch, is_json=True),
                    )
                    for _ in range(arguments.rounds)
                ),
                strict=True,
            )
            print(f"gRPC at {GRPC_RATE}/s: p99 {statistics.median(alone):.2f} ms alone;", end="")
            print(f" with {BESIDE_RATE}/s more beside it", end="")
            for by, p99 in (("gRPC", by_grpc), ("HTTP", by_http)):
                ratios = [two / one for one, two in zip(alone, p99, strict=True)]
                print(f", by {by} {statistics.median(p99):.2f} ms: × {_spread(ratios)}", end="")
            print()


def _spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.1f} ({min(ratios):.1f}–{max(ratios):.1f})"


if __name__ == "__main__":
    main()
