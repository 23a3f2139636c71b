"""What a coroutine hears of sliced work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any, cast

import pytest

from chainfire.api.awaiting import steps
from chainfire.api.services import NodeFace


class Runner:
    """The part of a node that is asked."""

    def __init__(self) -> None:
        self.cancelled = 0

    def run_steps(
        self,
        work: Generator[None, None, Any],
        on_done: Callable[[Any], None],
        on_error: Callable[[Exception], None],
    ) -> Runner:
        self.done, self.failed = on_done, on_error
        return self

    def cancel(self) -> None:
        self.cancelled += 1


@pytest.mark.parametrize("fails", [False, True])
def test_work_may_end_just_as_its_caller_goes(fails: bool) -> None:
    """Between the cancellation, and when the caller hears of it."""

    async def scene() -> None:
        runner = Runner()
        caller = asyncio.create_task(steps(cast(NodeFace, runner), (_ for _ in ())))
        await asyncio.sleep(0)
        caller.cancel()
        if fails:
            runner.failed(ValueError())
        else:
            runner.done(1)
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert runner.cancelled == 1

    asyncio.run(scene())
