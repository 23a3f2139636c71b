"""Long answers: bounded in what is made at once, begun when there is room, nobody refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any

from chainfire.api.longreplies import AT_ONCE, FIRST_STEPS, LOOK_AGAIN_SECONDS, LongReplies
from chainfire.errors import Stopped
from chainfire.node.steps import StepRunner, Steps
from tests.node.running import on_loop, until


class Caller:
    def __init__(self, replies: LongReplies, slices: int, *, once: bool = False) -> None:
        self.work: Any = None
        self.finished = False
        self.answer: object = None
        self.room = True
        self.begun = 0
        self.may_end = False
        self._slices = slices
        (replies.run_once if once else replies.run)(self, self._make)

    def _make(self) -> Generator[None, None, bytes]:
        self.begun += 1
        for _ in range(self._slices):
            yield
        while self._slices > FIRST_STEPS and not self.may_end:
            yield
        return b"answer"

    def has_room(self) -> bool:
        return self.room

    def done(self, result: Any) -> None:
        self.finished, self.answer = True, result

    failed = fail = done


def replies_and_waiters(
    is_barred: Callable[[], bool] = lambda: False,
) -> tuple[LongReplies, dict[object, Callable[[], None]]]:
    runner = StepRunner(asyncio.get_running_loop())
    waiters: dict[object, Callable[[], None]] = {}

    def run_steps(work: Any, on_done: Any, on_error: Any) -> Steps:
        return runner.run(work, on_done, on_error)

    return LongReplies(run_steps, waiters, is_barred=is_barred), waiters


@on_loop
async def test_a_short_answer_never_waits() -> None:
    replies, _ = replies_and_waiters()
    long = [Caller(replies, FIRST_STEPS + 1) for _ in range(AT_ONCE + 3)]
    assert Caller(replies, FIRST_STEPS - 1).answer == b"answer"
    assert [caller.answer for caller in long] == [None] * len(long)
    for caller in long:
        caller.may_end = True
    await until(lambda: all(caller.answer == b"answer" for caller in long))


@on_loop
async def test_no_more_than_a_few_are_made_at_once_and_the_others_begin_anew_in_their_order() -> (
    None
):
    replies, _ = replies_and_waiters()
    callers = [Caller(replies, FIRST_STEPS + 1) for _ in range(AT_ONCE + 2)]
    await asyncio.sleep(0)
    assert (replies.under_way, replies.waiting) == (AT_ONCE, 2)
    callers[1].may_end = True
    await until(lambda: callers[AT_ONCE].begun == 2)
    assert (callers[1].answer, callers[AT_ONCE + 1].begun) == (b"answer", 1)
    for caller in callers:
        caller.may_end = True
    await until(lambda: all(caller.finished for caller in callers))
    assert replies.under_way == 0


@on_loop
async def test_who_has_not_read_earlier_answers_waits_and_holds_up_no_other() -> None:
    replies, _ = replies_and_waiters()
    blockers = [Caller(replies, FIRST_STEPS + 1) for _ in range(AT_ONCE)]
    slow, quick = (Caller(replies, FIRST_STEPS + 1) for _ in range(2))
    slow.room = False
    for caller in (*blockers, slow, quick):
        caller.may_end = True
    await until(lambda: quick.finished)
    assert not slow.finished
    slow.room = True
    await until(lambda: slow.answer == b"answer")


@on_loop
async def test_none_begins_anew_while_the_store_may_not_be_read() -> None:
    barred = [True]
    replies, _ = replies_and_waiters(lambda: bool(barred))
    callers = [Caller(replies, FIRST_STEPS + 1) for _ in range(AT_ONCE + 1)]
    for caller in callers:
        caller.may_end = True
    await until(lambda: all(caller.finished for caller in callers[:-1]))
    await asyncio.sleep(2 * LOOK_AGAIN_SECONDS)  # it had looked by then
    assert callers[-1].begun == 1
    barred.clear()
    await until(lambda: callers[-1].answer == b"answer")


@on_loop
async def test_a_wait_ends_with_its_caller_and_with_the_member() -> None:
    replies, waiters = replies_and_waiters()
    callers = [Caller(replies, FIRST_STEPS + 1) for _ in range(AT_ONCE + 2)]
    callers[AT_ONCE].work.cancel()
    assert replies.waiting == 1
    for stop in list(waiters.values()):
        stop()
    assert isinstance(callers[AT_ONCE + 1].answer, Stopped)
    for caller in callers[:AT_ONCE]:
        caller.work.cancel()
    assert (replies.under_way, replies.waiting, waiters) == (0, 0, {})


@on_loop
async def test_what_can_be_made_only_once_begins_when_its_turn_has_come() -> None:
    replies, waiters = replies_and_waiters()
    callers = [Caller(replies, FIRST_STEPS + 1, once=True) for _ in range(AT_ONCE + 2)]
    assert [caller.begun for caller in callers] == [1] * AT_ONCE + [0, 0]
    callers[-1].work.cancel()
    for caller in callers:
        caller.may_end = True
    await until(lambda: all(caller.answer == b"answer" for caller in callers[:-1]))
    assert [caller.begun for caller in callers] == [1] * (AT_ONCE + 1) + [0]
    assert (replies.under_way, replies.waiting, waiters) == (0, 0, {})
