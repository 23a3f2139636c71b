"""From a long history with a difference to the fewest requests that still show one.

Delta debugging (Zeller, Hildebrandt 2002) with fresh servers for every try: first whole requests
in halves, quarters, ...; then inside each request: operations, compares, fields. Bounded in time;
what it has reached by then is reported.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from tests.compat.differential.calls import Request
from tests.compat.differential.driver import Driver
from tests.compat.differential.run import Difference, compare_chunk, fresh_pair
from tests.servers import Kind

Test = Callable[[list[Request]], list[Request] | None]


class Shrinker:
    def __init__(
        self, kinds: tuple[Kind, Kind], seconds: float, log: Callable[[str], None]
    ) -> None:
        self.kinds = kinds
        self.until = time.monotonic() + seconds
        self.log = log
        self.found: Difference | None = None
        self.tries = 0

    def shrink(self, difference: Difference) -> Difference:
        """The smallest difference found in the time; the given one if it does not show again."""
        self.found = difference
        failing = difference.history[-1]
        writes = [r for r in difference.history[:-1] if not r.is_read]
        start = self.shows([*writes, failing]) or self.shows(difference.history)
        if start is None:
            self.log("the difference does not show again with the same requests")
            return difference
        smallest = minimize(start, self.shows, self.out_of_time)
        self.shrink_inside(smallest)
        assert self.found is not None
        return self.found

    def out_of_time(self) -> bool:
        return time.monotonic() > self.until

    def shows(self, history: list[Request]) -> list[Request] | None:
        """The history up to its first difference on fresh servers, or None."""
        self.tries += 1
        with (
            fresh_pair(self.kinds) as pair,
            Driver(pair[0].target) as one,
            Driver(pair[1].target) as two,
        ):
            difference, _ = compare_chunk((one, two), self.kinds, [], history)
        if difference is None:
            return None
        self.found = difference
        self.log(f"try {self.tries}: {len(difference.history)} requests")
        return difference.history

    def shrink_inside(self, history: list[Request]) -> None:
        at = 0
        while at < len(history) and not self.out_of_time():
            if history[at].broken:
                at += 1
                continue
            for smaller in smaller_messages(history[at].message()):
                if self.out_of_time():
                    return
                body = smaller.SerializeToString(deterministic=True)
                candidate = [*history[:at], Request(history[at].method, body), *history[at + 1 :]]
                shown = self.shows(candidate)
                if shown is not None and len(shown) == len(candidate):
                    history = candidate
                    break
            else:
                at += 1


def minimize(history: list[Request], shows: Test, out_of_time: Callable[[], bool]) -> list[Request]:
    """ddmin over all but the last request. `shows` returns the history up to the difference."""
    parts = 2
    while len(history) > 1 and not out_of_time():
        body = len(history) - 1
        size = max(1, (body + parts - 1) // parts)
        for begin in range(0, body, size):
            if out_of_time():
                return history
            shown = shows(history[:begin] + history[min(begin + size, body) :])
            if shown is not None:
                history, parts = shown, max(parts - 1, 2)
                break
        else:
            if size == 1:
                return history
            parts = min(parts * 2, body)
    return history


def smaller_messages(message: Any) -> Iterator[Any]:
    """Copies with one thing less: an element of a list, a field, or inside a sub-message."""
    for field, value in message.ListFields():
        if field.is_repeated:
            for i in range(len(value)):
                copy = _copy(message)
                del getattr(copy, field.name)[i]
                yield copy
            if field.message_type is not None:
                for i in range(len(value)):
                    for smaller in smaller_messages(value[i]):
                        copy = _copy(message)
                        getattr(copy, field.name)[i].CopyFrom(smaller)
                        yield copy
            continue
        copy = _copy(message)
        copy.ClearField(field.name)
        yield copy
        if field.message_type is not None:
            for smaller in smaller_messages(value):
                copy = _copy(message)
                getattr(copy, field.name).CopyFrom(smaller)
                yield copy


def _copy(message: Any) -> Any:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy
