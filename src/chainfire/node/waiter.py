"""A call to the node that a coroutine can wait for."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from chainfire.errors import RequestError
from chainfire.types import Result

T = TypeVar("T")


class Waiter:
    """A ReadPending, or Pending."""

    def __init__(self) -> None:
        self._outcome: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    @property
    def finished(self) -> bool:
        return self._outcome.done()

    async def done_before(self, end: asyncio.Future[T]) -> bool:
        """Whether it is done, or may be read; not if it was refused, or the end came first."""
        await asyncio.wait((self._outcome, end), return_when=asyncio.FIRST_COMPLETED)
        return self.finished and self._outcome.result()

    def ready(self) -> None:
        self._outcome.set_result(True)

    def done(self, result: Result) -> None:
        self._outcome.set_result(True)

    def refused(self, error: RequestError) -> None:
        self._outcome.set_result(False)
