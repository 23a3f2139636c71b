"""A Stream for handler tests: requests from a list, replies into one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from chainfire.api.call import Metadata, OutletUser
from chainfire.types import Caster


class ProbeStream:
    peer = ""
    deadline: float | None = None
    metadata: Metadata = ()
    caster: Caster | None = None
    address = 0
    room = 1 << 20

    def __init__(self, requests: Sequence[bytes], method: str = "") -> None:
        self.method = method
        self.request = requests[0] if requests else b""
        self.sent: list[bytes] = []
        self._requests = requests

    async def send(self, body: bytes) -> None:
        self.sent.append(body)

    def arrived(self) -> list[bytes]:
        return []

    def post(self, body: bytes) -> None:
        self.sent.append(body)

    async def has_room(self) -> None:
        return

    def tell(self, user: OutletUser) -> None:
        self.user = user

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for body in self._requests:
            yield body
