"""Who hears at once how far the log is committed, and who a little later."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from chainfire.node.commits import FLOW_SECONDS, WAIT_SECONDS
from chainfire.node.driver import Driver
from chainfire.node.effects import Effects
from chainfire.node.frames import Frame
from chainfire.raft.messages import Message, MessageType
from tests.node.cluster import Cluster, Packet


@contextmanager
def without_waits(cluster: Cluster) -> Iterator[None]:
    """The time after which the rest is told does not come."""
    tells = {world.driver: world.driver.remind for world in cluster.members.values()}

    def never() -> float:
        return 0.0

    for driver in tells:
        driver.remind = never  # type: ignore[method-assign]
    yield
    for driver, tell in tells.items():
        driver.remind = tell  # type: ignore[method-assign]


def committed(driver: Driver) -> int:
    return driver.raft.raft.log.committed


def test_who_forwarded_a_command_hears_at_once_that_it_is_committed() -> None:
    cluster = Cluster()
    cluster.elect()
    frames: list[tuple[int, Frame]] = []

    def spy(packet: Packet) -> list[Packet]:
        frames.append((packet.to, packet.frame))
        return [packet]

    cluster.network = spy
    with without_waits(cluster):
        put = cluster.members[2].put(b"k")
        for _ in range(20):
            cluster.step()
    assert put.result is not None
    assert committed(cluster.members[2].driver) == committed(cluster.members[1].driver)
    assert committed(cluster.members[3].driver) < committed(cluster.members[1].driver)
    told = [to for to, frame in frames if isinstance(frame, Message) and frame.quiet]
    assert told == [2]


def test_the_others_hear_a_little_later_or_with_the_next_entries() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    leader.put(b"k")
    cluster.settle()
    assert cluster.all_equal()

    with without_waits(cluster):
        for key in (b"a", b"b"):
            leader.put(key)
            for _ in range(20):
                cluster.step()
    behind = {committed(leader.driver) - committed(world.driver) for world in cluster.followers}
    assert behind == {1}  # the last one


def test_where_one_put_follows_the_other_the_next_one_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = Cluster()
    leader = cluster.elect()
    turn = leader.driver.turn
    waits: list[float] = []

    def spy(now_ms: int = 0) -> Effects:
        effects = turn(now_ms)
        if effects.remind_after:
            waits.append(effects.remind_after)
        return effects

    monkeypatch.setattr(leader.driver, "turn", spy)
    for now_ms in (1000, 1004, 1008, 1100):
        leader.driver.begin(now_ms)
        leader.put(b"k")
        cluster.settle()
    assert waits == [WAIT_SECONDS, FLOW_SECONDS, FLOW_SECONDS, WAIT_SECONDS]
    assert cluster.all_equal()


def test_a_reminder_between_a_commit_and_its_turn_keeps_nobody_waiting() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    held: list[Packet] = []

    def hold(packet: Packet) -> list[Packet]:
        frame = packet.frame
        if isinstance(frame, Message) and frame.type is MessageType.APPEND_REPLY:
            held.append(packet)
            return []
        return [packet]

    with without_waits(cluster):
        leader.put(b"first")
        for _ in range(20):
            cluster.step()
        cluster.network = hold
        cluster.members[2].put(b"k")
        for _ in range(20):
            cluster.step()
    assert leader.driver.received(held[0].sender, [held[0].frame])  # committed, a turn is due
    leader.driver.remind()
    frames = leader.turn().frames[2]
    assert [frame.commit for frame in frames if isinstance(frame, Message) and frame.quiet] == [
        committed(leader.driver)
    ]


def test_an_answer_that_changes_nothing_needs_no_turn() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    cluster.held.clear()

    def hold(packet: Packet) -> list[Packet]:
        frame = packet.frame
        if isinstance(frame, Message) and frame.type is MessageType.APPEND_REPLY:
            cluster.held.append(packet)
            return []
        return [packet]

    cluster.network = hold
    put = leader.put(b"k")
    cluster.settle()
    first, second = cluster.held
    assert put.result is None
    assert leader.driver.received(first.sender, [first.frame])
    cluster.settle()
    assert put.result is not None
    assert not leader.driver.received(second.sender, [second.frame])


def test_a_member_that_is_down_is_not_waited_for() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    cluster.cut = {3}
    leader.put(b"k")
    cluster.settle()  # comes to an end
    assert committed(cluster.members[2].driver) == committed(leader.driver)


def test_a_commit_that_was_told_and_lost_comes_with_a_heartbeat() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    cluster.network = lambda packet: (
        [] if isinstance(packet.frame, Message) and packet.frame.quiet else [packet]
    )
    leader.put(b"k")
    cluster.settle()
    assert committed(cluster.members[2].driver) < committed(leader.driver)
    cluster.run(1)
    assert cluster.all_equal()
