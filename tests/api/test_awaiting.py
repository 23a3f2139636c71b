"""What a coroutine hears of sliced work, and when it may read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any, cast

import pytest

from chainfire.api.awaiting import steps
from chainfire.api.reads import wait_until
from chainfire.api.services import NodeFace
from chainfire.node.reads import ReadPending
from chainfire.proto.kv_pb2 import LINEARIZABLE, LOCAL


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


class Reading:
    """The part of a node that says when the store may be read."""

    def __init__(self) -> None:
        self.is_barred = False
        self.asked: list[tuple[int, int, ReadPending]] = []

    def read(self, level: int, min_revision: int, deadline: object, pending: ReadPending) -> None:
        self.asked.append((level, min_revision, pending))


def test_a_turn_between_the_word_that_one_may_read_and_its_hearer_may_take_it_back() -> None:
    async def scene() -> None:
        node = Reading()
        caller = asyncio.create_task(wait_until(cast(NodeFace, node), LINEARIZABLE, 7))
        await asyncio.sleep(0)
        node.asked[0][2].ready()
        node.is_barred = True
        for _ in range(3):
            await asyncio.sleep(0)
        assert [asked[:2] for asked in node.asked] == [(LINEARIZABLE, 7), (LOCAL, 0)]
        assert not caller.done()
        node.is_barred = False
        node.asked[1][2].ready()
        await caller

    asyncio.run(scene())
