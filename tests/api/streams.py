"""A Stream for handler tests: requests from a list, replies into one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from chainfire.api.call import Metadata


class ProbeStream:
    peer = ""
    deadline: float | None = None
    metadata: Metadata = ()

    def __init__(self, requests: Sequence[bytes], method: str = "") -> None:
        self.method = method
        self.request = requests[0] if requests else b""
        self.sent: list[bytes] = []
        self._requests = requests

    async def send(self, body: bytes) -> None:
        self.sent.append(body)

    def arrived(self) -> list[bytes]:
        return []

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for body in self._requests:
            yield body
