"""`python -m bench.sizes`: what more keys cost, on etcd and Chainfire: memory, restart, put rate.

For every number of keys each system has a server of its own with as many keys (16 bytes, values of
256), which has done what loading them left to do in the background. All of them run while puts are
measured in turn, so that a slow minute hits every size; the rate is compared with the same system's
at its smallest size, within each round. Then each is killed with -9 while puts go on, and started
again: counted are the seconds to the first linearizable answer, process start included, the best of
three.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench import contest, table
from bench.contest import numbers
from bench.puts import Puts, fill
from chainfire.cli.bench_load import Shape
from tests.servers import Kind, Server

RESTARTS = 3
SETTLE_SECONDS_MAX = 120.0
IDLE_SHARE = 0.1  # of a core, over a second: nothing is merged any more
HEAD = ("server", "keys", "loaded in s", "anonymous MiB", "peak MiB", "puts/s", "of smallest")
HEAD += ("CPU µs per put", "restart s", "anonymous MiB after")


@dataclass(slots=True)
class Subject:
    server: Server
    shape: Shape
    fill_seconds: float = 0.0
    memory: dict[str, int] = field(default_factory=dict)
    rates: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    restarts: list[float] = field(default_factory=list)
    memory_after: dict[str, int] = field(default_factory=dict)

    def load(self) -> None:
        self.fill_seconds = fill(self.server, self.shape)
        give_up = time.monotonic() + SETTLE_SECONDS_MAX
        while time.monotonic() < give_up:
            cpu = self.server.cpu_seconds()
            time.sleep(1.0)
            if self.server.cpu_seconds() - cpu < IDLE_SHARE:
                break

    def measure(self, seconds: float) -> None:
        with Puts(self.server, self.shape) as puts:
            cpu = self.server.cpu_seconds()
            time.sleep(seconds)
            course = puts.end()
            self.rates.append(course.per_second)
            self.cpu_us.append((self.server.cpu_seconds() - cpu) / course.answers * 1e6)

    def look_at_memory(self) -> None:
        self.memory = self.server.memory_bytes()

    def restart(self) -> None:
        for _ in range(RESTARTS):
            with Puts(self.server, self.shape):
                self.server.kill()
            self.server.spawn()
            self.restarts.append(self.server.wait_ready(120))
        self.memory_after = self.server.memory_bytes()

    def cells(self, smallest: Subject) -> list[str]:
        shares = [rate / base for rate, base in zip(self.rates, smallest.rates, strict=True)]
        return [
            *(self.server.kind.name, f"{self.shape.keys:,}", f"{self.fill_seconds:.0f}"),
            *(_mib(self.memory["RssAnon"]), _mib(self.memory["VmHWM"])),
            *(f"{median(self.rates):,.0f}", f"{median(shares):.2f}", f"{median(self.cpu_us):.0f}"),
            *(f"{min(self.restarts):.2f}", _mib(self.memory_after["RssAnon"])),
        ]


def main() -> int:
    options = _options()
    peer, ours = contest.systems(options.peer)
    kinds = [kind for kind in (peer, ours) if options.only in ("", kind.name.split()[0])]
    with ExitStack() as stack:
        scratch = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="sizes-", dir=options.directory))
        )
        subjects = [
            _subject(stack, kind, keys, scratch) for keys in sorted(options.keys) for kind in kinds
        ]
        for _ in range(options.rounds):
            for subject in subjects:
                subject.measure(options.seconds)
        for subject in subjects:
            subject.look_at_memory()
            subject.restart()
        smallest = {s.server.kind: s for s in reversed(subjects)}
        cells = [subject.cells(smallest[subject.server.kind]) for subject in subjects]
        machine = table.machine(scratch)
    print(f"\n{machine}\n{table.aligned([list(HEAD), *cells])}")
    if options.markdown:
        rule = ["---", *["---:"] * (len(HEAD) - 1)]
        text = table.piped([list(HEAD), rule, *cells])
        contest.write("sizes", machine, text, options.markdown)
    return 0


def _subject(stack: ExitStack, kind: Kind, keys: int, scratch: Path) -> Subject:
    flags = ("--quota-backend-bytes=17179869184",)
    directory = scratch / f"{kind.name.split()[0]}-{keys}"
    server = stack.enter_context(Server(kind, directory, flags=flags))
    subject = Subject(server, Shape(keys=keys, key_size=16, value_size=256, prefix="bench/"))
    subject.load()
    print(f"{kind.name}: {keys:,} keys in {subject.fill_seconds:.0f} s", flush=True)
    return subject


def _mib(size: int) -> str:
    return f"{size >> 20:,}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.sizes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--keys", type=numbers, default=[10_000, 1_000_000], help="N[,N…]")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run")
    parser.add_argument("--only", choices=("", "etcd", "chainfire"), default="")
    contest.add_options(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
