"""`python -m bench.cluster`: three members of etcd and of Chainfire side by side, on loopback.

Both clusters run all the time; one of them is loaded at a moment, at its leader or at a follower,
by the generator of `chainfire bench` with many keys. The order changes from round to round. Every
run is held to the counts that the generator itself makes: no error, no empty answer, as many
revisions as puts. CPU is that of all three members: with the cores of one machine for all of them
it is what limits the rate. Of mixed loads, the times are those of the reads.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from bench import contest
from bench.contest import WrongAnswer, numbers, some_of
from bench.table import Measured, Row
from chainfire.cli.bench import Bench
from chainfire.cli.bench_figures import Figures
from chainfire.cli.bench_options import Task, task_of
from chainfire.cli.bench_systems import System
from tests.clusters import Cluster, Member
from tests.servers import Kind

LOADS = {
    "put": ("put", "linearizable"),
    "linearizable range": ("range", "linearizable"),
    "serializable range": ("range", "serializable"),
    "mixed 80/20": ("mixed", "linearizable"),
}
TARGETS = ("leader", "follower")
WARM_UP_SECONDS = 0.5


def main() -> int:
    options = _options()
    peer, ours = found = contest.systems(options.peer)
    places = {f"{load} at {at}": (load, at) for load in options.loads for at in options.at}
    rows = [Row(name, n) for name in places for n in options.in_flight]
    scratch = Path(tempfile.mkdtemp(prefix="chainfire-bench-", dir=options.directory))
    try:
        with ExitStack() as stack:
            one, two = (_started(kind, scratch, options, stack) for kind in (peer, ours))
            for turn, cluster, row, runs in contest.turns(options.rounds, one, two, rows):
                runs.append(_run(cluster, row, *places[row.load], options))
                contest.tell(turn, cluster.kind.name, row, runs[-1])
        contest.report(
            "cluster",
            rows,
            found,
            scratch,
            options.markdown,
            note="CPU µs: of all three members per request. ratio: Chainfire / etcd, per round.",
            what=f"three members, {options.keys:,} keys",
        )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return 0


def _started(kind: Kind, scratch: Path, options: argparse.Namespace, stack: ExitStack) -> Cluster:
    directory = scratch / kind.name.replace(" ", "-")
    directory.mkdir()
    cluster = stack.enter_context(Cluster(kind, directory)).start()
    _bench(_task("put", options)).fill(_system(cluster, cluster.leader()))
    return cluster


def _run(cluster: Cluster, row: Row, load: str, at: str, options: argparse.Namespace) -> Measured:
    """`load`, at the leader or at a follower."""
    leader = cluster.leader()
    followers = [member for member in cluster.members if member is not leader]
    member = leader if at == "leader" else followers[0]
    workload, consistency = LOADS[load]
    task = _task(workload, options, consistency)
    figures = _bench(task).measure(_system(cluster, member), row.in_flight)
    if cluster.leader() is not leader:
        raise WrongAnswer(f"{cluster.kind.name}: another leader after {row.load}")
    _check(cluster.kind.name, figures)
    answers = next((a for a in figures.answers if a.name == "range"), figures.answers[0])
    return contest.measured(figures, answers.latencies)


def _task(workload: str, options: argparse.Namespace, consistency: str = "linearizable") -> Task:
    return task_of(
        workload,
        in_flight=None,
        connections=None,
        rate=None,
        duration=options.seconds,
        total=None,
        warm_up=WARM_UP_SECONDS,
        fill=False,
        keys=options.keys,
        key_size=16,
        value_size=256,
        prefix="bench/",
        consistency=consistency,
    )


def _bench(task: Task) -> Bench:
    return Bench(task, lambda _: None)


def _system(cluster: Cluster, member: Member) -> System:
    """What is loaded is one member, whose CPU counts is all of them."""
    pids = frozenset(other.pid for other in cluster.members)
    return replace(System.at(member.url, None), pids=pids)


def _check(name: str, figures: Figures) -> None:
    what = f"{name}, {figures.workload}"
    if figures.failures:
        raise WrongAnswer(f"{what}: {figures.failures[0]}")
    if any(answers.empty for answers in figures.answers):
        raise WrongAnswer(f"{what}: empty answers")
    puts = sum(answers.answered for answers in figures.answers if answers.name == "put")
    if figures.revisions is None or figures.revisions < puts:
        raise WrongAnswer(f"{what}: {puts} puts, {figures.revisions} revisions")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.cluster", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each run (default 2)")
    parser.add_argument("--in-flight", type=numbers, default=[1, 100, 500])
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--loads", type=some_of(LOADS), default=list(LOADS), help=", ".join(LOADS))
    parser.add_argument(
        "--at", type=some_of(TARGETS), default=list(TARGETS), help="leader,follower"
    )
    contest.add_options(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
