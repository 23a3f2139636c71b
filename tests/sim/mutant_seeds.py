"""Run by `hunt` on a patched copy of the source: seed after seed until one is broken, those
first that promise most.

    python mutant_seeds.py FIRST COUNT SECONDS < [[file, line], …]

One JSON object on standard output: which seed was broken and how, and how many
were run. If none was: which one was the first to reach a patched line.
"""

from __future__ import annotations

import json
import sys
from math import log2
from types import CodeType, FrameType
from typing import Any

REACH_SEEDS = 60


class Reach:
    """Whether a line of some files is ever executed. Slow, until it is."""

    def __init__(self, lines: set[tuple[str, int]]) -> None:
        self._lines = lines
        self._files = {path for path, _ in lines}
        self._holds: dict[CodeType, bool] = {}
        self.reached = False

    def start(self) -> None:
        if not self.reached:
            sys.settrace(self._on_call)

    def _on_call(self, frame: FrameType, event: str, arg: Any) -> Any:
        code = frame.f_code
        if code.co_filename not in self._files:
            return None
        holds = self._holds.get(code)
        if holds is None:
            lines = {line for _, _, line in code.co_lines() if line is not None}
            holds = any((code.co_filename, line) in self._lines for line in lines)
            self._holds[code] = holds
        return self._on_line if holds else None

    def _on_line(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "line" and (frame.f_code.co_filename, frame.f_lineno) in self._lines:
            self.reached = True
            sys.settrace(None)
        return None if self.reached else self._on_line


def main() -> None:
    first, count, seconds = map(int, sys.argv[1:])
    lines = {(path, line) for path, line in json.load(sys.stdin)}
    from chainfire.sim.run import run_shape
    from chainfire.sim.shape import PLOTS, RARE_FAULTS, RARER_FAULTS, Shape, draw

    aimed = {*RARE_FAULTS, *RARER_FAULTS, *PLOTS}

    def dullness(shape: Shape) -> float:
        """A dozen faults promise most, those most that aim at something: a cluster that is hit
        all the time does nothing."""
        off = abs(log2(shape.strikes_per_minute * seconds / 60 / 12))
        return off + (shape.members < 3) - 0.3 * len(aimed & {*shape.faults})

    shapes = [draw(seed, seconds=seconds) for seed in range(first, first + count)]
    said: dict[str, Any] = {"broken": None, "what": "", "reached": None, "seeds": count}
    shapes.sort(key=dullness)
    for tried, shape in enumerate(shapes, 1):
        outcome = run_shape(shape)
        if outcome.broken:
            said |= {"broken": shape.seed, "what": outcome.broken[:300], "seeds": tried}
            break
        if sys.stderr.isatty():
            print(f"\r  {tried} of {count} seeds ", end="", file=sys.stderr)
    reach = Reach(lines)
    for shape in shapes[: REACH_SEEDS if said["broken"] is None else 0]:
        reach.start()
        run_shape(shape)
        if reach.reached:
            said["reached"] = shape.seed
            break
    print(json.dumps(said))


if __name__ == "__main__":
    main()
