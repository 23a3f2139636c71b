"""Throughput and latency over time as SVG, alone or on a page. Pure: figures in, text out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from chainfire.cli.bench_figures import Figures, Window

WIDTH, PANEL_HEIGHT = 860, 190
LEFT, RIGHT, TOP, GAP = 80, 24, 40, 50
COLOURS: Final = ("#c2410c", "#1d4ed8", "#15803d", "#7e22ce", "#a16207", "#0f766e")
STYLE: Final = (
    "text{font:12px system-ui,sans-serif;fill:#444}.title{font-size:14px;fill:#111}"
    ".grid{stroke:#ddd}.line{fill:none;stroke-width:1.6}.p99{stroke-dasharray:5 3}"
    ".max{stroke-width:.7;opacity:.6}"
)


@dataclass(frozen=True, slots=True)
class _Scale:
    """From a value to a height; logarithmic where values differ by powers."""

    top: float
    least: float
    most: float
    is_log: bool

    def y(self, value: float) -> float:
        if self.is_log:
            value = math.log10(max(value, self.least) / self.least)
            share = value / math.log10(self.most / self.least)
        else:
            share = value / self.most
        return self.top + PANEL_HEIGHT * (1 - share)

    def ticks(self) -> list[float]:
        if not self.is_log:
            return [self.most * i / 4 for i in range(5)]
        decades = round(math.log10(self.most / self.least))
        return [self.least * 10**i for i in range(decades + 1)]


def svg(runs: Sequence[Figures]) -> str:
    """Two panels for each number in flight, one line for each system."""
    groups = [
        [run for run in runs if run.in_flight == in_flight and run.windows]
        for in_flight in dict.fromkeys(run.in_flight for run in runs)
    ]
    parts: list[str] = []
    top = 0.0
    for group in filter(None, groups):
        parts += _group(group, top)
        top += TOP + 2 * PANEL_HEIGHT + 2 * GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top:.0f}" '
        f'width="{WIDTH}" height="{top:.0f}"><style>{STYLE}</style>'
        f'<rect width="100%" height="100%" fill="#fff"/>' + "".join(parts) + "</svg>\n"
    )


def page(runs: Sequence[Figures], report: str) -> str:
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>chainfire bench</title>"
        "<style>body{font-family:system-ui,sans-serif;margin:2em}pre{font-size:13px}</style>"
        f"<h1>chainfire bench</h1>{svg(runs)}<pre>{escape(report)}</pre></html>\n"
    )


def _group(runs: Sequence[Figures], top: float) -> Iterator[str]:
    seconds = max(run.windows[-1].end for run in runs)
    yield _text(LEFT, top + 18, f"{runs[0].workload}, {runs[0].in_flight} in flight", "title")
    for i, run in enumerate(runs):
        label = f'<tspan fill="{_colour(i)}">━</tspan> {escape(run.system)}'
        yield f'<text x="{LEFT + 230 + 300 * i}" y="{top + 18:.0f}">{label}</text>'
    most = max(window.per_second for run in runs for window in run.windows)
    rates = _Scale(top + TOP, 0.0, _round_up(most), is_log=False)
    yield from _panel(rates, seconds, "answers per second", lambda tick: f"{tick:,.0f}")
    for i, run in enumerate(runs):
        yield _line(run.windows, lambda window: window.per_second, rates, seconds, i, "")
    times = _time_scale(runs, top + TOP + PANEL_HEIGHT + GAP)
    title = "latency, ms: p50 ─  p99 ╌  max thin"
    yield from _panel(times, seconds, title, lambda tick: f"{tick:g}")
    for i, run in enumerate(runs):
        yield _line(run.windows, lambda window: window.p50_ms, times, seconds, i, "p50")
        yield _line(run.windows, lambda window: window.p99_ms, times, seconds, i, "p99")
        yield _line(run.windows, lambda window: window.max_ms, times, seconds, i, "max")


def _time_scale(runs: Sequence[Figures], top: float) -> _Scale:
    answered = [window for run in runs for window in run.windows if window.answered]
    least = min((window.p50_ms for window in answered), default=0.1)
    most = max((window.max_ms for window in answered), default=1.0)
    lower = 10.0 ** math.floor(math.log10(max(least, 1e-3)))
    upper = 10.0 ** math.ceil(math.log10(max(most, 1e-3)))
    return _Scale(top, lower, max(upper, lower * 10), is_log=True)


def _panel(
    scale: _Scale, seconds: float, title: str, show: Callable[[float], str]
) -> Iterator[str]:
    yield _text(LEFT, scale.top - 6, title)
    for tick in scale.ticks():
        y = scale.y(tick)
        yield (
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{show(tick)}</text>'
        )
    for i in range(6):
        at = seconds * i / 5
        x = _x(at, seconds)
        y = scale.top + PANEL_HEIGHT + 16
        yield f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{at:.3g} s</text>'


def _line(
    windows: Sequence[Window],
    value: Callable[[Window], float],
    scale: _Scale,
    seconds: float,
    number: int,
    kind: str,
) -> str:
    points = " ".join(
        f"{_x((window.begin + window.end) / 2, seconds):.1f},{scale.y(value(window)):.1f}"
        for window in windows
    )
    return f'<polyline class="line {kind}" stroke="{_colour(number)}" points="{points}"/>'


def _x(at: float, seconds: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * at / seconds


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    return f'<text class="{kind}" x="{x:.0f}" y="{y:.0f}">{escape(text)}</text>'


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _round_up(value: float) -> float:
    """The next 1, 2, 2.5 or 5 times a power of ten, which four ticks divide well."""
    power = 10.0 ** math.floor(math.log10(max(value, 1.0)))
    return next(step * power for step in (1, 2, 2.5, 4, 5, 8, 10) if step * power >= value)
