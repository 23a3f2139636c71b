"""`python -m bench.stalls`: does long work stop small puts? etcd and Chainfire side by side.

While puts go on, once at a fixed rate (open loop) and once with 100 in flight that follow each
other at once (closed loop), the server is given one piece of long work:

    range       one answer with every key (266 MB by default), read by `chainfire bench`
    compaction  of revisions that were written for it, physical, by etcdctl
    defragment  by etcdctl
    snapshot    `etcdctl snapshot save`, into memory, as from another machine
    own-disk    the same onto the filesystem that the server syncs

Before each, the same puts run without it. Compared are p99 and the longest time without any answer.
What the work sets off may outlast its answer (Chainfire defragments behind it): watched are at
least `--seconds` from its begin.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import contest, table
from bench.contest import WrongAnswer, some_of
from bench.puts import Course, Puts, fill, overwrite
from chainfire.cli.bench_load import Shape
from tests.servers import Kind, Server

TOOL_SECONDS_MAX = 600.0
HEAD = ("work", "puts", "server", "took s", "per s", "p99 ms before", "during", "ratio")
HEAD += ("silence ms before", "during")


@dataclass(frozen=True, slots=True)
class Result:
    work: str
    loop: str
    server: str
    took_seconds: float  # the work, until its answer
    before: Course
    during: Course

    def cells(self) -> list[str]:
        before, during = self.before, self.during
        return [
            *(self.work, self.loop, self.server, f"{self.took_seconds:.1f}"),
            *(f"{during.per_second:,.0f}", f"{before.p99_ms:.1f}", f"{during.p99_ms:.1f}"),
            f"{during.p99_ms / before.p99_ms:.1f}",
            *(f"{before.silence_ms:.0f}", f"{during.silence_ms:.0f}"),
        ]


@dataclass(frozen=True, slots=True)
class Subject:
    """A server with its keys."""

    server: Server
    shape: Shape
    etcdctl: str
    scratch: Path
    revisions: int  # that a compaction removes

    def tool(self, *arguments: str) -> str:
        """What etcdctl says. Raises WrongAnswer."""
        command = [self.etcdctl, f"--endpoints={self.server.url}", *arguments]
        return _output([*command, f"--command-timeout={TOOL_SECONDS_MAX:.0f}s"])

    def nothing(self) -> None:
        pass

    def read_all(self) -> None:
        shape = self.shape
        command = [sys.executable, "-m", "chainfire", "bench", "range", "--json", "--no-fill"]
        command += [f"--endpoints={self.server.target}", f"--keys={shape.keys}"]
        command += [f"--span={shape.keys}", "--in-flight=1", "--total=1", "--warm-up=0s"]
        (run,) = json.loads(_output(command))["runs"]
        size = run["operations"]["range"]["reply_bytes"]
        if run["answers"] != 1 or size < shape.keys * (shape.key_size + shape.value_size):
            raise WrongAnswer(f"{self.server.kind.name}: a range of {size:,} bytes: {run}")

    def write_revisions(self) -> None:
        self.compact()
        overwrite(self.server, self.shape, self.revisions)

    def compact(self) -> None:
        (status,) = json.loads(self.tool("endpoint", "status", "--write-out=json"))
        revision = status["Status"]["header"]["revision"]
        self.tool("compaction", "--physical", str(revision))

    def defragment(self) -> None:
        self.tool("defrag")

    def save(self) -> None:
        with tempfile.TemporaryDirectory(prefix="stalls-", dir="/dev/shm") as elsewhere:
            self.tool("snapshot", "save", str(Path(elsewhere) / "snapshot"))

    def save_onto_own_disk(self) -> None:
        path = self.scratch / "snapshot"
        self.tool("snapshot", "save", str(path))
        path.unlink()


WORKS: dict[str, tuple[Callable[[Subject], None], Callable[[Subject], None]]] = {
    "range": (Subject.nothing, Subject.read_all),
    "compaction": (Subject.write_revisions, Subject.compact),
    "defragment": (Subject.nothing, Subject.defragment),
    "snapshot": (Subject.nothing, Subject.save),
    "own-disk": (Subject.nothing, Subject.save_onto_own_disk),
}


def main() -> int:
    options = _options()
    peer, ours = contest.systems(options.peer)
    etcdctl = shutil.which("etcdctl", path="/usr/bin:/usr/local/bin")
    if etcdctl is None:
        print("cannot measure: etcdctl (Debian: etcd-client) is missing")
        return 2
    kinds = [kind for kind in (peer, ours) if options.only in ("", kind.name.split()[0])]
    with tempfile.TemporaryDirectory(prefix="stalls-", dir=options.directory) as made:
        results = [
            result for kind in kinds for result in measure(kind, etcdctl, Path(made), options)
        ]
        results.sort(key=lambda result: (list(WORKS).index(result.work), result.loop))
        cells = [result.cells() for result in results]
        machine = table.machine(Path(made))
    print(f"\n{machine}\n{table.aligned([list(HEAD), *cells])}")
    if options.markdown:
        rule = ["---", "---", "---", *["---:"] * (len(HEAD) - 3)]
        text = table.piped([list(HEAD), rule, *cells])
        contest.write("stalls", machine, text, options.markdown)
    return 0


def measure(
    kind: Kind, etcdctl: str, scratch: Path, options: argparse.Namespace
) -> Sequence[Result]:
    """All works under all loads on a server of this kind."""
    shape = Shape(keys=options.keys, key_size=16, value_size=256, prefix="bench/")
    results = []
    flags = () if kind.is_chainfire else ("--quota-backend-bytes=8589934592",)
    with Server(kind, scratch / kind.name.split()[0], flags=flags) as server:
        subject = Subject(server, shape, etcdctl, scratch, options.revisions)
        seconds = fill(server, shape)
        print(f"{kind.name}: {shape.keys:,} keys in {seconds:.0f} s", flush=True)
        for work in options.works:
            prepare, carry_out = WORKS[work]
            for loop, rate in (("open", options.rate), ("closed", None)):
                if loop not in options.loops:
                    continue
                prepare(subject)
                before = _course(subject, rate, Subject.nothing, options.seconds)[0]
                during, took = _course(subject, rate, carry_out, options.seconds)
                results.append(Result(work, loop, kind.name, took, before, during))
                print(" ".join(map("{:>12}".format, results[-1].cells())), flush=True)
    return results


def _course(
    subject: Subject, rate: float | None, work: Callable[[Subject], None], seconds: float
) -> tuple[Course, float]:
    """The puts, and how long the work took."""
    time.sleep(1.0)  # whatever the last run has left is served
    with Puts(subject.server, subject.shape, rate) as puts:
        begun = time.monotonic()
        work(subject)
        took = time.monotonic() - begun
        time.sleep(max(0.0, begun + seconds - time.monotonic()))
        return puts.end(), took


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=TOOL_SECONDS_MAX
    )
    if done.returncode:
        raise WrongAnswer(f"{shlex.join(command)}: {done.stderr.strip()}")
    return done.stdout


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.stalls",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--keys", type=int, default=925_000, help="of 16 bytes; values of 256")
    parser.add_argument("--revisions", type=int, default=500_000, help="that a compaction removes")
    parser.add_argument("--rate", type=float, default=4000.0, help="puts a second in open loop")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run, at least")
    parser.add_argument("--works", type=some_of(WORKS), default=list(WORKS))
    parser.add_argument("--loops", type=some_of(["open", "closed"]), default=["open", "closed"])
    parser.add_argument("--only", choices=("", "etcd", "chainfire"), default="")
    contest.add_options(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
