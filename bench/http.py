"""HTTP beside gRPC: what a request costs as JSON, and what HTTP load does to gRPC's latency.

    python -m bench.http [--seconds 4] [--rounds 5]

Both load the same member in turn with the same request, a linearizable read of one key, on as
many connections with one request in flight each, because HTTP/1.1 has no more. What is compared
is the server's CPU per request and the ratio of rates within a round. Then gRPC at a fixed rate,
alone and with HTTP load beside it, in turn; p99 counts from when a call was due.
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
HTTP_RATE = 200
HTTP_CONNECTIONS = 4


@dataclass(frozen=True, slots=True)
class Cost:
    per_second: float
    cpu_us: float


def load(server: Server, *, is_json: bool, clients: int, seconds: float, scratch: Path) -> Cost:
    body = scratch / "body"
    body.write_bytes(b'{"key":"Zm9v"}' if is_json else frame(b"\x0a\x03foo"))
    kind = "json" if is_json else "grpc"
    command = [
        *("h2load", f"--duration={round(seconds * 1000)}ms", f"--clients={clients}"),
        *(f"--data={body}", f"--header=content-type: application/{kind}"),
        *(["--h1"] if is_json else ["--max-concurrent-streams=1", "--header=te: trailers"]),
        f"{server.url}{JSON_PATH if is_json else GRPC_PATH}",
    ]
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


def beside(server: Server, seconds: float, scratch: Path) -> tuple[float, float]:
    """gRPC's p99 alone, and with HTTP beside it."""
    alone = grpc_p99_ms(server, seconds)
    body = scratch / "body"
    body.write_bytes(b'{"key":"Zm9v"}')
    http = subprocess.Popen(
        [
            *("h2load", "--h1", f"--duration={round(seconds) + 30}", f"--data={body}"),
            *(f"--clients={HTTP_CONNECTIONS}", f"--rps={HTTP_RATE // HTTP_CONNECTIONS}"),
            f"{server.url}{JSON_PATH}",
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        return alone, grpc_p99_ms(server, seconds)
    finally:
        http.kill()
        http.wait()


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
            moved = [beside(server, arguments.seconds, scratch) for _ in range(arguments.rounds)]
            ratios = [two / one for one, two in moved]
            print(
                f"gRPC at {GRPC_RATE}/s: p99 {statistics.median(one for one, _ in moved):.2f} ms"
                f" alone, {statistics.median(two for _, two in moved):.2f} ms with HTTP at"
                f" {HTTP_RATE}/s beside it: × {_spread(ratios)}"
            )


def _spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.1f} ({min(ratios):.1f}–{max(ratios):.1f})"


if __name__ == "__main__":
    main()
