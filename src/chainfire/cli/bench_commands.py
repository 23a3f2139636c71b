"""`chainfire bench put|range|…|watch|keepalive`: which systems are loaded in which order, and what
is printed of it.

With --compare the two systems take turns, and who is first changes from round to round: what
disturbs the machine for a while then disturbs both.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from chainfire.cli import bench_picture, bench_text
from chainfire.cli.bench_figures import Figures
from chainfire.cli.bench_load import WORKLOADS
from chainfire.cli.bench_options import OPTIONS, Output, task_of
from chainfire.cli.common import TLS_NAMES, Options

if TYPE_CHECKING:
    from chainfire.cli.bench import Bench
    from chainfire.cli.bench_systems import System

EXIT_ERRORS, EXIT_INTERRUPTED = 1, 5
ROUNDS: Final = 3

EPILOG = """\b
Examples:
  chainfire bench put --in-flight=1,100,500
  chainfire bench range --rate=20000 --duration=30s --html=range.html
  chainfire bench mixed --compare=http://127.0.0.1:22379 --rounds=5
  chainfire bench put --endpoints=https://10.0.0.1:2379 --cacert=ca.pem

Figures compare systems only if both are loaded in turn on the same machine: use --compare. Keys
stay in the store, below --prefix; leases end after --ttl. Ctrl-C ends a run and prints what it
measured so far. Exit codes: 1 if calls failed, or events were lost, told twice or out of order; 5
if interrupted."""
TEXTS: Final = {
    "put": "Write one key per call.",
    "range": "Read one key per call, or --span of them.",
    "txn": "Transactions of one compare, which holds, and one put.",
    "mixed": "Ranges and puts, mixed.",
    "delete": "Delete one key per call, each key once, without a warm-up.",
    "watch": "Put to a key, or several, and count the events that watchers are told.",
    "lease-grant": "Grant a lease per call.",
    "keepalive": "Keep leases alive, one stream for each call in flight.",
}
EXAMPLES: Final = {
    "put": "chainfire bench put --keys=1000000 --value-size=1024 --total=1000000",
    "range": "chainfire bench range --consistency=serializable --span=10",
    "txn": "chainfire bench txn --rate=5000 --in-flight=500",
    "mixed": "chainfire bench mixed --reads=95 --json",
    "delete": "chainfire bench delete --keys=200000 --in-flight=100",
    "watch": "chainfire bench watch --watchers=1000 --streams=100 --connections=10 --rate=100",
    "lease-grant": "chainfire bench lease-grant --in-flight=1,100,500",
    "keepalive": "chainfire bench keepalive --leases=10000 --in-flight=100,500",
}
_HELP: Final = {"help_option_names": ["-h", "--help"]}
_Round = list[Figures]  # a run on each system, with the same number in flight


@click.group("bench", epilog=EPILOG, context_settings=_HELP)
def command() -> None:
    """Measure how fast a server is: Chainfire, etcd, or any that speaks etcd's API."""


def _add(workload: str) -> None:
    def run(ctx: click.Context, /, **parameters: Any) -> int:
        return _bench(ctx, workload, **parameters)

    decorated: Any = click.pass_context(run)
    for option in reversed(OPTIONS[workload]):
        decorated = option(decorated)
    epilog = f"\b\nExample:\n  {EXAMPLES[workload]}"
    command.command(workload, help=TEXTS[workload], epilog=epilog, context_settings=_HELP)(
        decorated
    )


for _workload in WORKLOADS:
    _add(_workload)


def _bench(
    ctx: click.Context,
    workload: str,
    *,
    endpoints: str | None,
    compare: str | None,
    rounds: int | None,
    json: bool,
    **parameters: Any,
) -> int:
    files = {name: parameters.pop(name) for name in TLS_NAMES}
    wants_tls = parameters.pop("tls")
    output = Output(json=json, svg=parameters.pop("svg"), html=parameters.pop("html"))
    task = task_of(workload, **parameters)
    if rounds is not None and compare is None:
        raise click.UsageError("--rounds is for --compare")

    from chainfire.wheel import FAULT

    if FAULT is not None:
        raise click.ClickException(f"the load generator is part of the native wheel, but {FAULT}")

    from chainfire.cli.bench import Bench, Line
    from chainfire.cli.bench_systems import System
    from chainfire.client.tls import Tls

    options = Options(ctx, {"endpoints": endpoints, **files})
    tls = options.tls() or (Tls() if wants_tls else None)
    systems = [System.at(options.endpoints, tls)]
    if compare is not None:
        systems.append(System.at(compare, tls))
        if systems[0].endpoints == systems[1].endpoints:
            raise click.UsageError("--compare names the same system as --endpoints")
    done = list(_rounds(Bench(task, Line()), systems, rounds or ROUNDS, quiet=json))
    _print(done, len(systems), output)
    runs = [run for one in done for run in one]
    if any(run.was_interrupted for run in runs):
        return EXIT_INTERRUPTED
    return EXIT_ERRORS if any(run.is_wrong for run in runs) else 0


def _rounds(
    bench: Bench, systems: Sequence[System], rounds: int, *, quiet: bool
) -> Iterator[_Round]:
    """Every round with every number in flight; the last is short if it is interrupted."""
    for system in systems:
        bench.grant(system)
    filled: set[System] = set()
    turns = range(rounds if len(systems) > 1 else 1)
    for turn, in_flight in itertools.product(turns, bench.task.in_flight):
        found: dict[System, Figures] = {}
        for system in systems if turn % 2 == 0 else systems[::-1]:
            if bench.task.fill and (system not in filled or bench.task.workload == "delete"):
                bench.fill(system)
                filled.add(system)
            found[system] = bench.measure(system, in_flight)
            if len(systems) > 1 and not quiet:
                click.echo(bench_text.one_line(found[system], turn + 1))
            if found[system].was_interrupted:
                yield [found[system] for system in systems if system in found]
                return
        yield [found[system] for system in systems]


def _print(done: Sequence[_Round], systems: int, output: Output) -> None:
    pairs = [(one[0], one[1]) for one in done if len(one) > 1]
    runs = [run for one in done for run in one]
    if pairs:
        lines = [*bench_text.comparison(pairs)]
    else:
        lines = [line for run in runs for line in bench_text.report(run)]
    text = "\n".join(lines)
    if output.json:
        click.echo(json.dumps(bench_text.document(runs, pairs), ensure_ascii=False))
    else:
        click.echo(("\n" if systems > 1 else "") + text)
    last = runs[-systems * len({run.in_flight for run in runs}) :]
    if output.svg:
        output.svg.write_text(bench_picture.svg(last))
    if output.html:
        output.html.write_text(bench_picture.page(last, text))
