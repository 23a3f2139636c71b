"""Figures of `chainfire bench` for people and for programs. Pure: figures in, text out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final

from chainfire.cli.bench_figures import QUANTILES, Figures, Histogram, Spread
from chainfire.cli.bench_load import WRITES
from chainfire.cli.table import table

BAR_WIDTH: Final = 40
ROWS_MAX: Final = 16
UNSENT_SHARE_MAX: Final = 0.001  # the last calls of a run may be due and not yet sent
GENERATOR_SHARE_MAX: Final = 0.9
LATE_MS_MAX: Final = 1.0


def heading(figures: Figures) -> str:
    pace = f"{figures.rate:,.0f} per second" if figures.rate else "closed loop"
    connections = f"{figures.connections} connection{'s' * (figures.connections != 1)}"
    if (audience := figures.audience) is not None:
        parts = (
            (audience.watchers, "watcher"),
            (audience.streams, "stream"),
            (audience.connections, "connection"),
        )
        connections = ", ".join(f"{count:,} {what}{'s' * (count != 1)}" for count, what in parts)
    return (
        f"{figures.workload} on {figures.system}: {pace}, "
        f"{figures.in_flight} in flight at most, {connections}"
    )


def report(figures: Figures) -> Iterator[str]:
    yield heading(figures)
    yield ""
    yield (
        f"  {figures.per_second:,.0f} per second: {figures.in_time:,} {_unit(figures)}s "
        f"in {figures.seconds:.2f} s, {_errors(figures)}"
    )
    yield f"  server CPU {_cpu(figures)}; generator {figures.generator_share:.0%} of a core"
    yield ""
    yield from _percentiles(figures)
    yield ""
    yield from bars(figures.latencies)
    for note in notes(figures):
        yield ""
        yield f"  Note: {note}"
    yield ""


def notes(figures: Figures) -> Iterator[str]:
    """What makes the figures doubtful."""
    told = figures.told
    if told is not None and told.faults:
        yield (
            f"events: {told.lost:,} lost, {told.duplicated:,} told twice, {told.misordered:,} out "
            f"of order, {told.foreign:,} of other writers"
        )
    for failure in figures.failures:
        yield f"failed calls: {failure}"
    sought = "lease" if figures.workload == "keepalive" else "key"
    for answers in figures.answers:
        if answers.empty:
            yield (
                f"{answers.empty:,} of {answers.answered:,} {answers.name} answers found no "
                f"{sought}; are all {sought}s there? (--fill)"
            )
    yield from _notes_on_pace(figures)
    if figures.redials:
        yield f"connections were lost and made again: {figures.redials}"
    if figures.revisions is not None and figures.workload in WRITES:
        written = figures.answered - sum(answers.empty for answers in figures.answers)
        if figures.revisions < written:
            yield f"{written:,} writes were answered, the revision rose by {figures.revisions:,}"
    if figures.was_interrupted:
        yield "the run was interrupted"


def _notes_on_pace(figures: Figures) -> Iterator[str]:
    if figures.unsent > max(10, figures.answered * UNSENT_SHARE_MAX):
        yield (
            f"the rate was not reached: {figures.unsent:,} calls were due and never sent, because "
            f"{figures.in_flight} were in flight; the latencies are lower bounds"
        )
    elif (late := figures.late.quantile_ms(0.99)) > LATE_MS_MAX:
        yield (
            f"1 % of the calls were sent {late:.1f} ms late or more, by this machine's load or for "
            "want of --in-flight; the latencies contain it"
        )
    if figures.generator_share > GENERATOR_SHARE_MAX:
        yield "the generator's core was busy: the server may be faster than this"


def _errors(figures: Figures) -> str:
    return f"{figures.failed:,} error{'s' * (figures.failed != 1)}"


def _cpu(figures: Figures) -> str:
    cpu = figures.server_cpu_us
    return "unknown" if cpu is None else f"{cpu:.1f} µs per {_unit(figures, 'call')}"


def _unit(figures: Figures, plain: str = "answer") -> str:
    return plain if figures.told is None else "event"


def _percentiles(figures: Figures) -> Iterator[str]:
    rows = [(answers.name, answers.latencies) for answers in figures.answers]
    if len(rows) > 1:
        rows.append(("all", figures.latencies))
    rows += [(answers.name, answers.latencies) for answers in figures.beside]
    yield "  ms       " + "".join(f"{name:>10}" for name in (*QUANTILES, "mean"))
    for name, latencies in rows:
        values = (*latencies.quantiles_ms().values(), latencies.mean_ms)
        yield f"  {name:<9}" + "".join(f"{value:10.3f}" for value in values)


def bars(histogram: Histogram) -> Iterator[str]:
    """Rows of doubling width."""
    counts: dict[int, int] = {}
    for nanoseconds, count in histogram.buckets:
        row = _row(nanoseconds)
        counts[row] = counts.get(row, 0) + count
    if not counts:
        return
    first, last = min(counts), max(counts)
    last = min(last, first + ROWS_MAX - 1)
    beyond = sum(count for row, count in counts.items() if row > last)
    most = max(counts.values())
    for row in range(first, last + 1):
        count = counts.get(row, 0)
        yield f"  ≤ {2**row / 1000:>10,.3f} ms  {_bar(count, most)}{count / histogram.count:7.2%}"
    if beyond:
        yield f"  above         {'':7}{_bar(beyond, most)}{beyond / histogram.count:7.2%}"


def _row(nanoseconds: int) -> int:
    """The power of two, in microseconds, that holds it."""
    return max(0, (max(nanoseconds - 1, 0) // 1000).bit_length())


def _bar(count: int, most: int) -> str:
    eighths = round(count / most * BAR_WIDTH * 8)
    part = " ▏▎▍▌▋▊▉"[eighths % 8] if eighths % 8 or not count else ""
    if count and not eighths:
        part = "▏"
    return ("█" * (eighths // 8) + part).ljust(BAR_WIDTH + 1)


# ── two systems ─────────────────────────────────────────────────────────────

COLUMNS: Final = ("in flight", "system", "per s", "p50 ms", "p99 ms", "CPU us", "ratio per s")


def one_line(figures: Figures, turn: int) -> str:
    latencies = figures.latencies
    return (
        f"round {turn}  {figures.workload} {figures.in_flight:>5} in flight  {figures.system:32}  "
        f"{figures.per_second:>10,.0f}/s  p50 {latencies.quantile_ms(0.5):8.3f} ms  "
        f"p99 {latencies.quantile_ms(0.99):8.3f} ms  server CPU {_cpu(figures)}, "
        f"{_errors(figures)}"
    )


def comparison(pairs: Sequence[tuple[Figures, Figures]]) -> Iterator[str]:
    """Medians over the rounds; the ratio is first : second, taken within each round."""
    shapes = dict.fromkeys(ours.in_flight for ours, _ in pairs)
    rows = []
    for in_flight in shapes:
        rounds = [pair for pair in pairs if pair[0].in_flight == in_flight]
        ours, theirs = [a for a, _ in rounds], [b for _, b in rounds]
        ratio = _rate_ratio(rounds)
        rows.append([*_figures_row(ours), _spread(ratio)])
        rows.append([*_figures_row(theirs), ""])
    yield f"{pairs[0][0].workload}, {_rounds(pairs, len(shapes))}"
    yield table(COLUMNS, rows)
    doubts = dict.fromkeys(
        f"{figures.system}: {note}" for pair in pairs for figures in pair for note in notes(figures)
    )
    yield from (f"Note: {doubt}" for doubt in doubts)


def _rate_ratio(rounds: Sequence[tuple[Figures, Figures]]) -> Spread | None:
    return Spread.of_ratios([a.per_second for a, _ in rounds], [b.per_second for _, b in rounds])


def _rounds(pairs: Sequence[object], shapes: int) -> str:
    rounds = len(pairs) // shapes
    return "one round" if rounds == 1 else f"medians of {rounds} rounds (least–most)"


def _figures_row(runs: Sequence[Figures]) -> list[str]:
    histograms = [run.latencies for run in runs]
    cpu = Spread.of([run.server_cpu_us for run in runs if run.server_cpu_us is not None])
    rate = Spread.of([run.per_second for run in runs])
    p50 = Spread.of([histogram.quantile_ms(0.5) for histogram in histograms])
    p99 = Spread.of([histogram.quantile_ms(0.99) for histogram in histograms])
    assert rate is not None
    assert p50 is not None
    assert p99 is not None
    return [
        *(str(runs[0].in_flight), runs[0].system, f"{rate.median:,.0f}"),
        *(f"{p50.median:.3f}", f"{p99.median:.3f}"),
        "–" if cpu is None else f"{cpu.median:.1f}",
    ]


def _spread(ratio: Spread | None) -> str:
    if ratio is None:
        return "–"
    return f"{ratio.median:.2f} ({ratio.least:.2f}–{ratio.most:.2f})"


# ── for programs ────────────────────────────────────────────────────────────


def document(runs: Sequence[Figures], pairs: Sequence[tuple[Figures, Figures]]) -> dict[str, Any]:
    """Times are in milliseconds unless the name says otherwise."""
    found: dict[str, Any] = {"runs": [_run(run) for run in runs]}
    if pairs:
        found["ratios_per_second"] = [
            {"in_flight": in_flight, **asdict(ratio)}
            for in_flight, ratio in _ratios(pairs).items()
            if ratio is not None
        ]
    return found


def _ratios(pairs: Sequence[tuple[Figures, Figures]]) -> dict[int, Spread | None]:
    shapes = dict.fromkeys(ours.in_flight for ours, _ in pairs)
    return {
        in_flight: _rate_ratio([pair for pair in pairs if pair[0].in_flight == in_flight])
        for in_flight in shapes
    }


def _run(figures: Figures) -> dict[str, Any]:
    return {
        "system": figures.system,
        "workload": figures.workload,
        "in_flight": figures.in_flight,
        "connections": figures.connections,
        "audience": None if figures.audience is None else asdict(figures.audience),
        "told": None if figures.told is None else asdict(figures.told),
        "rate_asked": figures.rate,
        "seconds": round(figures.seconds, 6),
        "answers": figures.in_time,
        "per_second": round(figures.per_second, 1),
        "errors": [
            {
                "code": failure.code,
                "name": failure.name,
                "count": failure.count,
                "first": failure.first,
            }
            for failure in figures.failures
        ],
        "latency": _latency(figures.latencies),
        "operations": {
            answers.name: {
                "answers": answers.answered,
                "empty": answers.empty,
                "reply_bytes": answers.reply_bytes,
                "latency": _latency(answers.latencies),
            }
            for answers in (*figures.answers, *figures.beside)
        },
        "late": _latency(figures.late),
        "unsent": figures.unsent,
        "redials": figures.redials,
        "revisions": figures.revisions,
        "server_cpu_us": figures.server_cpu_us,
        "generator_share": round(figures.generator_share, 4),
        "interrupted": figures.was_interrupted,
        "windows": [
            {
                "begin_s": round(window.begin, 6),
                "end_s": round(window.end, 6),
                "answers": window.answered,
                "errors": window.failed,
                "p50": window.p50_ms,
                "p99": window.p99_ms,
                "max": window.max_ms,
                "silence": window.silence_ms,
            }
            for window in figures.windows
        ],
        "notes": list(notes(figures)),
    }


def _latency(histogram: Histogram) -> dict[str, float]:
    return {**histogram.quantiles_ms(), "mean": round(histogram.mean_ms, 6)}
