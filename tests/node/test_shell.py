"""The member on asyncio: what a turn does to the loop, and every way in which it must stop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator

import pytest

from chainfire.command import CommandKind
from chainfire.errors import (
    Corrupt,
    Damaged,
    DiskFull,
    FatalError,
    InternalFailure,
    RequestError,
    Stalled,
    Stopped,
    SyncFailed,
)
from chainfire.node import ending, shell, upkeep
from chainfire.node.driver import Limits
from chainfire.node.shell import Node
from chainfire.proto.kv_pb2 import LINEARIZABLE, LOCAL, CompactionRequest, PutRequest
from chainfire.raft.messages import Message, MessageType
from chainfire.types import PutResult
from tests.node.running import (
    DEADLINE_SECONDS,
    FakeDisk,
    answered,
    node_of,
    on_loop,
    running,
    until,
)
from tests.node.world import ME, Caller, World


def put(node: Node, key: bytes, value: bytes = b"v") -> Caller:
    caller = Caller()
    body = PutRequest(key=key, value=value).SerializeToString()
    node.propose(CommandKind.PUT, body, caller)
    return caller


def read(node: Node, level: int, min_revision: int = 0) -> Caller:
    caller = Caller()
    node.read(level, min_revision, None, caller)
    return caller


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens each second happens each 10 ms."""
    monkeypatch.setattr(upkeep, "INTERVAL_SECONDS", 0.01)


# ── start and stop ──────────────────────────────────────────────────────────


@pytest.mark.parametrize("inline", [False, True])
@on_loop
async def test_puts_and_reads_go_through_and_a_stop_leaves_all_durable(inline: bool) -> None:
    world, disk = World(), FakeDisk()
    async with running(world, disk, inline=inline) as node:
        puts = [put(node, b"k%d" % number) for number in range(20)]
        await answered(*puts)
        assert [caller.result for caller in puts] == [
            PutResult(revision=2 + number) for number in range(20)
        ]
        assert read(node, LINEARIZABLE).may_read
    assert world.log.unsynced_batches == world.state.unsynced_batches == 0
    assert world.log_store.state_durable == world.machine.applied_index
    assert disk.witness_syncs and not node.failed.done()
    assert isinstance(put(node, b"late").error, Stopped)
    await node.aclose()


@on_loop
async def test_whoever_is_alone_is_answered_without_a_look_at_the_loop() -> None:
    world = World()
    async with running(world, FakeDisk(), inline=True) as node:
        await answered(put(node, b"first"))
        alone = put(node, b"alone")
        node.take_turn()
        assert alone.result == PutResult(revision=3)
        syncs = world.log.statistics().sync_count
        node.take_turn()
        await answered(put(node, b"last"))  # the turn that had been due for the one before is not
        assert world.log.statistics().sync_count == syncs + 1


class CountingOutlet:
    """Notes what was answered and applied whenever answers leave."""

    def __init__(self, caller: Caller, world: World) -> None:
        self.seen: list[tuple[bool, int]] = []
        self._caller = caller
        self._world = world
        self._held = False

    def hold(self) -> None:
        assert not self._held
        self._held = True

    def flush(self) -> None:
        assert self._held
        self._held = False
        self.seen.append((self._caller.answered, self._world.machine.revision))


@pytest.mark.parametrize("inline", [False, True])
@on_loop
async def test_an_early_answer_leaves_before_the_machine_applies(inline: bool) -> None:
    pytest.importorskip("chainfire_native", reason="chainfire-native is not installed")
    world = World()
    async with running(world, inline=inline) as node:
        await answered(put(node, b"first"))
        await until(lambda: world.machine.members[ME].name)  # its own commands are over
        caller = put(node, b"k")
        outlet = CountingOutlet(caller, world)
        node.answer_through(outlet)
        await until(lambda: world.machine.revision == 3)
        assert (True, 2) in outlet.seen


@on_loop
async def test_start_returns_only_when_the_last_life_is_applied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = World().lead()
    first.put(b"k")
    first.settle()
    world = World(first.log.crash(0), first.state.crash(0))
    may_sync = threading.Event()
    sync = world.log.sync

    def slow_sync() -> None:
        may_sync.wait(DEADLINE_SECONDS)
        sync()

    monkeypatch.setattr(world.log, "sync", slow_sync)
    monkeypatch.setattr(world.driver._gate.reads, "_timeout_ms", 20)  # many times while it waits
    node = node_of(world)
    starting = asyncio.create_task(node.start(DEADLINE_SECONDS))
    ticks = world.driver._gate._ticks
    await until(lambda: world.driver._gate._ticks > ticks + 5)
    assert not starting.done() and world.machine.revision == 1
    may_sync.set()
    await starting
    assert world.machine.revision == 2
    await node.aclose()


@on_loop
async def test_start_raises_what_stopped_the_member() -> None:
    first = World().lead()
    world = World(first.log.crash(0), first.state.crash(0))
    world.log.fail_next_sync()
    node = node_of(world)
    with pytest.raises(SyncFailed):
        await node.start(DEADLINE_SECONDS)
    await node.aclose()


@on_loop
async def test_start_gives_up_after_its_time() -> None:
    world = World(voters=(1, 2, 3))
    node = node_of(world)
    with pytest.raises(TimeoutError):
        await node.start(0.05)
    await node.aclose()


@on_loop
async def test_a_stop_answers_everybody_who_waits() -> None:
    world = World()
    async with running(world) as node:
        node.run_steps(endless(), lambda _: None, (broken := []).append)
        reader = read(node, LOCAL, min_revision=99)
        compaction = Caller()
        node.when_compacted(99, compaction)
    assert isinstance(reader.error, Stopped) and isinstance(compaction.error, Stopped)
    assert [type(error) for error in broken] == [Stopped]


@on_loop
async def test_a_sync_that_fails_while_stopping_is_told() -> None:
    world = World()
    async with running(world) as node:
        await answered(put(node, b"k"))
        world.state.fail_next_sync()
    assert isinstance(node.failed.result(), SyncFailed)


# ── failures that end the member ────────────────────────────────────────────


@pytest.mark.parametrize("inline", [False, True])
@on_loop
async def test_a_failed_log_sync_acknowledges_nothing_and_stops_the_member(inline: bool) -> None:
    world = World()
    async with running(world, inline=inline) as node:
        await answered(put(node, b"before"))
        world.log.fail_next_sync()
        doubtful, waiting = put(node, b"k"), read(node, LOCAL, min_revision=99)
        assert isinstance(await failure(node), SyncFailed)
        assert isinstance(doubtful.error, Stopped) and isinstance(waiting.error, Stopped)
        assert isinstance(put(node, b"late").error, Stopped)


@on_loop
async def test_a_failed_state_sync_stops_the_member(quick: None) -> None:
    world = World()
    async with running(world) as node:
        world.state.fail_next_sync()
        put(node, b"k")
        assert isinstance(await failure(node), SyncFailed)


@on_loop
async def test_a_failed_witness_sync_stops_the_member(quick: None) -> None:
    disk = FakeDisk()
    async with running(World(), disk) as node:
        disk.witness_fails = True
        assert isinstance(await failure(node), SyncFailed)


@on_loop
async def test_a_full_disk_stops_the_member_with_advice() -> None:
    world = World()
    async with running(world) as node:
        await answered(put(node, b"before"))
        world.log.full = True
        doubtful = put(node, b"k")
        error = await failure(node)
        assert isinstance(error, DiskFull) and ending.DISK_FULL_ADVICE in error.detail
        assert isinstance(doubtful.error, Stopped)


@on_loop
async def test_a_mistake_of_ours_in_a_turn_stops_the_member(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    async with running(world) as node:
        monkeypatch.setattr(world.machine, "apply", lambda entries: 1 // 0)
        doubtful = put(node, b"k")
        error = await failure(node)
        assert isinstance(error, InternalFailure) and "ZeroDivisionError" in error.detail
        assert isinstance(doubtful.error, Stopped)


@on_loop
async def test_after_a_halt_in_the_middle_of_a_turn_nothing_more_is_applied() -> None:
    world = World()
    async with running(world, inline=True) as node:

        class Finder(Caller):
            """Its put is in the store and its second one in the log, when it meets damage."""

            def ready(self) -> None:
                put(node, b"second")
                node.halt(Corrupt("a block"))

        node.read(LOCAL, 2, None, Finder())
        caller = put(node, b"first")
        assert isinstance(await failure(node), Corrupt)
        assert caller.result == PutResult(revision=2)
        for _ in range(10):
            await asyncio.sleep(0.005)
        assert world.machine.revision == 2


async def failure(node: Node) -> FatalError:
    async with asyncio.timeout(DEADLINE_SECONDS):
        return await asyncio.shield(node.failed)


# ── stalls ──────────────────────────────────────────────────────────────────


@on_loop
async def test_a_stalled_log_is_tried_again_with_one_timer_and_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    async with running(world) as node:
        await until(lambda: node.leader_id != 0 and world.driver._writer.unsynced is None)
        world.log.stalled = True
        caller = put(node, b"k")
        retries = 0
        call_later = node._loop.call_later

        def counted(delay: float, *args: object) -> asyncio.TimerHandle:
            nonlocal retries
            retries += delay == shell.STALL_RETRY_SECONDS
            return call_later(delay, *args)  # type: ignore[arg-type]

        monkeypatch.setattr(node._loop, "call_later", counted)
        for _ in range(200):
            read(node, LOCAL, min_revision=99)  # each one brings a turn
            await asyncio.sleep(0)
        assert 0 < retries < 50
        world.log.stalled = False
        await answered(caller)
        assert caller.result == PutResult(revision=2)


@on_loop
async def test_a_stall_of_either_disk_stops_no_upkeep_for_good(quick: None) -> None:
    world = World(limits=Limits())
    async with running(world) as node:
        callers = [put(node, b"k", b"%d" % number) for number in range(300)]
        await answered(*callers)
        compacted, gone = Caller(), Caller()
        request = CompactionRequest(revision=250)
        node.propose(CommandKind.COMPACT, request.SerializeToString(), compacted)
        await answered(compacted)
        node.when_compacted(250, gone)
        world.state.stalled = world.log.stalled = True
        await until(lambda: node._upkeep.compacting._timer is not None)
        syncs = world.state.statistics().sync_count
        await until(lambda: world.state.statistics().sync_count > syncs)
        assert not gone.answered
        world.state.stalled = world.log.stalled = False
        await answered(gone)
        await until(lambda: not world.driver._applying.pages)
        await answered(last := put(node, b"last"))
        assert last.result is not None
        await until(lambda: world.log_store.state_durable == world.machine.applied_index)
        assert not node.failed.done()


# ── upkeep ──────────────────────────────────────────────────────────────────


@on_loop
async def test_the_log_is_cut_behind_what_is_durable_and_what_followers_may_need() -> None:
    world = World()
    async with running(world, state_sync_entries=50, catchup_entries=20) as node:
        for _ in range(10):
            await answered(*[put(node, b"k") for _ in range(40)])
        log = world.log_store
        await until(lambda: log.state_durable > 300)
        assert log.first_index() > 200
        assert log.first_index() - 1 <= log.state_durable
        assert log.first_index() - 1 <= world.machine.applied_index - 20


@on_loop
async def test_large_entries_are_kept_behind_only_as_far_as_memory_keeps_them() -> None:
    world = World()
    world.log_store._tail_bytes_max = 10_000
    async with running(world, state_sync_entries=50, catchup_entries=10_000) as node:
        for _ in range(10):
            await answered(*[put(node, b"k", bytes(1000)) for _ in range(20)])
        log = world.log_store
        await until(lambda: log.state_durable > 190)
        assert log.first_index() > 150
        assert log.first_index() <= log.tail_first_index


@on_loop
async def test_physical_compaction_works_once_and_tells_who_waits() -> None:
    world = World(limits=Limits())
    async with running(world) as node:
        await answered(*[put(node, b"k", b"%d" % number) for number in range(1000)])
        before, waiter, compacted = world.machine.usage(0), Caller(), Caller()
        request = CompactionRequest(revision=900)
        node.propose(CommandKind.COMPACT, request.SerializeToString(), compacted)
        await answered(compacted)
        node.when_compacted(900, waiter)
        assert not waiter.answered
        await answered(waiter)
        assert world.machine.usage(0) < before / 2
        assert world.machine.store.keyspace(0).finished == 900
        written = world.state.statistics().write_bytes
        await asyncio.sleep(0.05)
        assert world.state.statistics().write_bytes == written, "nothing is left to do"
        again = Caller()
        node.when_compacted(900, again)
        assert again.may_read


@on_loop
async def test_a_compaction_to_nothing_is_finished_too() -> None:
    async with running(World()) as node:
        compacted, gone = Caller(), Caller()
        node.propose(CommandKind.COMPACT, CompactionRequest().SerializeToString(), compacted)
        await answered(compacted)
        node.when_compacted(0, gone)
        await answered(gone)


@on_loop
async def test_nudges_pile_up_to_one_more_run_and_delay_no_sync(
    quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, disk, runs, go_on = World(), FakeDisk(), [], threading.Event()

    def compact() -> None:
        runs.append(1)
        go_on.wait(DEADLINE_SECONDS)

    monkeypatch.setattr(world.state, "compact", compact)
    async with running(world, disk) as node:
        for _ in range(50):
            node.nudge_compaction()
        await answered(put(node, b"k"))
        done = disk.witness_syncs
        await until(lambda: disk.witness_syncs > done + 3)
        await until(lambda: world.log_store.state_durable == world.machine.applied_index)
        assert len(runs) == 1
        go_on.set()
        await until(lambda: len(runs) == 2)
        await asyncio.sleep(0.02)
        assert len(runs) == 2


@on_loop
async def test_a_stop_does_not_wait_for_the_engines_compaction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, cancelled = World(), threading.Event()
    monkeypatch.setattr(world.state, "compact", lambda: cancelled.wait(DEADLINE_SECONDS))
    monkeypatch.setattr(world.state, "cancel_compact", cancelled.set)
    async with asyncio.timeout(DEADLINE_SECONDS / 2):
        async with running(world) as node:
            node.nudge_compaction()
    assert cancelled.is_set()


@pytest.mark.parametrize(
    ("error", "stops"), [(DiskFull("full"), False), (Corrupt("a block"), True)]
)
@on_loop
async def test_a_compaction_of_the_engine_that_fails_is_never_silent(
    error: FatalError,
    stops: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()

    def compact() -> None:
        raise error

    monkeypatch.setattr(world.state, "compact", compact)
    async with running(world) as node:
        node.nudge_compaction()
        await until(lambda: node.failed.done() or "no room to give space back" in caplog.text)
        assert node.failed.done() is stops and caplog.records
        if not stops:
            await answered(caller := put(node, b"k"))
            assert caller.result == PutResult(revision=2)


# ── sliced work ─────────────────────────────────────────────────────────────


def endless() -> Generator[None, None, None]:
    while True:
        yield


@on_loop
async def test_sliced_work_takes_turns_and_cancelled_work_is_never_heard_of_again() -> None:
    heard: list[object] = []
    async with running(World()) as node:

        def short() -> Generator[None, None, str]:
            yield
            return "short"

        long = node.run_steps(endless(), heard.append, heard.append)
        node.run_steps(short(), heard.append, heard.append)
        await answered(put(node, b"k"))
        assert heard == ["short"]
        long.cancel()
        await asyncio.sleep(0)
        assert heard == ["short"]


@on_loop
async def test_work_that_fails_tells_its_owner_and_the_rest_goes_on() -> None:
    heard: list[object] = []
    under_way = False  # all three; nothing ends in its first slice, however fast the machine

    def failing() -> Generator[None, None, None]:
        yield from some("")
        raise Stalled("later")

    def some(result: str) -> Generator[None, None, str]:
        while not under_way:
            yield
        return result

    async with running(World()) as node:

        def raises(_: object) -> None:
            heard.append("raised")
            raise RequestError

        node._loop.set_exception_handler(lambda *_: None)
        node.run_steps(failing(), heard.append, lambda error: heard.append(type(error)))
        node.run_steps(some("second"), raises, heard.append)
        node.run_steps(some("third"), heard.append, heard.append)
        under_way = True
        await until(lambda: len(heard) == 3)
        assert heard == [Stalled, "raised", "third"]


@on_loop
async def test_what_a_peer_says_of_lost_entries_stops_the_member() -> None:
    """Not only the connection that brought it."""
    world = World()
    async with running(world) as node:
        beyond = world.log_store.last_index() + 7
        lost = Message(MessageType.HEARTBEAT, ME, 2, term=9, commit=beyond)
        node.peering.received(2, [lost])
        assert isinstance(node.failed.result(), Damaged)
