"""Chunk by chunk through two servers until the first difference.

After every chunk the whole store is read at the newest and some older revisions, so that a
difference that no random read happened to touch is found near its cause.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chainfire.proto import kv_pb2, maintenance_pb2
from tests.compat.differential.calls import METHODS, Answer, Request, one_line
from tests.compat.differential.canon import same
from tests.compat.differential.driver import Driver, ServerGone
from tests.compat.differential.generate import Generator, Point
from tests.servers import Kind, Server

CHUNK = 500
MEMORY_DISK = Path("/dev/shm")
FAST_START = ("--election-timeout=100", "--heartbeat-interval=20")


@dataclass(slots=True)
class Difference:
    """Two answers that do not mean the same; `history` ends with the request that got them."""

    history: list[Request]
    names: tuple[str, str]
    answers: tuple[Answer, Answer]
    replies: list[Answer] = field(default_factory=list)  # the first server's, of the last chunk

    def text(self) -> str:
        request = self.history[-1]
        lines = [f"request {request.text()}"]
        for name, answer in zip(self.names, self.answers, strict=True):
            lines.append(f"  {name:12} {show(request, answer)}")
        return "\n".join(lines)


@dataclass(slots=True)
class Totals:
    requests: int = 0
    errors: int = 0
    by_method: dict[str, int] = field(default_factory=dict)
    by_error: dict[str, int] = field(default_factory=dict)


def show(request: Request, answer: Answer) -> str:
    if answer.code:
        return f"code {answer.code}: {answer.error}"
    return "{ " + one_line(METHODS[request.method].reply_type.FromString(answer.body)) + " }"


@contextlib.contextmanager
def fresh_pair(kinds: tuple[Kind, Kind]) -> Iterator[tuple[Server, Server]]:
    """Both servers, empty, on a memory disk where there is one."""
    base = MEMORY_DISK if MEMORY_DISK.is_dir() else None
    directory = Path(tempfile.mkdtemp(prefix="chainfire-differential-", dir=base))
    pair = tuple(Server(kind, directory / str(i), FAST_START) for i, kind in enumerate(kinds))
    try:
        for server in pair:
            server.spawn()
        for server in pair:
            server.wait_ready()
        yield pair[0], pair[1]
    finally:
        for server in pair:
            server.kill()
        shutil.rmtree(directory, ignore_errors=True)


def compare_chunk(
    drivers: tuple[Driver, Driver],
    kinds: tuple[Kind, Kind],
    history: list[Request],
    chunk: Sequence[Request],
    totals: Totals | None = None,
) -> tuple[Difference | None, list[Answer]]:
    """Send to both; the first difference, and the first server's answers."""
    for driver in drivers:
        driver.begin(chunk)
    results: list[list[Answer]] = []
    names = (kinds[0].name, kinds[1].name)
    oldest = min(kinds[0].version, kinds[1].version)
    for driver, name in zip(drivers, names, strict=True):
        try:
            results.append(driver.finish())
        except ServerGone as gone:
            dead = Answer(-1, f"{name} gone: {gone.text}", b"")
            alive = Answer(-2, "(not looked at)", b"")
            until = [*history, *chunk[: gone.position + 1]]
            return Difference(until, names, (dead, alive)), []
    for i, (request, first, second) in enumerate(zip(chunk, *results, strict=True)):
        if totals is not None:
            _count(totals, request, first)
        if not same(request, first, second, oldest):
            found = [*history, *chunk[: i + 1]]
            return Difference(found, names, (first, second), results[0][: i + 1]), results[0]
    return None, results[0]


def _count(totals: Totals, request: Request, answer: Answer) -> None:
    totals.requests += 1
    totals.by_method[request.method] = totals.by_method.get(request.method, 0) + 1
    if answer.code:
        totals.errors += 1
        text = answer.error if not request.broken else "(undecodable)"
        totals.by_error[text] = totals.by_error.get(text, 0) + 1


def after_chunk(at: Point, seed: int) -> list[Request]:
    """Reads of everything there is, now and in the past."""
    rng = random.Random(seed)
    oldest, newest = max(at.compacted, 1), max(at.revision, 1)
    revisions = {0, oldest, newest, *(rng.randint(oldest, newest) for _ in range(6))}
    everything = [
        kv_pb2.RangeRequest(key=b"\x00", range_end=b"\x00", revision=r) for r in sorted(revisions)
    ]
    reads = [Request("Range", m.SerializeToString(deterministic=True)) for m in everything]
    return [*reads, Request("HashKV", maintenance_pb2.HashKVRequest().SerializeToString())]


def point_after(answers: Sequence[Answer]) -> Point:
    """Where the store stands, from the answers to `after_chunk`."""
    state = maintenance_pb2.HashKVResponse.FromString(answers[-1].body)
    return Point(state.header.revision, max(state.compact_revision, 0))


def find_difference(
    kinds: tuple[Kind, Kind],
    seed: int,
    count: int,
    progress: Callable[[Totals, Point], None] = lambda _totals, _at: None,
    fresh_after: int = 200_000,
) -> tuple[Difference | None, Totals]:
    """Up to `count` generated requests; servers are replaced by empty ones from time to time."""
    totals = Totals()
    generator = Generator(seed)
    while totals.requests < count:
        with (
            fresh_pair(kinds) as pair,
            Driver(pair[0].target) as one,
            Driver(pair[1].target) as two,
        ):
            history: list[Request] = []
            at = Point()
            while totals.requests < count and len(history) < fresh_after:
                chunk = generator.chunk(min(CHUNK, count - totals.requests), at)
                for part, counted in ((chunk, totals), (after_chunk(at, totals.requests), None)):
                    difference, answers = compare_chunk((one, two), kinds, history, part, counted)
                    if difference is not None:
                        return difference, totals
                    history += part
                at = point_after(answers)
                progress(totals, at)
    return None, totals
