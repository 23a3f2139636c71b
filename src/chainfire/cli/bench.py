"""The runs of `chainfire bench`: the native generator (native/src/load) driven and watched.

A run is filled, warmed up, measured and drained; the CPU time of the server is read when the
measured time begins and ends. Ctrl-C ends a run with the figures so far; a second one ends the
program.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import unquote

import chainfire_native as native
import click

from chainfire.cli.bench_figures import (
    Answers,
    Failure,
    Figures,
    Histogram,
    Told,
    Window,
    code_name,
)
from chainfire.cli.bench_load import (
    FILLS,
    WATCH_PATH,
    WORKLOADS,
    Audience,
    Template,
    put,
    watch_request,
)
from chainfire.cli.bench_options import Task
from chainfire.cli.bench_servers import cpu_seconds
from chainfire.cli.bench_systems import WAIT_SECONDS, System

FILL_IN_FLIGHT: Final = 200
WINDOWS_MAX: Final = 400  # of a run whose length is known
CPU_SECONDS_MIN: Final = 0.1  # the kernel counts in hundredths
FAILURES: Final = {
    native.LOAD_BROKEN: "broken connection",
    native.LOAD_HTTP: "HTTP status",
    native.LOAD_NO_STATUS: "no gRPC status",
    native.LOAD_UNANSWERED: "unanswered at the end",
}


@dataclass(slots=True)
class Bench:
    """Runs one task; `tell` is given a line of progress now and then, and "" at the end."""

    task: Task
    tell: Callable[[str], None]
    _was_interrupted: bool = field(default=False, init=False)

    def fill(self, system: System) -> None:
        """Write every key or lease once. Raises KeyboardInterrupt, ClickException."""
        shape = self.task.shape
        templates = FILLS.get(self.task.workload, put)(shape)
        load = self._start(system, templates, FILL_IN_FLIGHT, total=shape.keys, sequential=True)
        self._watch(load, f"filling {system.name}", frozenset())
        if self._was_interrupted:
            raise KeyboardInterrupt
        failures = _failures(load.outcome())
        if failures:
            raise click.ClickException(f"cannot fill {system.name}: {failures[0]}")

    def grant(self, system: System) -> None:
        """The lease of the keys, where they have one. Raises ChainfireError."""
        shape = self.task.shape
        if shape.is_leased:
            with system.client() as client:
                client.grant(shape.ttl_seconds, lease=shape.lease_base)

    def measure(self, system: System, in_flight: int) -> Figures:
        task = self.task
        revision = system.revision()
        templates = WORKLOADS[task.workload](task.shape)
        load = self._start(
            system,
            templates,
            in_flight,
            rate=task.rate,
            total=task.total,
            duration_seconds=task.seconds,
            warm_up_seconds=task.warm_up,
            window_seconds=max(0.1, (task.seconds or 0) / WINDOWS_MAX),
            sequential=task.workload == "delete",
            audience=self._audience(),
        )
        cpu = self._watch(load, f"{task.workload} on {system.name}", system.pids)
        figures = self._figures(system, in_flight, templates, load, cpu)
        return replace(figures, revisions=system.revision() - revision)

    def _audience(self) -> native.LoadAudience | None:
        audience = self.task.audience
        if audience is None:
            return None
        return native.LoadAudience(
            WATCH_PATH,
            watch_request(self.task.shape),
            watchers=audience.watchers,
            streams=audience.streams,
            connections=audience.connections,
        )

    def _start(
        self, system: System, templates: Sequence[Template], in_flight: int, **how: Any
    ) -> native.Load:
        operations = [
            native.LoadOperation(
                template.path,
                template.message,
                weight=template.weight,
                is_stream=template.is_stream,
                keys=template.keys,
                groups=template.groups,
                noise=template.noise,
                expects=template.expects,
            )
            for template in templates
        ]
        shape = self.task.shape
        return native.Load(
            system.targets,
            operations,
            connections=min(self.task.connections, in_flight),
            in_flight=in_flight,
            # A range of several keys never reaches over the last one.
            keys=shape.keys - shape.span + 1,
            key_digits=shape.digits,
            **how,
        )

    def _watch(self, load: native.Load, title: str, pids: Iterable[int]) -> float | None:
        """Until the run is over. Returns the server's CPU time per answer, in microseconds."""
        self._was_interrupted = False
        meter, phase = _Meter(load, pids), ""
        try:
            while phase != "over":
                try:
                    phase = load.wait(WAIT_SECONDS)
                    meter.see(phase)
                    self.tell(f"{title}: {phase}{_progress(load)}")
                except KeyboardInterrupt:
                    if self._was_interrupted:
                        raise
                    self._was_interrupted = True
                    load.stop()
        finally:
            load.stop()
            self.tell("")
        return meter.cpu_us()

    def _figures(
        self,
        system: System,
        in_flight: int,
        templates: Sequence[Template],
        load: native.Load,
        cpu_us: float | None,
    ) -> Figures:
        outcome = load.outcome()
        seconds = outcome.measured_seconds
        figures = Figures(
            system=system.name,
            workload=self.task.workload,
            in_flight=in_flight,
            connections=min(self.task.connections, in_flight),
            rate=self.task.rate,
            seconds=seconds,
            in_time=outcome.in_time,
            answers=tuple(
                _answers(template.name, fine)
                for template, fine in zip(templates, outcome.operations, strict=False)
            ),
            failures=_failures(outcome),
            late=Histogram(outcome.late),
            unsent=outcome.unsent,
            redials=outcome.redials,
            generator_share=outcome.cpu_seconds / seconds if seconds else 0.0,
            server_cpu_us=cpu_us,
            windows=tuple(map(_window, load.windows(0))),
            was_interrupted=self._was_interrupted,
        )
        return _watched(figures, self.task.audience, outcome.heard)


class _Meter:
    """The server's CPU time and the answers, both at the beginning and the end of measuring."""

    def __init__(self, load: native.Load, pids: Iterable[int]) -> None:
        self._load, self._pids = load, pids
        self._begin: tuple[float, int] | None = None
        self._end: tuple[float, int] | None = None

    def see(self, phase: str) -> None:
        if phase == "measuring" and self._begin is None:
            self._begin = self._read()
        elif phase in ("draining", "over") and self._end is None:
            self._end = self._read()

    def _read(self) -> tuple[float, int]:
        return cpu_seconds(self._pids), sum(self._load.counts())

    def cpu_us(self) -> float | None:
        if self._begin is None or self._end is None:
            return None
        cpu, calls = (b - a for a, b in zip(self._begin, self._end, strict=True))
        return cpu / calls * 1e6 if calls and cpu >= CPU_SECONDS_MIN else None


def _failures(outcome: native.LoadOutcome) -> tuple[Failure, ...]:
    return tuple(
        Failure(code, code_name(code, FAILURES), count, unquote(first))
        for code, count, first in outcome.failures
    )


def _answers(name: str, fine: native.LoadFine) -> Answers:
    latencies = Histogram(fine.latencies)
    return Answers(name, fine.answered, fine.empty, fine.reply_bytes, latencies)


def _watched(
    figures: Figures, audience: Audience | None, heard: native.LoadHeard | None
) -> Figures:
    """The same with events as what is counted, where there is an audience."""
    if audience is None or heard is None:
        return figures
    after_ack = Histogram(heard.after_ack)
    return replace(
        figures,
        in_time=heard.in_time,
        answers=(_answers("event", heard.events),),
        beside=(Answers("after ack", after_ack.count, 0, 0, after_ack), *figures.answers),
        audience=audience,
        told=Told(
            lost=heard.lost,
            duplicated=heard.duplicated,
            misordered=heard.misordered,
            foreign=heard.foreign,
        ),
    )


def _window(window: native.LoadWindow) -> Window:
    return Window(
        window.begin_seconds,
        window.end_seconds,
        window.answered,
        window.failed,
        window.p50_seconds * 1e3,
        window.p99_seconds * 1e3,
        window.max_seconds * 1e3,
        window.silence_seconds * 1e3,
    )


def _progress(load: native.Load) -> str:
    """What the second before the last window's end was like."""
    windows = [_window(window) for window in load.windows(0)[-10:]]
    recent = [window for window in windows if window.end > windows[-1].end - 1]
    if not recent:
        return ""
    answered, failed = load.counts()
    rate = sum(window.answered for window in recent) / (recent[-1].end - recent[0].begin)
    return (
        f" {recent[-1].end:.0f} s  {rate:,.0f}/s  p50 {recent[-1].p50_ms:.2f} ms  "
        f"p99 {recent[-1].p99_ms:.2f} ms  {answered:,} answers, {failed:,} errors"
    )


class Line:
    """A line that is written over; only where a person looks at it."""

    def __init__(self) -> None:
        self._is_seen = sys.stderr.isatty()
        self._last = 0.0

    def __call__(self, text: str) -> None:
        now = time.monotonic()
        if not self._is_seen or (text and now - self._last < WAIT_SECONDS):
            return
        self._last = now
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()
