"""One run of h2load with one gRPC request, repeated.

h2load sends the same body again and again: one hot key, and the figures must say so. It knows
HTTP/2, not gRPC: a failed call is a 200 for it, so that the caller must check what happened.
"""

from __future__ import annotations

import re
import shutil
import statistics
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

# In flight -> connections and streams per connection.
SHAPES = {1: (1, 1), 100: (10, 10), 500: (10, 50)}


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run measured; times in milliseconds."""

    done: int
    per_second: float
    p50_ms: float
    p99_ms: float
    data_bytes: int


class LoadFailed(Exception):
    """h2load did not finish cleanly."""


def installed() -> bool:
    return shutil.which("h2load") is not None


def frame(message: bytes) -> bytes:
    """gRPC's length-prefixed message, uncompressed."""
    return b"\0" + struct.pack(">I", len(message)) + message


def run(url: str, message: bytes, in_flight: int, seconds: float, scratch: Path) -> Sample:
    """Load `url` (with the method's path) for some seconds. Raises LoadFailed."""
    body, log = scratch / "body", scratch / "times"
    body.write_bytes(frame(message))
    log.unlink(missing_ok=True)
    clients, streams = SHAPES.get(in_flight) or (1, in_flight)
    command = [
        *("h2load", f"--duration={round(seconds * 1000)}ms", f"--clients={clients}"),
        *(f"--max-concurrent-streams={streams}", f"--data={body}", f"--log-file={log}"),
        *("--header=content-type: application/grpc", "--header=te: trailers", url),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds + 60, check=False
    )
    if done.returncode != 0:
        raise LoadFailed(done.stderr)
    return parse(done.stdout, log)


def parse(output: str, log: Path) -> Sample:
    """Raises LoadFailed when a request failed below gRPC."""
    rate = re.search(r"finished in [\d.]+m?s, ([\d.]+) req/s", output)
    counts = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored", output)
    data = re.search(r"\((\d+)\) data", output)
    if rate is None or counts is None or data is None:
        raise LoadFailed(output)
    done, succeeded, failed, errored = map(int, counts.groups())
    if failed or errored or succeeded != done or done < 100:
        raise LoadFailed(output)
    microseconds = [int(line.rsplit("\t", 1)[1]) for line in log.read_text().splitlines()]
    cuts = statistics.quantiles(microseconds, n=100)
    return Sample(done, float(rate[1]), cuts[49] / 1000, cuts[98] / 1000, int(data[1]))
