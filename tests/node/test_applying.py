"""Who waits for the apply of what was answered? While nobody does, it waits, and serves many."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainfire.command import CommandKind
from chainfire.machine.rows import read_position
from chainfire.node import holding
from chainfire.node.applying import HELD_BYTES_MAX, HELD_MAX, PAGES_AFTER_A_LOOK
from chainfire.proto.kv_pb2 import (
    LINEARIZABLE,
    LOCAL,
    SERIALIZABLE,
    Compare,
    DeleteRangeRequest,
    PutRequest,
    RequestOp,
    TxnRequest,
)
from chainfire.types import DeleteResult, PutResult
from tests.node.cluster import Cluster
from tests.node.running import answered, on_loop, running, until
from tests.node.world import ME, Caller, World

native = pytest.importorskip("chainfire_native", reason="chainfire-native is not installed")

LEVELS = [LINEARIZABLE, SERIALIZABLE, LOCAL]


def leading() -> World:
    """With one put applied: its sender is known."""
    world = World().lead()
    world.put(b"first")
    world.settle()
    return world


def put(world: World, key: bytes = b"k", value: bytes = b"v") -> Caller:
    """Alone in its turn, up to its answer."""
    caller = world.put(key, value)
    world.sync(world.turn())
    return caller


def state_writes(world: World, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    writes: list[object] = []
    write = world.state.write
    monkeypatch.setattr(world.state, "write", lambda batch: (writes.append(batch), write(batch)))
    return writes


def test_answered_puts_are_applied_together_when_time_is_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = leading()
    writes = state_writes(world, monkeypatch)
    callers = [put(world) for _ in range(10)]
    assert [caller.result for caller in callers] == [PutResult(3 + n) for n in range(10)]
    assert world.driver.lags and not world.driver.is_due
    assert world.machine.revision == 2 and not writes
    world.driver.let_go()
    world.turn()
    assert world.machine.revision == 12 and len(writes) == 1
    assert not world.driver.lags


@pytest.mark.parametrize("level", LEVELS)
def test_who_looks_sees_it_and_then_applies_follow_at_once_for_a_while(level: int) -> None:
    world = leading()
    put(world)
    assert world.read(level).may_read and world.machine.revision == 3
    for n in range(PAGES_AFTER_A_LOOK):
        assert put(world).answered and world.driver.is_due and not world.driver.lags
        world.turn()
        assert world.machine.revision == 4 + n
    put(world)
    assert world.driver.lags


@pytest.mark.parametrize("looks", [World.tick, lambda world, _: world.driver.catch_up()])
def test_a_tick_and_whoever_asks_for_it_apply_what_is_held(
    looks: Callable[[World, int], None],
) -> None:
    world = leading()
    put(world)
    looks(world, 100)
    assert world.machine.revision == 3


def test_with_a_watcher_nothing_is_held() -> None:
    world = leading()
    put(world)
    world.machine.keeps_changes = True
    world.turn()
    assert world.machine.revision == 3
    put(world)
    assert not world.driver.lags
    world.turn()
    assert world.machine.revision == 4


def test_so_many_entries_are_held_and_no_more() -> None:
    world = leading()
    for _ in range(HELD_MAX):
        put(world)
        assert world.driver.lags
    put(world)
    assert not world.driver.lags and world.machine.revision == 2
    world.turn()
    assert world.machine.revision == 2 + HELD_MAX + 1


def test_so_many_bytes_are_held_and_no_more() -> None:
    world = leading()
    world.driver.raft.raft.log.applying_bytes_max = 2 * HELD_BYTES_MAX
    for _ in range(3):
        put(world, value=bytes(HELD_BYTES_MAX // 3 - 100))
        assert world.driver.lags
    put(world, value=bytes(1000))
    assert not world.driver.lags


def test_what_raft_hands_out_at_a_time_is_never_all_held() -> None:
    world = leading()
    room = world.driver.raft.raft.log.applying_bytes_max
    callers = [put(world, value=bytes(room // 4)) for _ in range(3)]
    callers += [put(world, value=bytes(room // 2)) for _ in range(10)]
    world.settle()
    assert all(caller.result == PutResult(3 + n) for n, caller in enumerate(callers))


def test_what_is_not_certain_is_applied_with_all_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = leading()
    writes = state_writes(world, monkeypatch)
    for _ in range(3):
        put(world)
    delete = Caller()
    body = DeleteRangeRequest(key=b"k", range_end=b"l").SerializeToString()
    world.driver.propose(CommandKind.DELETE_RANGE, body, delete)
    world.sync(world.turn())
    assert not delete.answered and world.driver.is_due
    world.turn()
    assert delete.result == DeleteResult(revision=6, deleted=1, prevs=[])
    assert len(writes) == 1


def test_while_storage_stalls_nobody_reads_less_than_was_answered() -> None:
    world = leading()
    put(world)
    world.state.stalled = True
    readers = [world.read(level) for level in (LINEARIZABLE, SERIALIZABLE)]
    assert not any(reader.answered for reader in readers)
    assert world.put(b"l").error is not None
    assert world.turn().stalled
    world.state.stalled = False
    world.turn()
    assert all(reader.may_read for reader in readers) and world.machine.revision == 3


def test_what_was_answered_and_not_applied_is_there_after_a_crash() -> None:
    world = leading()
    caller = put(world)
    assert caller.answered and world.driver.lags
    again = World(world.log.crash(0), world.state.crash(0)).lead()
    assert again.machine.revision == 3


def test_followers_hold_what_nobody_there_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()
    leader = cluster.elect()
    leader.put(b"first")
    cluster.settle()
    seen: list[int] = []  # whose applies were put off
    for id_, world in cluster.members.items():
        let_go = world.driver.let_go
        monkeypatch.setattr(
            world.driver, "let_go", lambda id_=id_, go=let_go: (seen.append(id_), go())
        )
    caller = leader.put(b"k")
    cluster.settle()
    assert caller.answered and set(seen) == set(cluster.members)
    assert cluster.all_equal()


# ── whatever comes in between ───────────────────────────────────────────────

KEYS = st.sampled_from([b"a", b"b", b"c"])


def _txn(key: bytes, version: int) -> TxnRequest:
    compare = Compare(result=Compare.EQUAL, target=Compare.VERSION, key=key, version=version)
    put = RequestOp(request_put=PutRequest(key=key, value=b"new"))
    delete = RequestOp(request_delete_range=DeleteRangeRequest(key=key))
    return TxnRequest(compare=[compare], success=[put], failure=[delete])


commands = st.one_of(
    *[st.builds(PutRequest, key=KEYS, value=st.binary(max_size=3)) for _ in range(4)],
    st.builds(DeleteRangeRequest, key=KEYS),
    st.builds(_txn, KEYS, st.integers(0, 2)),
    st.builds(PutRequest, key=KEYS, prev_kv=st.just(True)),
    st.builds(DeleteRangeRequest, key=st.just(b"a"), range_end=st.just(b"c")),
)
KINDS = {
    PutRequest: CommandKind.PUT,
    DeleteRangeRequest: CommandKind.DELETE_RANGE,
    TxnRequest: CommandKind.TXN,
}
STEPS = ["sync", "sync", "turn", "time is up", "look"]
scripts = st.lists(st.one_of(commands, commands, st.sampled_from(STEPS)), max_size=60)


class Script:
    """A script on one member, whose callers are kept."""

    def __init__(self, *, may_hold: bool) -> None:
        self.world = leading()
        self.callers: list[Caller] = []
        self._may_hold = may_hold
        self._sync: int | None = None

    def play(self, step: object) -> None:
        world = self.world
        world.machine.keeps_changes = not self._may_hold
        if isinstance(step, PutRequest | DeleteRangeRequest | TxnRequest):
            self.callers.append(caller := Caller())
            world.driver.propose(KINDS[type(step)], step.SerializeToString(), caller)
        elif step == "look":
            world.read(LOCAL)
            self.check()
        elif step == "time is up":
            world.driver.let_go()
            world.turn()
        else:
            effects = world.turn()
            if step == "sync" and effects.sync is not None:
                world.sync(effects)
                if world.driver.is_due:
                    world.turn()

    def check(self) -> None:
        """A local reader sees what was answered."""
        revisions = [getattr(one.result, "revision", 0) for one in self.callers]
        assert max(revisions, default=0) <= self.world.machine.revision


@settings(max_examples=200, deadline=None)
@given(scripts)
def test_an_apply_that_waits_makes_the_same_of_every_log(steps: list[object]) -> None:
    both = [Script(may_hold=may_hold) for may_hold in (True, False)]
    for script in both:
        for step in steps:
            script.play(step)
        script.world.settle()
        script.check()
    one, other = both
    assert [c.result for c in one.callers] == [c.result for c in other.callers]
    assert one.world.machine.hash == other.world.machine.hash
    for family in ("key_value", "key_history", "revisions"):
        rows = [list(script.world.state.iterate(family)) for script in both]
        assert rows[0] == rows[1]


# ── on the loop ─────────────────────────────────────────────────────────────


@pytest.mark.parametrize("inline", [False, True])
@on_loop
async def test_what_is_held_is_applied_though_nothing_else_happens(inline: bool) -> None:
    world = World()
    async with running(world, inline=inline) as node:
        caller = Caller()
        node.propose(CommandKind.PUT, b"\x0a\x05first", caller)
        await answered(caller)
        await until(lambda: world.machine.members[ME].name)  # its own commands are over
        node._heartbeat.stop()
        for revision in (3, 4):
            caller = Caller()
            node.propose(CommandKind.PUT, b"\x0a\x01k", caller)
            await answered(caller)
            await until(lambda revision=revision: world.machine.revision == revision)
        await until(lambda: node._holding._timer is None)


@on_loop
async def test_what_has_waited_long_enough_is_applied_once_a_sync_is_acknowledged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(holding, "HOLD_SECONDS", 1000)
    world = World()
    async with running(world, inline=False) as node:
        node.propose(CommandKind.PUT, b"\x0a\x05first", first := Caller())
        await answered(first)
        await until(lambda: world.machine.members[ME].name)
        node._heartbeat.stop()
        node.catch_up()
        world.driver._applying._not_held = 0
        node.propose(CommandKind.PUT, b"\x0a\x01k", held := Caller())
        await answered(held)
        assert world.driver.lags and node._holding._timer is not None
        node._holding._is_over = True  # it was that timer
        node.propose(CommandKind.PUT, b"\x0a\x01k", last := Caller())
        await answered(last)
        await until(lambda: world.machine.revision == 4)
        assert node._holding._timer is None


@on_loop
async def test_a_stop_applies_what_is_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(holding, "HOLD_SECONDS", 1000)
    world = World()
    async with running(world, inline=True) as node:
        await answered(first := world.put(b"first"))
        assert first.result is not None
        await until(lambda: world.machine.members[ME].name)
        node._heartbeat.stop()
        caller = Caller()
        node.propose(CommandKind.PUT, b"\x0a\x01k", caller)
        await answered(caller)
        assert world.driver.lags
    assert not node.failed.done() and node.machine.revision == 3
    assert read_position(world.state.crash(0)).revision == 3


@on_loop
async def test_whoever_asks_the_node_sees_what_was_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(holding, "HOLD_SECONDS", 1000)
    world = World()
    async with running(world, inline=True) as node:
        caller = Caller()
        node.propose(CommandKind.PUT, b"\x0a\x05first", caller)
        await answered(caller)
        await until(lambda: world.machine.members[ME].name)
        node._heartbeat.stop()
        looks: list[Callable[[], int]] = [
            lambda: node.machine.revision,
            lambda: node.store.revision,
            lambda: (node.overview.status(), world.machine.revision)[1],
            lambda: (node.overview.statistics(), world.machine.revision)[1],
            lambda: (node.overview.own_report(), world.machine.revision)[1],
            lambda: (node.archive(), world.machine.revision)[1],
        ]
        for look in looks:
            world.driver._applying._not_held = 0
            caller = Caller()
            node.propose(CommandKind.PUT, b"\x0a\x01k", caller)
            await answered(caller)
            assert world.driver.lags
            assert isinstance(caller.result, PutResult)
            assert look() >= caller.result.revision
            assert not world.driver.lags
