"""Casts of the native door: one body to many streams, taken apart without the GIL."""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any

import chainfire_native as native

from chainfire.api.counters import ApiCounters, MethodCounters

_TARGET = Struct("<QB")  # call id, length of the prefix


class NativeCaster:
    """`types.Caster` over the door's replies."""

    def __init__(
        self,
        push: Callable[[tuple[Any, ...]], None],
        totals: ApiCounters,
        counters: MethodCounters,
    ) -> None:
        self._push = push
        self._totals = totals
        self._counters = counters  # of the one method that casts

    def target(self, address: int, prefix: bytes) -> bytes:
        return _TARGET.pack(address, len(prefix)) + prefix

    def cast(self, targets: bytes, count: int, body: bytes) -> None:
        self._counters.sent_messages += count
        self._totals.sent_bytes += count * (len(body) - _TARGET.size) + len(targets)
        self._push((0, native.CAST, (targets, body)))
