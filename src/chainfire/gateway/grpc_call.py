"""A unary call of the portable door; apart from it, because it is compiled with `Call`."""

from __future__ import annotations

import asyncio

from chainfire.api.call import Call, Metadata
from chainfire.api.services import Services
from chainfire.errors import RequestError
from chainfire.gateway.unread import Unread


class GrpcCall(Call):
    """A unary call of grpc.aio: the answer is kept, and a waiting coroutine woken."""

    __slots__ = ("body", "error", "unread", "waiter")

    def __init__(
        self,
        unread: Unread,
        services: Services,
        method: str,
        request: bytes,
        metadata: Metadata,
        deadline: float | None,
    ) -> None:
        super().__init__(services, method, request, metadata, deadline)
        self.unread = unread
        self.body = b""
        self.error: RequestError | None = None
        self.waiter: asyncio.Future[None] | None = None  # set when the answer did not come at once

    def has_room(self) -> bool:
        return self.unread.has_room()

    def send_reply(self, body: bytes) -> None:
        self.body = body
        self._wake()

    def send_error(self, error: RequestError) -> None:
        self.error = error
        self._wake()

    def _wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)
