"""From a long history with a difference to the fewest requests that still show one.

Delta debugging (Zeller, Hildebrandt 2002) with fresh servers for every try. Many requests name
revisions, so that after a rough pass requests are not taken out: plain puts of one key take the
place of those that wrote, and the revisions of the others stay. Then whole requests go, then
operations, compares and fields within them. Bounded in time; what was reached is reported.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from chainfire.proto import kv_pb2
from tests.compat.differential.calls import METHODS, Answer, Request
from tests.compat.differential.driver import Driver
from tests.compat.differential.run import Difference, compare_chunk, fresh_pair
from tests.servers import Kind

PAD = Request("Put", kv_pb2.PutRequest(key=b"pad").SerializeToString())
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
        rough = minimize(start, self.shows, self.out_of_time, parts_max=8)
        padded = minimize(rough, self.shows, self.out_of_time, self.pads_for(rough))
        smallest = minimize(padded, self.shows, self.out_of_time)
        self.shrink_inside(smallest)
        assert self.found is not None
        return self.found

    def pads_for(self, history: list[Request]) -> dict[Request, list[Request]]:
        """What takes a request's place: a pad if it wrote, nothing otherwise."""
        assert self.found is not None
        revision, pads = 1, {}
        for request, answer in zip(history, self.found.replies, strict=True):
            after = revision_of(request, answer) or revision
            pads[request] = [PAD] * (after > revision)
            revision = after
        return pads

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
            if history[at].broken or history[at] == PAD:
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


def minimize(
    history: list[Request],
    shows: Test,
    out_of_time: Callable[[], bool],
    instead: Mapping[Request, list[Request]] | None = None,
    parts_max: int = sys.maxsize,
) -> list[Request]:
    """ddmin over all but the last request. `shows` returns the history up to the difference.

    With `instead`, requests are replaced by what it names rather than taken out.
    """
    parts = 2
    while not out_of_time():
        at = [i for i in range(len(history) - 1) if instead is None or history[i] != PAD]
        size = max(1, (len(at) + parts - 1) // parts)
        for begin in range(0, len(at), size):
            if out_of_time():
                return history
            taken = set(at[begin : begin + size])
            shown = shows(_without(history, taken, instead or {}))
            if shown is not None:
                history, parts = shown, max(parts - 1, 2)
                break
        else:
            if size == 1 or parts >= parts_max:
                return history
            parts = min(parts * 2, len(at))
    return history


def _without(
    history: list[Request], taken: set[int], instead: Mapping[Request, list[Request]]
) -> list[Request]:
    kept = []
    for i, request in enumerate(history):
        kept += instead.get(request, []) if i in taken else [request]
    return kept


def revision_of(request: Request, answer: Answer) -> int:
    """The revision in the answer's header; 0 for an error."""
    if answer.code:
        return 0
    reply = METHODS[request.method].reply_type.FromString(answer.body)
    return int(reply.header.revision)


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
