"""Who is right before whom in a line (api.claims): one walk along it answers all who ask meanwhile.

Of a thousand that come together, each would walk past all the others; and each walk has a few
milliseconds at once, so that together they would keep all else waiting.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from chainfire.mvcc import rows
from chainfire.mvcc.read import ROWS_PER_SLICE, Steps, range_steps
from chainfire.mvcc.store import Mvcc
from chainfire.proto.kv_pb2 import RangeRequest

_KEYSPACE: Final = 0
Bounds = tuple[bytes, bytes]  # key and range end of all claims to a name


@dataclass(slots=True)
class Line:
    """As it was at the revision, in its order."""

    bounds: Bounds
    revision: int
    created: list[int] = field(default_factory=list)  # when each key was
    keys: list[bytes] = field(default_factory=list)


def line_steps(store: Mvcc, bounds: Bounds) -> Steps[Line]:
    request = RangeRequest(
        key=bounds[0],
        range_end=bounds[1],
        sort_target=RangeRequest.CREATE,
        sort_order=RangeRequest.ASCEND,
        keys_only=True,
    )
    found = yield from range_steps(store.view, store, _KEYSPACE, request)
    line = Line(bounds, found.revision)
    for at, row in enumerate(found.rows, 1):
        kv = rows.decode(row)
        line.created.append(kv.create_revision)
        line.keys.append(kv.key)
        if at % ROWS_PER_SLICE == 0:
            yield
    return line


class Lines:
    """Of one member. The line that was read last is kept as long as anybody asks."""

    def __init__(self) -> None:
        self._walk = asyncio.Lock()
        self._asking = 0
        self._line: Line | None = None

    async def right_before(
        self, bounds: Bounds, created: int, asked_at: int, read: Callable[[], Awaitable[Line]]
    ) -> bytes | None:
        """The youngest key of the line that is older; None if there is none.

        As the line was at the revision `asked_at`, or later; `read` reads it, as it is by then.
        """
        self._asking += 1
        try:
            async with self._walk:
                line = self._line
                if line is None or line.bounds != bounds or line.revision < asked_at:
                    line = self._line = await read()
                at = bisect_left(line.created, created)
                return line.keys[at - 1] if at else None
        finally:
            self._asking -= 1
            if not self._asking:  # but others may be about to
                asyncio.get_running_loop().call_soon(self._forget)

    def _forget(self) -> None:
        if not self._asking:
            self._line = None
