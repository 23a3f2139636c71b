"""How long CPython's garbage collector has stopped everything, at most."""

from __future__ import annotations

import gc
from time import perf_counter


class CollectorPauses:
    """Between `begin` and `end`; both may be called again."""

    def __init__(self) -> None:
        self.seconds_max = 0.0
        self._began = 0.0

    def begin(self) -> None:
        if self._heard not in gc.callbacks:
            gc.callbacks.append(self._heard)

    def end(self) -> None:
        if self._heard in gc.callbacks:
            gc.callbacks.remove(self._heard)

    def _heard(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._began = perf_counter()
        else:
            self.seconds_max = max(self.seconds_max, perf_counter() - self._began)
